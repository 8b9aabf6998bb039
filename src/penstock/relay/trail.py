"""The trail of a request: what its attempts were and what came of them, where there were several or one has failed.

It is kept beside the calls, by their ids, so that a request whose first attempt is answered has none of it.
"""

import json
import re
from collections.abc import Callable

import msgspec

from penstock.core.dialects.interface import UpstreamFormat
from penstock.core.failure_classes.classes import HANDLING, FailureClass
from penstock.core.routing.candidates import UpstreamKey
from penstock.domain.ledger.attempts import UNFAILED, AttemptLog, AttemptMade
from penstock.errors import PenstockError
from penstock.operations.upstreams import UpstreamFailures
from penstock.relay.call import Call
from penstock.relay.last_words import LastWords
from penstock.relay.quotations import runs_in
from penstock.relay.upstream_errors import MOST_LOOKED_THROUGH, for_operator, said_to_operator
from penstock.upstream import UpstreamResponse

QUOTES_THE_REQUEST = "(It quotes the request.)"
TOO_LONG_TO_COMPARE = "(The request is too long to see whether it is quoted.)"
_QUOTED = 24
"""So many bytes that are in the request, too, are taken for a quotation of it."""
_KEPT = 500
"""Characters of a provider's text."""
_COMPARED = 1024 * 1024
"""Bytes of a request that the text is compared with: each run of its words is looked for."""
_WORD = re.compile(r"\S+")


class Trails:
    """The trails of running calls. One per process."""

    __slots__ = ("_answers", "_failures", "_hearing", "_log", "_open", "_parked", "_words")

    def __init__(self, log: AttemptLog, failures: UpstreamFailures, words: LastWords) -> None:
        self._log = log
        self._failures = failures
        self._words = words
        self._hearing: dict[str, int] = {}
        """How many answers of a call are being heard, by its id."""
        self._parked: dict[str, tuple[int, list[AttemptMade]]] = {}
        """The day and the attempts of calls that are over, of which an answer is still heard."""
        self._open: dict[str, list[AttemptMade]] = {}
        self._answers: dict[str, tuple[int, str | None]] = {}
        """Status and request id of the answer to a second or later attempt."""

    def failed(
        self,
        call: Call,
        error: PenstockError,
        response: UpstreamResponse | None,
        *,
        began: float,
        now: float,
        told: float | None = None,
    ) -> None:
        """The attempt of a call, which ``began`` then, has failed. ``told`` is the upstream's wish for a rest, in seconds."""
        answered = self._answers.pop(call.request_id, (None, None))
        if response is not None:
            answered = response.status, request_id_of(response)
        found = error.failure_class or FailureClass.BROKEN.value
        said = error.provider_said
        made = self._attempt(call, found, answered, began, now, told, kept_words(said, call.envelope.body))
        self._open.setdefault(call.request_id, []).append(made)
        self._failures.note(call.attempt.key, found, made.status, made.message, made.upstream_request_id)

    def hear(
        self,
        call: Call,
        response: UpstreamResponse,
        upstream: UpstreamFormat,
        redacted: Callable[[bytes], bytes],
    ) -> str:
        """The status of an answer has decided that its attempt fails: the body is taken over, and heard beside the call.

        What it says, for the operator, where that is here already; else it is put down when it has come. ``redacted`` leaves
        our secrets out.
        """
        self.headed(call, response)
        asked = call.envelope.body
        if len(asked) > MOST_LOOKED_THROUGH:
            response.close()
            return ""
        id, key, number, status = call.request_id, call.attempt.key, call.attempts, response.status

        def understood(body: bytes) -> str:
            return for_operator(said_to_operator(status, redacted(body), upstream), asked)

        def told(body: bytes) -> None:
            self._put_down(id, number, key, kept_words(understood(body), asked))

        here = self._words.hear(response, len(asked), told)
        if here is not None:
            return understood(here)
        self._hearing[id] = self._hearing.get(id, 0) + 1
        return ""

    def end(self) -> None:
        """Hear no more."""
        self._words.end()

    def _put_down(self, id: str, number: int, key: UpstreamKey, message: str | None) -> None:
        """What was heard of an attempt belongs to it; a call that is over and waited for nothing else is written."""
        left = self._hearing.pop(id) - 1
        if left:
            self._hearing[id] = left
        made = self._parked[id][1] if id in self._parked else self._open.get(id, [])
        for at, each in enumerate(made):
            if each.number == number and message is not None:
                made[at] = msgspec.structs.replace(each, message=message)
                self._failures.heard(key, each.upstream_request_id, each.status, message)
        if not left and id in self._parked:
            self._log.note(id, *self._parked.pop(id))

    def headed(self, call: Call, response: UpstreamResponse) -> None:
        """A second or later attempt has an answer."""
        self._answers[call.request_id] = response.status, request_id_of(response)

    def timing(self, call: Call, began: float, now: float) -> bytes:
        """The value of ``Server-Timing`` for an answer that begins now: how long each attempt took, in milliseconds."""
        parts = [
            f'a{each.number};dur={each.lasted_ms};desc="{each.failure}"'
            for each in self._open.get(call.request_id, ())
        ]
        parts.append(f"a{call.attempts};dur={int((now - began) * 1000)}")
        return ", ".join(parts).encode()

    def ended(self, call: Call, *, began: float, now: float) -> list[AttemptMade]:
        """The call is over, after more than one attempt or a failed one: what was made."""
        made = self._open.pop(call.request_id, [])
        answered = self._answers.pop(call.request_id, (None, None))
        if len(made) < call.attempts and call.attempts > 1:
            end = UNFAILED.get(call.outcome, FailureClass.OURS.value)
            made.append(self._attempt(call, end, answered, began, now, None, None))
        if call.request_id in self._hearing:
            self._parked[call.request_id] = call.day, made
        elif made:
            self._log.note(call.request_id, call.day, made)
        return made

    def lone(self, call: Call, *, began: float, now: float) -> AttemptMade:
        """The only attempt of a call that is over, which has not failed and is not kept."""
        status = 200 if call.outcome == "completed" else None
        end = UNFAILED.get(call.outcome, FailureClass.OURS.value)
        return self._attempt(call, end, (status, None), began, now, None, None)

    def _attempt(
        self,
        call: Call,
        failure: str,
        answered: tuple[int | None, str | None],
        began: float,
        now: float,
        told: float | None,
        message: str | None,
    ) -> AttemptMade:
        attempt, started, first = call.attempt, call.started, call.first_byte_at
        return AttemptMade(
            number=call.attempts,
            provider=attempt.provider,
            credential=attempt.key[2],
            upstream_model=attempt.model,
            upstream_dialect=attempt.dialect,
            reason=call.route,
            failure=failure,
            status=answered[0],
            upstream_request_id=answered[1],
            started_ms=int((began - started) * 1000),
            first_ms=None if first is None else int((first - started) * 1000),
            ended_ms=int((now - started) * 1000),
            retry_after_ms=None if told is None else int(told * 1000),
            input_tokens=call.usage.input,
            output_tokens=call.usage.output,
            maybe_billed=failure != "" and HANDLING[FailureClass(failure)].maybe_billed,
            message=message,
        )


def request_id_of(response: UpstreamResponse) -> str | None:
    """What the provider calls the request, where it says so in printable ASCII."""
    value = response.header(b"request-id") or response.header(b"x-request-id")
    if value is None or not value.isascii():
        return None
    text = value.decode()
    return text if text.isprintable() else None


def kept_words(said: str, body: bytes) -> str | None:
    """What of a provider's text is kept: nothing of what it quotes of the request, as it is or as JSON escapes it."""
    if not said:
        return None
    said = said[:_KEPT]
    if len(body) > _COMPARED:
        return TOO_LONG_TO_COMPARE
    words = list(_WORD.finditer(said))
    runs: set[bytes] = set()
    for at, first in enumerate(words):
        for last in words[at:]:
            text = said[first.start() : last.end()]
            if len(text.encode()) >= _QUOTED:
                runs |= {text.encode(), json.dumps(text)[1:-1].encode()}
                break
    return QUOTES_THE_REQUEST if runs_in(body, runs) else said
