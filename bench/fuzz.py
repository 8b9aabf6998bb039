"""``python -m bench.fuzz``: every reader of the core under damaged input for a time, and the slowest input found.

A reader may refuse a request (``InvalidRequest``) and call a stream failed. It may not raise anything else, end twice or never,
say something else for a stream because it was cut elsewhere, or take long. Time is the thread's CPU time.
"""

import argparse
import hashlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.mutations import LARGE, ROOT, Mutator, streams
from penstock.core.catalog import DialectName
from penstock.core.dialects.lanes import Translation
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import caller_side, passing_of, read_envelope, upstream_side
from penstock.core.neutral.events import AnyEvent, Failed, Stopped
from penstock.core.neutral.fold import fold
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.sse import Frame, Frames, FrameTooLarge, complete_prefix, parse_frame, split_whole
from penstock.errors import InvalidRequest

NAMES: tuple[DialectName, ...] = ("chat", "messages", "responses")
PROFILES = (
    DEFAULT_PROFILE,
    Profile(native_anthropic=True, system_turns=True, thinking="adaptive", sampling=False),
    Profile(
        reasoning_field="reasoning_content", thinking_switch="thinking", cache_control=True, max_stop=None
    ),
    Profile(
        system_anywhere=False, json_schema=False, tool_id_limit=40, strict_tools=False, user_field="none"
    ),
)
READ = 4096
"""Bytes of a read where the time of a stream in pieces is taken."""


class Wrong(AssertionError):
    """A reader broke a promise."""


@dataclass(slots=True)
class Slowest:
    """The input that took longest of those of at most ``LARGE`` bytes."""

    seconds: float = 0.0
    input: bytes = b""


@dataclass(slots=True)
class Target:
    """One reader: how inputs are made, and what is done with one. ``check`` gets it whole, and in pieces."""

    name: str
    make: Callable[[Mutator, bool], bytes]
    check: Callable[[bytes, list[bytes]], None]
    time: Callable[[bytes], None]
    inputs: int = 0
    slowest: Slowest = field(default_factory=Slowest)


@dataclass(frozen=True, slots=True)
class Fault:
    """An input that a reader failed on, and where."""

    target: str
    trace: str
    input: bytes


# ---- what is promised


def _events(dialect: str, pieces: Iterable[bytes]) -> list[AnyEvent]:
    reader = upstream_side(dialect).ResponseDecoder(profile=DEFAULT_PROFILE)
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events + reader.finish()


def _reader(dialect: str) -> Target:
    def check(data: bytes, pieces: list[bytes]) -> None:
        whole = _events(dialect, [data])
        ends = [event for event in whole if isinstance(event, Stopped | Failed)]
        if len(ends) != 1 or whole[-1] is not ends[0]:
            raise Wrong(f"ends: {ends}, last: {whole[-1:]}")
        cut = fold(_events(dialect, pieces))
        if cut != fold(whole):
            raise Wrong(f"cut elsewhere it says {cut}, whole {fold(whole)}")

    seeds = streams(dialect)
    return Target(
        f"{dialect}.Reader",
        lambda mutator, large: mutator.stream(seeds, large=large),
        check,
        lambda data: _discard(_events(dialect, _reads(data))),
    )


def _discard(_: object) -> None:
    pass


def _reads(data: bytes) -> Iterable[bytes]:
    return (data[at : at + READ] for at in range(0, len(data), READ))


def _frames(pieces: Iterable[bytes]) -> list[Frame]:
    frames = Frames()
    found = [frame for piece in pieces for frame in frames.feed(piece)]
    return [*found, *frames.finish()]


def _crossing(dialect: str, caller: str) -> Target:
    def crossed(pieces: Iterable[bytes]) -> tuple[bytes, Translation]:
        writer = caller_side(caller).ResponseEncoder(
            model="m", reply_id="r", created=1, include_usage=True, input_estimate=3
        )
        lane = Translation(upstream_side(dialect).ResponseDecoder(profile=DEFAULT_PROFILE), writer)
        return b"".join(map(lane.feed, pieces)) + lane.finish(), lane

    def check(data: bytes, pieces: list[bytes]) -> None:
        out, lane = crossed([data])
        if not lane.ended or (lane.failure is None) != lane.done:
            raise Wrong("the crossing has no end")
        again, _ = crossed(pieces)
        if not all(map(_is_valid, split_whole(out))) or not all(map(_is_valid, split_whole(again))):
            raise Wrong("what was written is no stream of JSON")

    return _streamed(f"{dialect} to {caller}", dialect, check, crossed)


def _streamed(
    name: str,
    dialect: str,
    check: Callable[[bytes, list[bytes]], None],
    run: Callable[[Iterable[bytes]], object],
) -> Target:
    """What is fed with a stream; ``run`` is timed with it in reads."""
    seeds = streams(dialect)
    return Target(
        name,
        lambda mutator, large: mutator.stream(seeds, large=large),
        check,
        lambda data: _discard(run(_reads(data))),
    )


def _is_valid(raw: bytes) -> bool:
    frame = parse_frame(raw)
    return frame is not None and (frame.data == b"[DONE]" or isinstance(json.loads(frame.data), dict))


def _meter(dialect: str) -> Target:
    def metered(pieces: Iterable[bytes]) -> tuple[object, object]:
        make = passing_of(dialect).Stream
        assert make is not None
        lane = make(model="public", withhold_usage=True)
        out = b"".join(map(lane.feed, pieces)) + lane.finish()
        if not lane.ended and lane.failure is None and not lane.done:
            raise Wrong("a metered stream has no end")
        # empty lines between frames may be relayed or not
        plain = _frames([out])
        return plain, (lane.usage, lane.failure, lane.stop, lane.done, lane.sequence)

    def check(data: bytes, pieces: list[bytes]) -> None:
        whole, cut = metered([data]), metered(pieces)
        if whole != cut:
            raise Wrong(f"cut elsewhere: {cut}, whole {whole}")

    return _streamed(f"{dialect}.Meter", dialect, check, metered)


def _reply(dialect: str) -> Target:
    seeds = [root for root in map(_whole, streams(dialect)) if root is not None]

    def check(data: bytes, pieces: list[bytes]) -> None:
        del pieces
        events = upstream_side(dialect).decode_response(data, DEFAULT_PROFILE)
        if not events or not isinstance(events[-1], Stopped | Failed):
            raise Wrong("a whole answer has no end")
        reply = fold(events)
        if reply.failure is None:
            for name in NAMES:
                json.loads(caller_side(name).encode_response(reply, model="m", reply_id="r", created=1))
        passing_of(dialect).response(data, model="public")

    return Target(
        f"{dialect} whole answer",
        lambda mutator, large: mutator.body(seeds, large=large),
        check,
        lambda data: _discard(upstream_side(dialect).decode_response(data, DEFAULT_PROFILE)),
    )


def _whole(stream: bytes) -> Any:
    try:
        root = json.loads(stream)
    except ValueError:
        return None
    return root if isinstance(root, dict) else None


def _envelope(dialect: DialectName) -> Target:
    def check(data: bytes, pieces: list[bytes]) -> None:
        del pieces
        envelope = read_envelope(data, dialect)
        if json.loads(envelope.encode("other"))["model"] != "other":
            raise Wrong("another model went on")
        envelope.features()
        if envelope.estimate_input() < 0:
            raise Wrong("less than nothing is estimated")

    return Target(
        f"{dialect} envelope",
        lambda mutator, large: mutator.body(REQUESTS[dialect], large=large),
        check,
        lambda data: _discard(read_envelope(data, dialect).features()),
    )


def _request(dialect: DialectName, upstream: DialectName) -> Target:
    def crossed(data: bytes) -> None:
        envelope = read_envelope(data, dialect)
        for profile in PROFILES:
            try:
                made = prepare(envelope, caller=dialect, upstream=upstream, model="up", profile=profile)
            except InvalidRequest:
                continue
            if json.loads(made.body)["model"] != "up":
                raise Wrong("the model is not the upstream's")
            made.body.decode()

    def timed(data: bytes) -> None:
        prepare(
            read_envelope(data, dialect),
            caller=dialect,
            upstream=upstream,
            model="up",
            profile=DEFAULT_PROFILE,
        )

    return Target(
        f"{dialect} request to {upstream}",
        lambda mutator, large: mutator.body(REQUESTS[dialect], large=large),
        lambda data, _: crossed(data),
        timed,
    )


def _sse() -> Target:
    def check(data: bytes, pieces: list[bytes]) -> None:
        if _frames(pieces) != _frames([data]):
            raise Wrong("cut elsewhere there are other frames")
        if b"".join(split_whole(data[: complete_prefix(data)])) != data[: complete_prefix(data)]:
            raise Wrong("the parts are not the whole")

    seeds = [stream for name in NAMES for stream in streams(name)]
    return Target(
        "sse",
        lambda mutator, large: mutator.stream(seeds, large=large),
        check,
        lambda data: _discard(_frames(_reads(data))),
    )


REQUESTS: dict[DialectName, list[Any]] = json.loads(
    (ROOT / "bench" / "fuzz_requests.json").read_text("utf-8")
)


def targets() -> list[Target]:
    """Every reader."""
    return [
        _sse(),
        *(make(name) for make in (_reader, _meter, _reply, _envelope) for name in NAMES),
        *(
            make(name, other)
            for make in (_crossing, _request)
            for name in NAMES
            for other in NAMES
            if name != other
        ),
    ]


# ---- running


def run(
    *, seed: int, inputs: int | None = None, seconds: float | None = None
) -> tuple[list[Target], list[Fault]]:
    """Try ``inputs`` inputs, or for ``seconds``; a fault at the same line is told once."""
    mutator = Mutator(seed)
    tried = targets()
    faults: dict[str, Fault] = {}
    end = None if seconds is None else time.monotonic() + seconds
    count = 0
    while (inputs is None or count < inputs) and (end is None or time.monotonic() < end):
        target = tried[count % len(tried)]
        large = mutator.random.random() < 0.15
        data = target.make(mutator, large)
        fault = _try(target, data, mutator.cuts(data))
        if fault is not None:
            faults.setdefault(f"{target.name} {fault.trace.splitlines()[-3:-1]}", fault)
        target.inputs += 1
        count += 1
    return tried, list(faults.values())


def _try(target: Target, data: bytes, pieces: list[bytes]) -> Fault | None:
    try:
        target.check(data, pieces)
    except (InvalidRequest, FrameTooLarge):
        pass
    except Exception:  # noqa: BLE001 - whatever it is, it is what was looked for
        return Fault(target.name, traceback.format_exc(), data)
    if len(data) <= LARGE * 1.05:
        # the best of some takes out what the machine did meanwhile
        taken = _taken(target, data)
        if taken > target.slowest.seconds:
            taken = min(taken, *(_taken(target, data) for _ in range(4)))
            if taken > target.slowest.seconds:
                target.slowest = Slowest(taken, data)
    return None


def _taken(target: Target, data: bytes) -> float:
    start = time.thread_time()
    try:
        target.time(data)
    except (InvalidRequest, FrameTooLarge):
        pass
    return time.thread_time() - start


def _markdown(tried: list[Target], faults: list[Fault], options: argparse.Namespace) -> str:
    lines = [
        f"# Damaged input, {options.date}",
        "",
        (
            f"`python -m bench.fuzz --seconds {options.seconds:g} --seed {options.seed}` on one core "
            f"(CPython {sys.version_info.major}.{sys.version_info.minor}): {sum(target.inputs for target in tried):,} inputs, "
            f"{len(faults)} faults. Slowest is the CPU time of the input of at most {LARGE // 1000} KB that took longest, "
            f"streams in reads of {READ // 1024} KiB; the aim is less than 50 ms."
        ),
        "",
        "| Reader | Inputs | Slowest, ms | of bytes | SHA-256 |",
        "|---|---|---|---|---|",
    ]
    for target in tried:
        slowest = target.slowest
        digest = hashlib.sha256(slowest.input).hexdigest()[:12]
        lines.append(
            f"| {target.name} | {target.inputs:,} | {slowest.seconds * 1000:.1f} | {len(slowest.input):,} | {digest} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run for a time, print the table, keep the slowest inputs and those that a reader failed on."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.fuzz", description="Damaged input for every reader."
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"))
    parser.add_argument("--markdown", metavar="FILE", help="write the table there")
    parser.add_argument(
        "--keep", metavar="DIR", default=str(ROOT / "bench" / ".build" / "fuzz"), help="for the inputs"
    )
    options = parser.parse_args()
    tried, faults = run(seed=options.seed, seconds=options.seconds)
    text = _markdown(tried, faults, options)
    print(text)
    if options.markdown:
        Path(options.markdown).write_text(text)
    keep = Path(options.keep)
    keep.mkdir(parents=True, exist_ok=True)
    for target in tried:
        (keep / f"slowest {target.name}").write_bytes(target.slowest.input)
    for number, fault in enumerate(faults):
        print(f"{fault.target} fails on {len(fault.input)} bytes:\n{fault.trace}", file=sys.stderr)
        (keep / f"fault {number} {fault.target}").write_bytes(fault.input)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
