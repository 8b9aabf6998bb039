"""The address of Redis: how one connects to it, from a URL as everybody writes them."""

import asyncio
import ssl
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from penstock.store.sql.backend import StoreError

_PORT = 6379
_OPTIONS = {"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"}


class RedisAddress(msgspec.Struct, frozen=True):
    """``path`` is of a socket in the file system; where it is empty, ``host`` and ``port`` count."""

    host: str = "localhost"
    port: int = _PORT
    path: str = ""
    username: str = ""
    password: str = ""
    db: int = 0
    tls: ssl.SSLContext | None = None

    @classmethod
    def parse(cls, url: str) -> "RedisAddress":
        """Read ``redis://[USER:PASSWORD@]HOST[:PORT][/DB]``, ``rediss://`` for TLS, or ``unix://[USER:PASSWORD@]PATH[?db=DB]``.

        With TLS ``?ssl_ca_certs=FILE``, ``ssl_certfile``, ``ssl_keyfile`` and ``ssl_cert_reqs=none`` are known too. Raises
        ``StoreError`` without the URL's text, which may hold a password.
        """
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, keep_blank_values=True))
            unknown = sorted(options.keys() - _OPTIONS)
            local = parts.scheme == "unix"
            db = options.get("db") or ("" if local else parts.path.strip("/"))
            address = cls(
                host=parts.hostname or "localhost",
                port=parts.port or _PORT,
                path=unquote(parts.path) if local else "",
                username=unquote(parts.username or ""),
                password=unquote(parts.password or ""),
                db=int(db or 0),
                tls=_tls(options) if parts.scheme == "rediss" else None,
            )
        except (ValueError, OSError) as error:
            reason = (
                "a file cannot be read" if isinstance(error, OSError) else "see its port and its database"
            )
            raise StoreError(f"the address of Redis cannot be used: {reason}") from None
        if unknown:
            raise StoreError(f"the address of Redis has options that are not known: {', '.join(unknown)}")
        return address

    def greeting(self) -> list[tuple[str | int, ...]]:
        """The commands with which a connection begins."""
        commands: list[tuple[str | int, ...]] = []
        if self.password:
            commands.append(("AUTH", *((self.username,) if self.username else ()), self.password))
        if self.db:
            commands.append(("SELECT", self.db))
        return commands

    async def connect(self, protocol: asyncio.Protocol) -> None:
        """Open a connection for ``protocol``. Raises ``OSError``."""
        loop = asyncio.get_running_loop()
        if self.path:
            await loop.create_unix_connection(lambda: protocol, self.path)
        else:
            await loop.create_connection(lambda: protocol, self.host, self.port, ssl=self.tls)


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if "ssl_certfile" in options:
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context
