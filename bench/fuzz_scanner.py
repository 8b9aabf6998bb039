"""``python -m bench.fuzz_scanner``: the two scanners on damaged bodies, held equal to each other and to the long way.

Where a scanner gives spans, the long way has to accept the body, leave nothing of it out because of its cost, and read the same
out of it. Where one gives spans and the other does not, the body has to be nested deeper than the scanner in C puts up with.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

from bench.mutations import ROOT, Mutator
from penstock.core.body.cost_fields import CostBounds, CostRules
from penstock.core.body.envelope import BodyRules, Envelope, bounded, read_body, scan_body
from penstock.core.body.python_scanner import scan_in_python
from penstock.core.body.scan_rules import CLOSE, MAX_DEPTH, OPEN, UNBOUNDED, ScanRules
from penstock.core.body.scanner import Scanner
from penstock.core.body.value_limits import check_values
from penstock.core.endpoints import ENDPOINTS

RULES: dict[str, BodyRules] = {
    endpoint.name: endpoint.caller.body
    for endpoint in ENDPOINTS
    if endpoint.caller.body.form is None
    and not endpoint.caller.body.always_streams
    and endpoint.name != "rerank"
}
"""Of the formats whose bodies a scanner is given, and may take."""
BOUNDS = CostBounds(lambda _name: False, max_choices=1)
"""The narrowest: whatever names a model or wants more is noticed."""
FEW = 60
"""A bound on values that many of the bodies are over."""
EMBEDDINGS = (
    {"model": "e", "input": "text"},
    {"model": "e", "input": ["a", 'b"\\', "ü"], "dimensions": 8, "encoding_format": "float"},
    {"model": "e", "input": [1, 22, 333], "user": "u"},
    {"model": "e", "input": [[1, 2], [3]]},
)
FORMATS: dict[str, list[Any]] = {
    "completions": [{"model": "c", "prompt": "text", "suffix": "b", "max_tokens": 9, "stream": True}],
    "images": [
        {"model": "i", "prompt": "text", "size": "1x1", "seed": 7},
        {"model": "i", "prompt": "t", "stream": True},
    ],
    "moderations": [{"model": "m", "input": "text"}, {"model": "m", "input": ["a", "b"], "user": "u"}],
}
_VALUES = (
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0",
    b"1",
    b"2",
    b"2.0",
    b"2.01",
    b"-1",
    b"1.5",
    b"01",
    b"1.",
    b"1e2",
    b"1E400",
    b"9" * 18,
    b"9" * 19,
    b"-" + b"9" * 18,
    b"0.000000000000001",
    b"0.0000000000000001",
    b'""',
    b'" "',
    b'"x"',
    b'"\\u0020"',
    b'"\xc2\xa0"',
    b'"\x7f"',
    b"[]",
    b"[ ]",
    b"{}",
    b"{ }",
    b"[1]",
    b'["a"]',
    b'{"a":1}',
    b'{"include_usage":true}',
    b'{"include_usage":1}',
    b'{"include\\u005fusage":1}',
    b'{"include_usage":true,"include_usage":null,"x":[]}',
    b'[{"role":"user","content":"x"}]',
    b'[{"role":"user","content":{}}]',
    b'[{"role":"user","content":1,"content":"x"}]',
    b'[{"role":1,"role":"user"}]',
    b'[{"r\\u006fle":"user","content":[]}]',
    b'[{"role":"user","\\u0063ontent":7}]',
    b'[{"id":"x"}]',
    b'[{"id":"x","id":1}]',
    b'[{"type":"item_reference","id":"x"}]',
    b"[{}]",
    b'[{"type":"item_reference","type":"message"}]',
    b'[{"type":"message","model":"x"}]',
    b'[{"t\\u0079pe":"item_reference","id":1}]',
    b'[{"type":"additional_tools","tools":[{"type":"advisor"}]}]',
    b'[{"name":"x","type":"function"}]',
    b'[{"name":"x","type":"advisor_20260301"}]',
    b'[{"name":"x","type":"web_search","model":"dear"}]',
    b'[{"name":"x","type":"function","judge_model":"dear"}]',
    b'[{"name":"x","type":"function","strict":true,"name":"MODEL"}]',
    b'[{"type":"x","type":"function","description":"fallback"}]',
    b'[{"type":"function","description":"Openrouter:x"}]',
    b'[{"type":"function","description":"a\\u0064visor"}]',
    b'[{"type":"function","description":"advi\xc5\xbfor"}]',
    b'[{"type":"function","description":"\xe2\x84\xaa"}]',
    b'["model"]',
    b'"model"',
    b'"the fallback"',
    b'"\\ud83d\\ude00"',
    b'"\\ud83d"',
    b'"\\ude00\\ude00"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x8f\xbf\xbf"',
    b'"\xf4\x90\x80\x80"',
    b'"\xc0\xaf"',
    b'"\xe0\x9f\xbf"',
    b'"\t"',
    b'"\\x"',
    b'"\\u00e9"',
    b'"gw1.x"',
    b'"\\"gw1.x"',
    b'"\\\\"',
    b'{"gw1.":"data:x"}',
    b'["base64","x base64","gwm1"]',
    b'{"type":"thinking","signature":""}',
    b'{"tool_calls":[],"extra_content" :1}',
    b'"\\\\u0061"',
    b'"\\\\\\u0061"',
    b'"\\u004f\\u0080"',
    b'"tool_addition"',
    b'"a tool_addition"',
    b'"tool_\\u0061ddition"',
    b"[" * 250 + b"]" * 250,
    b"[" * 254 + b"]" * 254,
    b"[" * 256 + b"]" * 256,
    b'{"a":' * 255 + b"1" + b"}" * 255,
)
"""JSON and nearly JSON: what some form takes, and some other not."""


def native_scanner() -> Scanner | None:
    """The scanner in C, also where the program has been told to use the other; None where it is not built."""
    spec = PathFinder.find_spec("_native", [str(ROOT / "src" / "penstock" / "core" / "body")])
    if spec is None or spec.loader is None or spec.origin is None or spec.origin.endswith(".c"):
        return None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Scanner = module.scan
    return found


_native = native_scanner()


class Wrong(AssertionError):
    """The two differ, or one breaks the contract."""


class Bodies:
    """Makes bodies of one format from a seed; the same seed makes the same."""

    def __init__(self, seed: int) -> None:
        self._mutator = Mutator(seed)
        self.random = self._mutator.random
        seeds: dict[str, Any] = json.loads((ROOT / "bench" / "fuzz_requests.json").read_text())
        seeds |= {"embeddings": list(EMBEDDINGS), **FORMATS}
        self._seeds = {name: seeds[name] for name in RULES}
        self._names = {name: _names(rules.cost) for name, rules in RULES.items()}

    def make(self, name: str) -> bytes:
        """One body, more often whole than not."""
        draw = self.random
        root = draw.choice(self._seeds[name])
        if draw.random() < 0.4:
            root = self._mutator.damaged(root, self._seeds[name])
        body = self._mutator.dumped(root)
        if draw.random() < 0.6:
            body = self._put(body, name)
        if draw.random() < 0.15:
            body = self._escaped(body)
        if draw.random() < 0.15:
            body = self._mutator.broken(body)
        return (
            b" \r\n\t"[: draw.randrange(5)] + body + b" \n"[: draw.randrange(3)]
            if draw.random() < 0.2
            else body
        )

    def _put(self, body: bytes, name: str) -> bytes:
        """The object with a member more, first or last, or with another value for one that it has."""
        draw = self.random
        member = draw.choice(self._names[name]).encode()
        value = draw.choice(_VALUES)
        if member in (b"model", b"messages", b"input", b"tools") or draw.random() < 0.3:
            key = b'"%b"' % member
            at = body.find(key)
            if at > 0:
                body = body[:at] + b'"x%d"' % draw.randrange(9) + body[at + len(key) :]
                body = body.replace(b'"x', draw.choice((b'"x', b'"user', b'"metadata')), 1)
        added = b'"%b":%b' % (member, value)
        inner = body.strip()[1:-1]
        return b"{" + (added + b"," + inner if draw.random() < 0.5 else inner + b"," + added) + b"}"

    def _escaped(self, body: bytes) -> bytes:
        """One letter or digit of a string written as an escape."""
        places = [at for at, byte in enumerate(body) if byte in b"abcdefgilmnoprstuv_"]
        if not places:
            return body
        at = self.random.choice(places)
        return body[:at] + b"\\u%04x" % body[at] + body[at + 1 :]


def _names(cost: CostRules) -> list[str]:
    """The fields of a format: those that mean something to a scanner most often."""
    usual = ["model", "messages", "input", "tools", "stream", "max_tokens", "temperature", "stream_options"]
    rows = [row.name for row in cost.fields]
    return [
        *usual * 6,
        "max_completion_tokens",
        "max_output_tokens",
        *sorted(cost.ordinary),
        *rows,
        "x_new",
        "",
    ]


def check(body: bytes, rules: BodyRules, scan_rules: ScanRules) -> bool:
    """Whether the scanners gave spans. Raises ``Wrong``, or what the long way raises."""
    before, after = b'{"model": ', b"}"
    data = before + body + after
    natively = (_native or scan_in_python)(data, len(before), len(before) + len(body), scan_rules)
    plainly = scan_in_python(data, len(before), len(before) + len(body), scan_rules)
    if natively != plainly and (natively is not None or _depth(body) <= MAX_DEPTH):
        raise Wrong(f"C gives {natively}, Python {plainly}")
    if plainly is None:
        return False
    if data[plainly[OPEN]] != b"{"[0] or data[plainly[CLOSE]] != b"}"[0]:
        raise Wrong(f"no brackets at {plainly[:2]}")
    if natively is not None:
        _compare(body, rules, scan_rules)
    return True


def _compare(body: bytes, rules: BodyRules, scan_rules: ScanRules) -> None:
    """Whether what was scanned is what the long way reads."""
    if scan_rules.max_values != UNBOUNDED:
        check_values(body, scan_rules.max_values)
    scanned = scan_body(body, rules, scan_rules)
    if scanned is None:  # a conversation that may bring tools is left to the long way
        return
    long = bounded(read_body(body, rules), BOUNDS)
    if long.left_out or long.body is not body:
        raise Wrong(f"something was left out: {long.left_out}")
    if _told(scanned) != _told(long):
        raise Wrong(f"scanned {_told(scanned)}, read {_told(long)}")
    for name in scan_rules.places:
        if scanned.value(name) != long.value(name):
            raise Wrong(f"scanned {scanned.value(name)!r} for {name}, read {long.value(name)!r}")
    changes = {name: b"[7]" for name in ("store", "stream_options") if name in scan_rules.places}
    for model, set_ in ((long.model, {}), ("other", {}), ("other", changes)):
        ours, theirs = scanned.encode(model, set_), long.encode(model, set_)
        if _pairs(ours) != _pairs(theirs):
            raise Wrong(f"spliced {ours!r}, encoded {theirs!r}")


def _told(envelope: Envelope) -> tuple[object, ...]:
    return (
        envelope.model,
        envelope.stream,
        envelope.max_tokens,
        envelope.include_usage,
        envelope.estimate_input(),
        sorted(envelope.features()),
        envelope.usage_options() if "stream_options" in envelope.rules.scan.places else b"",
    )


def _pairs(body: bytes) -> object:
    decode: Callable[[str], object] = json.JSONDecoder(
        object_pairs_hook=list, parse_int=str, parse_float=str
    ).decode
    return decode(body.decode().strip())


def _depth(body: bytes) -> int:
    """How many brackets are open at one time, strings left out."""
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    depth = most = 0
    for byte in b"".join(bare.split(b'"')[::2]):
        depth += (byte in b"[{") - (byte in b"]}")
        most = max(most, depth)
    return most


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """A body on which the scanners differ or break the contract."""

    format: str
    reason: str
    body: bytes


def run(
    *, seed: int, inputs: int | None = None, seconds: float | None = None
) -> tuple[Counter[str], list[Fault]]:
    """So many bodies, or for so long, the formats by turns: how many were tried and scanned of each, and the faults."""
    bodies = Bodies(seed)
    few = {name: dataclasses.replace(rules.scan, max_values=FEW) for name, rules in RULES.items()}
    tried: Counter[str] = Counter()
    faults: list[Fault] = []
    end = None if seconds is None else time.monotonic() + seconds
    while len(faults) < 20 and (
        sum(tried[name] for name in RULES) < inputs if inputs is not None else time.monotonic() < (end or 0)
    ):
        for name, rules in RULES.items():
            body = bodies.make(name)
            narrow = rules.decoded and bodies.random.random() < 0.2
            tried[name] += 1
            try:
                scanned = check(body, rules, few[name] if narrow else rules.scan)
            except Exception as error:  # noqa: BLE001 - whatever a reader raises here is a finding
                faults.append(Fault(name, f"{type(error).__name__}: {error}", body))
            else:
                tried[f"{name} scanned"] += scanned
    return tried, faults


def main() -> int:
    """Run for a time; keep the bodies of the faults."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.fuzz_scanner", description="Damaged bodies for the scanners."
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", metavar="DIR", default=str(ROOT / "bench" / ".build" / "fuzz"))
    options = parser.parse_args()
    if _native is None:
        sys.exit("The scanner in C is not built here.")
    tried, faults = run(seed=options.seed, seconds=options.seconds)
    for name in RULES:
        print(f"{name}: {tried[name]:,} bodies, {tried[f'{name} scanned']:,} of them with spans")
    keep = Path(options.keep)
    keep.mkdir(parents=True, exist_ok=True)
    for number, fault in enumerate(faults):
        print(f"{fault.format}: {fault.reason}", file=sys.stderr)
        (keep / f"scanner {number} {fault.format}").write_bytes(fault.body)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
