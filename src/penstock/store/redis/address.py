"""The address of Redis: how one connects to it, from a URL as everybody writes them."""

import asyncio
import ssl

import msgspec

from penstock.settings.service_url import LOCAL_SCHEMES, ServiceUrl, ServiceUrlError, strange_options
from penstock.store.sql.backend import StoreError

_PORT = 6379
_PLAIN, _TLS_SCHEMES = ("redis", "valkey"), ("rediss", "valkeys")
_TLS_OPTIONS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
_OPTIONS = {"db", "virtual_host", "username", "password", *_TLS_OPTIONS}
_UNCHECKED, _CHECKED = {"none", "cert_none"}, {"required", "cert_required", ""}


class RedisAddress(msgspec.Struct, frozen=True):
    """``path`` is of a socket in the file system; where it is empty, ``host`` and ``port`` count."""

    host: str = "localhost"
    port: int = _PORT
    path: str = ""
    username: str = ""
    password: str = ""
    db: int = 0
    tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"RedisAddress({self.path or self.host})"  # the rest holds the password

    @classmethod
    def parse(cls, url: str) -> "RedisAddress":
        """Read ``redis://[USER:PASSWORD@]HOST[:PORT][/DB]``, ``rediss://`` for TLS, or ``unix://[USER:PASSWORD@]PATH[?db=DB]``.

        ``valkey://``, ``valkeys://`` and ``redis+socket://`` are the same. With TLS ``?ssl_ca_certs=FILE``, ``ssl_certfile``,
        ``ssl_keyfile``, ``ssl_cert_reqs=none`` and ``ssl_check_hostname=false`` are known too. Raises ``StoreError`` without
        the URL's text, which may hold a password.
        """
        try:
            return _address(ServiceUrl.read(url))
        except ServiceUrlError as error:
            raise StoreError(f"the address of Redis cannot be used: {error}") from None

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


def _address(url: ServiceUrl) -> RedisAddress:
    options = dict(url.options)
    local = url.scheme in LOCAL_SCHEMES
    if not local and url.scheme not in (*_PLAIN, *_TLS_SCHEMES):
        raise ServiceUrlError("it begins with redis://, rediss:// or unix://")
    if unknown := options.keys() - _OPTIONS:
        raise ServiceUrlError(f"it has options that are not known: {strange_options(set(unknown))}")
    if url.scheme not in _TLS_SCHEMES and options.keys() & _TLS_OPTIONS:
        raise ServiceUrlError("it has options for TLS, which rediss:// asks for")
    if len(url.hosts) > 1:
        raise ServiceUrlError("it names several hosts: Redis is one server here")
    if local and (url.path in ("", "/") or url.hosts):
        raise ServiceUrlError("it names no socket: unix:///run/redis/redis.sock")
    user = options.get("username") or url.user or ""
    password = options.get("password") or url.password or ""
    if user and not password:
        raise ServiceUrlError(
            "it names a user and no password; a password alone is written redis://:PASSWORD@HOST"
        )
    database = options.get("db") or options.get("virtual_host") or ("" if local else url.path.strip("/"))
    if database and not (database.isascii() and database.isdigit() and len(database) < 10):
        raise ServiceUrlError("see its database, a number such as redis://HOST/0")
    return RedisAddress(
        host=url.host or "localhost",
        port=url.port or _PORT,
        path=url.path if local else "",
        username=user,
        password=password,
        db=int(database or 0),
        tls=_tls(options) if url.scheme in _TLS_SCHEMES else None,
    )


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    asked = options.get("ssl_cert_reqs", "").lower()
    named = options.get("ssl_check_hostname", "true").lower()
    if asked not in _UNCHECKED | _CHECKED:
        raise ServiceUrlError("ssl_cert_reqs is required or none")
    if named not in ("true", "false", "1", "0"):
        raise ServiceUrlError("ssl_check_hostname is true or false")
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if asked in _UNCHECKED or named in ("false", "0"):
            context.check_hostname = False
        if asked in _UNCHECKED:
            context.verify_mode = ssl.CERT_NONE
        if "ssl_certfile" in options:
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"), "")
    except (OSError, ValueError):
        raise ServiceUrlError("a file cannot be read, or is no certificate or key") from None
    return context
