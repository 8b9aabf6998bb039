"""Requests in JSON that are passed through: what formats check alike, and the caller's body with the upstream's model in it."""

from collections.abc import Callable

import msgspec
from msgspec import Raw

from penstock.core.body.cost_fields import SHARED, CostRules
from penstock.core.body.envelope import BodyRules, decode_integer, scanned_integer, typed
from penstock.core.body.request_scan import request_rules
from penstock.core.body.scan_rules import UNBOUNDED, Form, Member
from penstock.core.dialects.interface import CallerFormat, StreamForm
from penstock.core.dialects.prepare import passed_plainly
from penstock.errors import InvalidRequest

_BYTES_PER_TOKEN = 4

_decode_list = msgspec.json.Decoder(list[Raw]).decode
_NULL = Raw(b"null")
_EMPTY = frozenset((b'""', b"[]"))

BodyCheck = Callable[[dict[str, Raw]], None]
"""Looks at the top level of a body. Raises ``InvalidRequest``."""


def json_format(
    ordinary: frozenset[str],
    wanted: Member,
    check: BodyCheck,
    *,
    streams: StreamForm | None = None,
    limit: str = "",
    most: int = UNBOUNDED,
    always_streams: bool = False,
    unscanned: str = "",
) -> CallerFormat:
    """A format with bodies in JSON.

    ``ordinary`` are the fields that neither name a model nor multiply a bill, ``wanted`` the one that has to be there, of which
    there may be ``most`` entries; ``limit`` is the field that bounds the answer's tokens. ``streams``: answers may come piece
    by piece, ``always_streams``: they always do. ``unscanned`` is a field that only ``check`` can judge; the input's tokens are
    estimated by it.
    """
    names = ["model", "user", "metadata", wanted.name]
    names += [name for name in ("stream" if streams is not None else "", limit) if name]
    known = CostRules(SHARED, ordinary.union(names), tools="")
    cost = CostRules(SHARED, known.ordinary | {unscanned}, tools="") if unscanned else known
    long = unscanned or wanted.name
    places = (Member("model", Form.NAME, required=True), Member("stream", Form.FLAG), wanted)
    if limit:
        places += (Member(limit, Form.POSITIVE),)

    def checked(fields: dict[str, Raw], counting: bool) -> tuple[int | None, bool]:  # noqa: ARG001 - as BodyRules calls it
        if streams is None and bytes(fields.get("stream", _NULL)) == b"true":
            raise InvalidRequest("stream: there are no streams of this; leave it out.", param="stream")
        check(fields)
        return (typed(fields, limit, decode_integer, "an integer") if limit else None), True

    def scanned(value: Callable[[str], bytes]) -> tuple[int | None, bool]:
        return (scanned_integer(value(limit)) if limit else None), True

    return CallerFormat(
        body=BodyRules(
            check=checked,
            scan=request_rules(known, places if streams is not None else (places[0], *places[2:]), most=most),
            scanned=scanned,
            turns=long,
            attachments={},
            cost=cost,
            decoded=False,
            estimate_input=lambda envelope: max(len(envelope.value(long)) // _BYTES_PER_TOKEN, 1),
            always_streams=always_streams,
        ),
        streams=streams,
    )


def needs(name: str) -> BodyCheck:
    """That a field is there and not empty."""

    def check(fields: dict[str, Raw]) -> None:
        given(fields, name)

    return check


def given(fields: dict[str, Raw], name: str) -> bytes:
    """The value of a field that has to be there. Raises ``InvalidRequest``."""
    value = bytes(fields.get(name, _NULL))
    if value == b"null":
        raise InvalidRequest(f"{name} is required.", param=name)
    if value in _EMPTY:
        raise InvalidRequest(f"{name} must not be empty.", param=name)
    return value


def text(fields: dict[str, Raw], name: str) -> None:
    """See that a field is a string that is not empty. Raises ``InvalidRequest``."""
    if not given(fields, name).startswith(b'"'):
        raise InvalidRequest(f"{name} must be a string.", param=name)


def listed(fields: dict[str, Raw], name: str, most: int) -> list[Raw]:
    """The entries of a field that is a list, from one on. Raises ``InvalidRequest``."""
    value = given(fields, name)
    if not value.startswith(b"["):
        raise InvalidRequest(f"{name} must be a list.", param=name)
    found = _decode_list(value)
    if not found:
        raise InvalidRequest(f"{name} must not be empty.", param=name)
    if len(found) > most:
        raise InvalidRequest(f"{name} may hold at most {most} entries; send several requests.", param=name)
    return found


pass_request = passed_plainly(lambda envelope, model: envelope.encode(model))
"""The caller's body for another model; nothing else of it is changed."""
