"""``python -m bench.fuzz_coverage --minutes N [TARGET ...]``: a search for input that breaks a reader, led by what it covers.

Atheris (libFuzzer for Python) is needed, which the project does not depend on: ``.venv/bin/pip install atheris``. Each target
of ``bench.fuzz_targets`` runs in a process of its own for its share of the minutes, from the seeds and from what earlier runs
found (``.build/fuzz_coverage/TARGET/corpus``). A fault does not end it: each is told once, with its input. Afterwards the
slowest of what was found are repeated to twice and four times their size, and their time and memory are compared: what
takes four times as long at twice the size is quadratic.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import time
import traceback
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

PLACE = Path(__file__).resolve().parent / ".build" / "fuzz_coverage"
LONGEST = 8192
"""Bytes of an input."""
MEMORY = 1500
"""Megabytes of a process that end it."""
HANG = 20
"""Seconds of one input that end it."""
_GROWN = 24_000
"""Bytes that an input is repeated to, where growth is measured, and twice that."""
_MOST_GROWN = 10
_SEEN = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")
_LINES = re.compile(r"^#(\d+)\s", re.MULTILINE)
_PATIENCE = 600.0
"""Seconds beyond its time that a child may take."""
_UNITS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


# ---- one target, in a process of its own


def search(name: str, folder: Path, seconds: float, seed: int) -> None:
    """Run the fuzzer; it ends the process."""
    import atheris  # noqa: PLC0415 # pyright: ignore[reportMissingModuleSource] - not a dependency

    with atheris.instrument_imports(include=["penstock"]):  # pyright: ignore[reportAttributeAccessIssue] - its stub lacks it
        from bench.fuzz_targets import DECLARED, cuts, targets  # noqa: PLC0415 - the search imports it in its own way
        from bench.mutations import words  # noqa: PLC0415 - as above
    target = next(target for target in targets() if target.name == name)
    seeds = folder / "seeds"
    for directory in (folder, seeds, folder / "corpus", folder / "faults"):
        directory.mkdir(parents=True, exist_ok=True)
    for content in target.seeds():
        (seeds / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
    dictionary = folder / "words"
    dictionary.write_text("".join(f"{_dictionary_entry(word)}\n" for word in words()))
    told: set[str] = set()

    def one(data: bytes) -> None:
        try:
            target.check(data, cuts(data))
        except DECLARED:
            pass
        except Exception:  # noqa: BLE001 - whatever it is, it is what was looked for
            trace = traceback.format_exc()
            where = " ".join(re.findall(r'File "[^"]*?([^/"]+)", line (\d+)', trace)[-1])
            mark = hashlib.sha256(where.encode()).hexdigest()[:12]
            if mark not in told:
                told.add(mark)
                (folder / "faults" / f"{mark}.input").write_bytes(data)
                (folder / "faults" / f"{mark}.txt").write_text(trace, errors="backslashreplace")

    options = [
        f"-max_total_time={int(seconds)}",
        f"-max_len={LONGEST}",
        f"-rss_limit_mb={MEMORY}",
        f"-timeout={HANG}",
        f"-seed={seed}",
        f"-artifact_prefix={folder / 'faults'}/",
        f"-dict={dictionary}",
        "-print_final_stats=1",
        "-len_control=20",
    ]
    atheris.Setup([sys.argv[0], *options, str(folder / "corpus"), str(seeds)], one)
    atheris.Fuzz()


def _dictionary_entry(word: str) -> str:
    """A word as libFuzzer's dictionaries have it."""
    octets = word.encode("utf-8", "surrogatepass")
    return '"' + "".join(f"\\x{octet:02X}" for octet in octets) + '"'


def grow(name: str, folder: Path) -> None:
    """Print, as JSON, how time and memory grow with what was found."""
    from bench.fuzz_targets import DECLARED, cuts, targets  # noqa: PLC0415 - the search imports it in its own way

    target = next(target for target in targets() if target.name == name)

    def taken(data: bytes) -> float:
        pieces = cuts(data)
        start = time.thread_time()
        try:
            target.check(data, pieces)
        except DECLARED:
            pass
        except Exception:  # noqa: BLE001 - the search tells it
            return 0.0
        return time.thread_time() - start

    found = [path.read_bytes() for place in ("corpus", "seeds") for path in (folder / place).iterdir()]
    timed = sorted(((taken(data) / (len(data) + 200), data) for data in found if data), reverse=True)
    worst, least_ms, memory = 0.0, 0.0, 0.0
    for _, data in timed[:_MOST_GROWN]:
        third = len(data) // 3
        for before, middle, after in (
            (b"", data, b""),
            (data[:third], data[third : 2 * third] or b"a", data[2 * third :]),
        ):
            times = _GROWN // len(middle) + 1
            small = min(taken(before + middle * times + after) for _ in range(3))
            large = min(taken(before + middle * times * 2 + after) for _ in range(3))
            if large > 0.005 and small and large / small > worst:
                worst, least_ms = large / small, large * 1000
        tracemalloc.start()
        taken(data)
        memory = max(memory, tracemalloc.get_traced_memory()[1] / (len(data) + 1000))
        tracemalloc.stop()
    print(json.dumps({"growth": round(worst, 2), "ms": round(least_ms, 1), "bytes a byte": round(memory, 1)}))


# ---- all of them


@dataclass(frozen=True, slots=True)
class Found:
    """What the search through one target came to."""

    target: str
    executions: int
    coverage: int
    features: int
    corpus: int
    faults: int
    growth: str
    ended: str


def _child(*arguments: str, folder: Path, patience: float) -> tuple[str, str, str]:
    """What a child printed on both ways, and how it ended: '' for well."""
    command = [sys.executable, "-m", "bench.fuzz_coverage", *arguments, "--keep", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=patience)
    except subprocess.TimeoutExpired as late:
        out, told = ((said or b"").decode(errors="replace") for said in (late.stdout, late.stderr))
        return out, told, f"took more than {patience:.0f} s"
    told = done.stderr.decode(errors="replace")
    ended = f"ended with {done.returncode}: {told[-600:]}" if done.returncode else ""
    return done.stdout.decode(errors="replace"), told, ended


def run(name: str, seconds: float, seed: int, keep: Path) -> Found:
    """Search through one target for some seconds; on a busy machine it may take much longer to come to an end."""
    folder = keep / name
    folder.mkdir(parents=True, exist_ok=True)
    order = ("--child", name, "--minutes", f"{seconds / 60}", "--seed", f"{seed}")
    _, said, ended = _child(*order, folder=keep, patience=2 * seconds + _PATIENCE)
    seen = _SEEN.findall(said)
    units = _UNITS.findall(said) or _LINES.findall(said)
    coverage, features, corpus = (int(word) for word in (seen[-1] if seen else ("0", "0", "0")))
    faults = [path for path in (folder / "faults").glob("*") if path.suffix != ".txt"]
    (folder / "log").write_text(said)
    growth, _, late = _child("--grow", name, folder=keep, patience=_PATIENCE)
    units_done = int(units[-1]) if units else 0
    return Found(name, units_done, coverage, features, corpus, len(faults), growth.strip() or late, ended)


def table(found: list[Found]) -> str:
    """What was found, in Markdown."""
    lines = [
        "| Target | Executions | Edges | Features | Inputs kept | Faults | Time at twice the size | Memory, bytes a byte |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        try:
            growth = json.loads(one.growth)
            slower = f"{growth['growth']} x ({growth['ms']} ms)" if growth["ms"] else "below 5 ms"
            memory = growth["bytes a byte"]
        except ValueError:
            slower, memory = one.growth or "?", "?"
        cells = (
            one.target,
            f"{one.executions:,}",
            f"{one.coverage:,}",
            f"{one.features:,}",
            f"{one.corpus:,}",
            one.faults,
        )
        lines.append(f"| {' | '.join(map(str, (*cells, slower, memory)))} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Share the minutes among the targets, one after the other, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz_coverage", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all, where none is named")
    parser.add_argument("--minutes", type=float, default=10, help="of all targets together (10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", default=str(PLACE), metavar="DIR", help="for inputs and faults")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--grow", help=argparse.SUPPRESS)
    options = parser.parse_args()
    keep = Path(options.keep)
    if options.child:
        search(options.child, keep / options.child, options.minutes * 60, options.seed)
        return 0
    if options.grow:
        grow(options.grow, keep / options.grow)
        return 0
    from bench.fuzz_targets import targets  # noqa: PLC0415 - the search imports it in its own way

    names = [target.name for target in targets()]
    unknown = [name for name in options.targets if name not in names]
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(names)}")
    wanted = options.targets or names
    found: list[Found] = []
    for name in wanted:
        found.append(run(name, options.minutes * 60 / len(wanted), options.seed, keep))
        print(found[-1], flush=True)
    print(table(found))
    for one in found:
        for path in sorted((keep / one.target / "faults").glob("*.txt")):
            print(f"{one.target} {path.name}\n{path.read_text()[-1500:]}", file=sys.stderr)
    return 1 if any(one.faults or one.ended for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
