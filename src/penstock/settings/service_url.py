"""The address of a service as a URL: its parts, read the same way for the database, Redis and the mail server.

A complaint never repeats any of the text: where a password is written without its escapes, any part may be a piece of it.
"""

import re
from ipaddress import IPv6Address
from urllib.parse import unquote

import msgspec

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_NAME_THAT_MAY_BE_TOLD = re.compile(r"[A-Za-z][A-Za-z_]{1,39}")
"""Letters alone: what could be a piece of a password is not repeated."""
_ESCAPES = "in a user or a password @ / ? # % are written %40 %2F %3F %23 %25"


class ServiceUrlError(ValueError):
    """The text is no such URL; the message says why without repeating any of it."""


class ServiceUrl(msgspec.Struct, frozen=True):
    """The parts, with their escapes undone. ``user`` and ``password`` are None where nothing of them is written.

    A host that begins with ``/`` is a directory or a socket of this machine; one in brackets is an IPv6 address.
    """

    scheme: str
    hosts: tuple[tuple[str, int | None], ...]
    user: str | None
    password: str | None
    path: str
    options: tuple[tuple[str, str], ...]

    @property
    def host(self) -> str:
        """The first host, '' where none is written."""
        return self.hosts[0][0] if self.hosts else ""

    @property
    def port(self) -> int | None:
        """The first host's port."""
        return self.hosts[0][1] if self.hosts else None

    def __repr__(self) -> str:
        return f"ServiceUrl({self.scheme})"  # the rest holds passwords

    @classmethod
    def read(cls, text: str) -> "ServiceUrl":
        """Read ``scheme://[user[:password]@][host[:port][,...]][/path][?name=value&...]``. Raises ``ServiceUrlError``."""
        found = _SCHEME.match(text)
        if found is None:
            raise ServiceUrlError("it does not begin with a scheme and ://")
        if any(one.isspace() or not one.isprintable() for one in text):
            raise ServiceUrlError("it has a blank in it, which is written %20")
        rest = text[found.end() :]
        if "#" in rest:
            raise ServiceUrlError(f"it has a # in it; {_ESCAPES}")
        before, _, query = rest.partition("?")
        authority, slash, path = before.partition("/")
        who, at, where = authority.rpartition("@")
        local = found[1].lower() in LOCAL_SCHEMES
        if "@" in query or ("@" in path and not local):
            raise ServiceUrlError(f"it has an @ behind its host; {_ESCAPES}")
        user, colon, password = who.partition(":")
        return cls(
            found[1].lower(),
            tuple(_host(one) for one in where.split(",")) if where else (),
            _undone(user) if at and user else None,
            _undone(password) if colon else None,
            _undone(slash + path),
            tuple(_option(one) for one in query.split("&") if one),
        )


LOCAL_SCHEMES = ("unix", "redis+unix", "redis+socket")
"""Schemes whose path is a socket's, which may have any character in it."""


def strange_options(names: set[str]) -> str:
    """Options that are not known, as far as they may be repeated."""
    told = sorted(name for name in names if _NAME_THAT_MAY_BE_TOLD.fullmatch(name))
    return ", ".join(told) or "one that reads like no option's name"


def _host(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        inside, bracket, after = text[1:].partition("]")
        if not bracket or (after and after[0] != ":"):
            raise ServiceUrlError("an IPv6 address stands in brackets, and its port after them")
        try:
            IPv6Address(inside)
        except ValueError:
            raise ServiceUrlError("what stands in brackets is no IPv6 address") from None
        return inside, _port(after[1:])
    if text.count(":") > 1:
        raise ServiceUrlError(f"see its port; an IPv6 address stands in brackets; {_ESCAPES}")
    name, _, port = text.partition(":")
    return _undone(name), _port(port)


def _port(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise ServiceUrlError(f"see its port, a number from 1 to 65535; {_ESCAPES}")
    return int(text)


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ServiceUrlError(f"behind its ? stand options as name=value; {_ESCAPES}")
    return _undone(name), _undone(value)


def _undone(text: str) -> str:
    try:
        found = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ServiceUrlError("what its %XX stand for is no UTF-8") from None
    if "\0" in found:
        raise ServiceUrlError("it has a %00 in it")
    return found
