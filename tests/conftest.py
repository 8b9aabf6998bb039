"""What holds for every test: the loop of production, and no silent gap in CI.

Fixtures belong to the folder of the part that they serve.
"""

import gc
import os
from collections.abc import Callable, Generator, Mapping
from functools import cache
from pathlib import Path
from zlib import crc32

import pytest
import uvloop
from _pytest.nodeid import NodeId
from hypothesis import settings

from penstock.core.body import envelope
from penstock.core.body.python_scanner import scan_in_python
from tests.samples import FUZZ, LONG, taken

HERE = Path(__file__).parent

# pytest-timeout bounds a test; a bound per example only fails on a busy machine.
settings.register_profile("penstock", deadline=None, print_blob=True)
settings.load_profile("penstock")
# for tests/test_coverage.py, which asks what the written examples reach and not what chance does
settings.register_profile("written", deadline=None, max_examples=1, derandomize=True, database=None)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], uvloop.Loop]]:
    """Run every coroutine test on the loop that the server uses."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def scanner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the tests, by their names, run on the scanner in Python, which is what others have who have no compiler."""
    if crc32(request.node.nodeid.encode()) & 1:
        monkeypatch.setattr(envelope, "scan", scan_in_python)


def pytest_configure() -> None:
    """Let the garbage collector leave the collected tests alone: half a gigabyte that it would look through again and again."""
    gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    gc.freeze()  # with what is garbage: to look for that takes longer than many a test
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are processors, because tests wait for others as well as they work."""
    return len(os.sched_getaffinity(0)) + 2


@cache
def _place_of(path: Path) -> str:
    return path.relative_to(HERE).as_posix()


def _name_of(item: pytest.Item) -> str:
    return item.originalname if isinstance(item, pytest.Function) else item.name


def _is_measured(item: pytest.Item) -> bool:
    """Whether tests/test_coverage.py runs it, in the process that it starts."""
    written = (
        _place_of(item.path).startswith("core/")
        and item.path.name != FUZZ
        and item.get_closest_marker("hypothesis") is None
    )
    return written and not any(word in item.nodeid for word in LONG)


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI nothing may be missing: a skip is a failure there, with the skip's own reason."""
    if os.environ.get("CI") and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"CI may skip nothing. {reason}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take a part of many like cases, where none is asked for by name, and put a test's group where the scheduler finds it.

    xdist 3.8 adds it to a name that pytest 9.2 reads no more: see https://github.com/pytest-dev/pytest-xdist/issues/1386;
    tests/test_groups.py tells when it has been mended there.
    """
    if not any("::" in argument for argument in config.args):
        kept, left = taken(items, lambda item: (_place_of(item.path), _name_of(item)))
        if any(item.path == HERE / "test_coverage.py" for item in kept):  # which runs these itself
            left += [item for item in kept if _is_measured(item)]
            kept = [item for item in kept if not _is_measured(item)]
        items[:] = kept
        config.hook.pytest_deselected(items=left)
    for item in items:
        if (named := vars(item).get("_nodeid")) is not None:
            item._id = NodeId.parse(named)
    # the longest one, begun last, would be waited for
    items.sort(key=lambda item: item.path.name != "test_coverage.py")


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    forbid_skip(report)
    return report
