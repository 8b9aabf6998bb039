"""Loads the settings: the only reader of the environment and of penstock.toml."""

import difflib
import ipaddress
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from penstock.errors import OperatorError
from penstock.settings.describe import ENVIRONMENT_PREFIX, FIELDS, Field
from penstock.settings.schema import Settings
from penstock.settings.service_url import ServiceUrl, ServiceUrlError
from penstock.settings.zones import zone_of

CONFIG = "PENSTOCK_CONFIG"
FILE = "penstock.toml"


class SettingsError(OperatorError):
    """The settings cannot be used. ``problems`` has one line each: the setting, where it was set, what is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Loaded(msgspec.Struct, frozen=True):
    """The settings, and where those that are not defaults come from (setting -> place)."""

    settings: Settings
    origins: dict[str, str]
    file: Path | None
    warnings: tuple[str, ...]


class _Given(msgspec.Struct, frozen=True):
    """A value as it was written: text everywhere but in the file, and the place to name in a complaint."""

    value: object
    place: str
    typed: bool
    """From TOML, where ``"5"`` is no number."""


def environment() -> Mapping[str, str]:
    """The environment of this process, for those who look up the operator's references (``env:NAME``)."""
    return os.environ


def load(
    environ: Mapping[str, str], *, file: Path | None = None, flags: Mapping[str, str] | None = None
) -> Loaded:
    """Read the settings. ``flags`` are settings from the command line, as text.

    The file is ``file``, else ``PENSTOCK_CONFIG``, else ``penstock.toml`` in the current directory if it is there. A
    relative path in the file is relative to the file. Raises ``SettingsError``.
    """
    file = _file(environ, file)
    problems: list[str] = []
    given = dict(_from_file(file, problems)) if file else {}
    given |= dict(_from_environment(environ))
    given |= {
        name: _Given(text, f"--{name.replace('_', '-')}", typed=False) for name, text in (flags or {}).items()
    }
    values = {name: _read(FIELDS[name], raw, problems) for name, raw in given.items()}
    if problems:
        raise SettingsError(problems)
    settings = Settings(**values)  # pyright: ignore[reportArgumentType]
    problems.extend(_contradictions(settings, given))
    if problems:
        raise SettingsError(problems)
    origins = {name: raw.place for name, raw in given.items()}
    return Loaded(settings, origins, file, tuple(_strange_variables(environ)))


# ---- the sources


def _file(environ: Mapping[str, str], file: Path | None) -> Path | None:
    if file is None and environ.get(CONFIG):
        file = Path(environ[CONFIG])
    if file is None:
        return Path(FILE).absolute() if Path(FILE).is_file() else None
    return file.expanduser().absolute()


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    for name in FIELDS:
        variable = ENVIRONMENT_PREFIX + name.upper()
        text = environ.get(variable, "").strip()
        # Set to nothing is not set, as compose files do. Kubernetes sets PENSTOCK_PORT=tcp://... for a service of our name.
        if text and not (name == "port" and text.startswith("tcp://")):
            yield name, _Given(text, f"{variable} (environment)", typed=False)


def _from_file(file: Path, problems: list[str]) -> Iterator[tuple[str, _Given]]:
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        problems.append(f"{file}: cannot be read: {error.strerror}")
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{file}: is not TOML: {error}")
        return
    for key, value in _flat(table, ""):
        name = key.replace(".", "_")
        if name not in FIELDS:
            problems.append(f"{key} ({file}): there is no such setting{_meant(name, FIELDS)}")
        elif isinstance(value, str) and value and value[0] != "~" and FIELDS[name].is_path:
            yield name, _Given(str(file.parent / value), f"{key} ({file})", typed=True)
        else:
            yield name, _Given(value, f"{key} ({file})", typed=True)


def _flat(table: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    """``keys.reveal = false`` and ``[keys]`` with ``reveal = false`` mean ``keys_reveal = false``."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield prefix + key, value


def _strange_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Variables that look like settings but are not. They are reported, not refused: others may use the prefix."""
    known = {ENVIRONMENT_PREFIX + name.upper() for name in FIELDS} | {CONFIG}
    for name in sorted(environ):
        ours = name.startswith(ENVIRONMENT_PREFIX) and not re.match(
            r"PENSTOCK_(SERVICE|PORT)_", name
        )  # set by Kubernetes
        if ours and name not in known:
            yield f"{name} is set but means nothing here{_meant(name, known)}"


def _meant(word: str, known: Mapping[str, object] | set[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


# ---- values


def _read(field: Field, given: _Given, problems: list[str]) -> object:
    """The value of the setting, or a problem and None."""
    value = given.value
    if isinstance(value, str) and not given.typed and field.is_list:
        value = [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, str) and not given.typed and field.is_switch:
        value = {"yes": True, "on": True, "no": False, "off": False}.get(value.lower(), value)
    if isinstance(value, str) and field.name == "database_synchronous":
        value = value.upper()
    if isinstance(value, str) and not value.isprintable():
        problems.append(f"{given.place}: holds characters that cannot be printed")
        return None
    try:
        found = msgspec.convert(value, field.hint, strict=given.typed, dec_hook=_path)
    except msgspec.ValidationError:
        found = None
    if found is None or (isinstance(found, float) and not math.isfinite(found)):
        what = "what it is set to" if field.secret else repr(given.value)
        problems.append(f"{given.place}: {what} is not {field.expects}")
        return None
    return found


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value:
        try:
            return Path(value).expanduser()
        except RuntimeError as error:
            raise ValueError("no such user") from error
    raise ValueError("not a path")


OWN_PATHS = frozenset((
    "api", "v1", "static", "docs", "models", "pricing", "status", "signin", "signup", "signout", "verify", "forgot", "reset",
    "welcome", "dashboard", "keys", "requests", "requests.csv", "slots", "playground", "plan", "settings", "healthz", "readyz",
    "metrics", "terms", "privacy", "changelog", "openapi.json", "llms.txt", "robots.txt", "favicon.ico", "usage", "usage.csv",
    "brand", "admin", "setup", "status.json", "status.atom",
))  # fmt: skip
"""What our own paths begin with: whether a proxy has taken such a base path off could not be told."""
_SERVICES = ("database_url", "redis_url", "mail_url")
_NO_SERVICE = ("sqlite", "console:", "file:")
"""What values of theirs begin with that name no other machine."""


def _contradictions(settings: Settings, given: Mapping[str, _Given]) -> Iterator[str]:
    """What no single setting shows."""
    for name, networks in (
        ("trusted_proxies", settings.trusted_proxies),
        ("webhook_addresses", settings.webhook_addresses),
    ):
        for network in networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                yield f"{given[name].place}: {network!r} is not an IP address or a network: {error}"
    try:
        zone_of(settings.report_zone)
    except (ValueError, OSError):
        yield f"{given['report_zone'].place}: this machine knows no zone {settings.report_zone!r}"
    if settings.base_path.partition("/")[2].partition("/")[0] in OWN_PATHS:
        yield f"{given['public_url'].place}: a path of the service itself cannot be what all of its paths begin with"
    for name in _SERVICES:
        url = given.get(name)
        if url is not None and not str(url.value).startswith(_NO_SERVICE):
            try:
                ServiceUrl.read(str(url.value))
            except ServiceUrlError as error:
                yield f"{url.place}: {error}"
    if "?" in str(settings.data) or "#" in str(settings.data):
        place = given["data"].place if "data" in given else "data (default)"
        yield f"{place}: a path with ? or # in it cannot be part of a database URL"
