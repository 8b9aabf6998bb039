"""The address of PostgreSQL: how every connection to it is made, from a URL as managed services and libpq write it.

All connections, of SQLAlchemy's pools, of point reads, of the ledger's batches, take what is read here once: drivers read the
same option each in its own way, or not at all.
"""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec

from penstock.settings.service_url import ServiceUrl, ServiceUrlError, strange_options
from penstock.store.sql.backend import StoreError

_SCHEME = re.compile(r"(postgresql|postgres)(\+[a-z0-9_]+)?")
_PORT = 5432
_NO_CHECK, _CHECKED = ("disable", "allow", "prefer"), ("require", "verify-ca", "verify-full")
_TLS = ("sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl")
"""Options that count where TLS is asked for."""
_READ = (
    "host", "port", "user", "password", "dbname", "passfile", "sslmode", "ssl", "requiressl", *_TLS,
    "ssl_min_protocol_version", "ssl_max_protocol_version", "sslnegotiation", "application_name", "connect_timeout",
    "target_session_attrs", "channel_binding", "options", "client_encoding", "gssencmode",
)  # fmt: skip
"""Options that are read, each as libpq means it."""
_LEFT = (
    "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "sslsni",
    "sslcompression", "fallback_application_name", "load_balance_hosts", "prepared_statement_cache_size", "async_fallback",
)  # fmt: skip
"""Options that are taken and change nothing: tuning of other clients' sockets and caches."""
_INSTEAD: dict[str, str] = {
    "service": "write what the service's file says",
    "schema": "write options=-csearch_path%3DNAME",
    "currentSchema": "write options=-csearch_path%3DNAME",
    "pgbouncer": "leave it out; the pooler must keep one server connection for a session",
    "connection_limit": "leave it out; PENSTOCK_DATABASE_POOL is that",
    "pool_timeout": "leave it out; PENSTOCK_DATABASE_LOCK is that",
    "sslaccept": "write sslmode=verify-full or sslmode=require",
}
"""What to write for options of other clients."""
_SWITCH = {"1": True, "true": True, "on": True, "yes": True, "0": False, "false": False, "off": False, "no": False}  # fmt: skip
_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
"""Those that are safe to speak (RFC 8996)."""


class PostgresqlAddress(msgspec.Struct, frozen=True):
    """``hosts`` empty: the usual sockets of this machine, or localhost, at the one port. ``tls`` None: not said, so TLS where
    the server has it; a text is one of libpq's weak modes.
    """

    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    user: str | None
    password: str | None
    database: str
    tls: ssl.SSLContext | str | None
    direct_tls: bool = False
    application: str = "penstock"
    connect: float | None = None
    """Seconds, where the URL says it."""
    options: str = ""
    session: str | None = None
    """What the server must be of several (``target_session_attrs``)."""
    passfile: str | None = None

    def __repr__(self) -> str:
        return f"PostgresqlAddress({self.name})"

    @property
    def name(self) -> str:
        """What messages call the database: without a password, and without options, which may hold one."""
        user = f"{self.user}@" if self.user else ""
        named = zip(self.hosts, self.ports, strict=bool(self.hosts))
        hosts = ",".join(_written(host) + ("" if port == _PORT else f":{port}") for host, port in named)
        return f"postgresql://{user}{hosts}/{self.database}"

    @classmethod
    def parse(cls, text: str) -> "PostgresqlAddress":
        """Read the URL. Raises ``StoreError``, one line that says what to write and repeats nothing that may be secret."""
        try:
            return _address(ServiceUrl.read(text))
        except ServiceUrlError as error:
            raise StoreError(f"the address of PostgreSQL cannot be used: {error}") from None


def is_postgresql_url(text: str) -> bool:
    """Whether a database URL is of PostgreSQL, in one of the spellings."""
    return _SCHEME.fullmatch(text.partition("://")[0].lower()) is not None


def _address(url: ServiceUrl) -> PostgresqlAddress:
    given = dict(url.options)
    for name in given:
        if name in _INSTEAD:
            raise ServiceUrlError(f"{name} is not known here: {_INSTEAD[name]}")
    if strange := given.keys() - {*_READ, *_LEFT}:
        raise ServiceUrlError(f"it has options that are not known here: {strange_options(set(strange))}")
    _refuse_demands(given)
    hosts, ports = _places(url, given)
    database = given.get("dbname") or url.path.removeprefix("/")
    if not database or "/" in database:
        raise ServiceUrlError("it names no database: postgresql://user:password@host/penstock")
    tls = _tls(given)
    direct = given.get("sslnegotiation", "postgres")
    if direct not in ("postgres", "direct") or (direct == "direct" and not isinstance(tls, ssl.SSLContext)):
        raise ServiceUrlError("sslnegotiation is postgres, or direct with sslmode=require or a stricter one")
    return PostgresqlAddress(
        hosts,
        ports,
        given.get("user") or url.user,
        given.get("password") or url.password or None,
        database,
        tls,
        direct == "direct",
        _application(given.get("application_name", "")),
        _seconds(given.get("connect_timeout")),
        given.get("options", "").replace("+", " "),
        given.get("target_session_attrs"),
        given.get("passfile"),
    )


def _refuse_demands(given: Mapping[str, str]) -> None:
    """What the URL asks for and cannot have."""
    if given.get("channel_binding", "prefer") not in ("disable", "prefer"):
        # Managed services write it beside sslmode=require. A checked certificate keeps out the same stranger.
        if _mode(given) != "verify-full":
            raise ServiceUrlError(
                "channel_binding=require cannot be kept: leave it out, and write sslmode=verify-full&sslrootcert=system, "
                "which knows the server by its certificate"
            )
        if given["channel_binding"] != "require":
            raise ServiceUrlError("channel_binding is disable, prefer or require")
    if given.get("gssencmode", "disable") not in ("disable", "allow", "prefer"):
        raise ServiceUrlError("gssencmode=require cannot be kept: leave it out, and ask for TLS by sslmode")
    if given.get("client_encoding", "utf8").lower() not in ("utf8", "utf-8", "unicode", "auto"):
        raise ServiceUrlError("client_encoding can only be utf8")
    if given.get("target_session_attrs", "any") not in ("any", "read-write", "primary"):
        raise ServiceUrlError(
            "target_session_attrs is any, primary or read-write: the service writes to its database"
        )


def _places(url: ServiceUrl, given: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    hosts: tuple[str, ...] = tuple(host for host, _ in url.hosts)
    ports = [port for _, port in url.hosts]
    if given.get("host"):
        if any(hosts):
            raise ServiceUrlError("it names a host before its / and another behind its ?")
        hosts = tuple(given["host"].split(","))
        ports = [None] * len(hosts) if len(ports) != len(hosts) else ports
    if given.get("port"):
        told = given["port"].split(",")
        if not all(one.isascii() and one.isdigit() and 0 < int(one[:6]) < 65536 for one in told):
            raise ServiceUrlError("see its port, a number from 1 to 65535")
        said = [int(one) for one in told]
        ports = [*said] * max(1, len(hosts)) if len(said) == 1 else [*said]
    if not any(hosts):
        hosts, ports = (), ports[:1] or [None]
    elif len(ports) != len(hosts) or not all(hosts):
        raise ServiceUrlError("it has one port for all of its hosts, or one for each")
    return hosts, tuple(port or _PORT for port in ports)


def _mode(given: Mapping[str, str]) -> str | None:
    mode = given.get("sslmode") or given.get("ssl")
    if mode is None and given.get("requiressl") == "1":
        return "require"
    if mode in _SWITCH:
        return "require" if _SWITCH[mode] else "disable"
    if mode is not None and mode not in (*_NO_CHECK, *_CHECKED):
        raise ServiceUrlError(f"sslmode is one of {', '.join((*_NO_CHECK, *_CHECKED))}")
    return mode


def _tls(given: Mapping[str, str]) -> ssl.SSLContext | str | None:
    """The context where TLS is asked for, with its files read now: what is wrong with them is told at the start."""
    mode = _mode(given)
    if mode is None or mode in _NO_CHECK:
        for name in _TLS:
            if given.get(name):
                raise ServiceUrlError(
                    f"{name} counts where TLS is asked for: write sslmode=require, verify-ca or verify-full beside it"
                )
        return mode
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify-full"
    roots = given.get("sslrootcert") or _default("root.crt")
    if roots is None and mode == "verify-ca":
        raise ServiceUrlError("sslmode=verify-ca needs sslrootcert, the file of who signed the certificate")
    if roots == "system" and mode != "verify-full":
        raise ServiceUrlError(
            "sslrootcert=system, whose signers sign for anybody, goes with sslmode=verify-full"
        )
    if roots is None and mode == "require":
        context.verify_mode = ssl.CERT_NONE
    try:
        if roots == "system" or (roots is None and mode == "verify-full"):
            context.load_default_certs()
        elif roots is not None:
            context.load_verify_locations(roots)
        if given.get("sslcrl"):
            context.load_verify_locations(given["sslcrl"])
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        certificate = given.get("sslcert") or _default("postgresql.crt")
        if certificate is not None:
            key = given.get("sslkey") or _default("postgresql.key")
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(certificate, key, given.get("sslpassword", ""))
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise ServiceUrlError(
            "a file of sslrootcert, sslcert, sslkey or sslcrl cannot be read or is no certificate or key"
        ) from None
    for name, least in (("ssl_min_protocol_version", True), ("ssl_max_protocol_version", False)):
        if given.get(name):
            if given[name] not in _VERSIONS:
                raise ServiceUrlError(f"{name} is one of {', '.join(_VERSIONS)}")
            setattr(context, "minimum_version" if least else "maximum_version", _VERSIONS[given[name]])
    return context


def _default(name: str) -> str | None:
    """A file that libpq and the driver look for where the URL says nothing."""
    try:
        path = Path.home() / ".postgresql" / name
    except RuntimeError:
        return None
    return str(path) if path.is_file() else None


def _application(name: str) -> str:
    """What the server lists the connection as. It begins with our name, by which others of ours are found."""
    return name if name.startswith("penstock") else f"penstock {name}".rstrip()


def _seconds(text: str | None) -> float | None:
    if text is None or text in ("", "0"):
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise ServiceUrlError("connect_timeout is a whole number of seconds")
    return float(text)


def _written(host: str) -> str:
    if host.startswith("/"):
        return host.replace("/", "%2F")
    return f"[{host}]" if ":" in host else host
