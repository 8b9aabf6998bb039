"""A pytest plugin for tests/test_coverage.py: what is measured are the tests, not what calls them.

Python 3.11 tells a tracer of each line that runs, and most lines of many small tests are pytest's own.
"""

import sys
from collections.abc import Generator

import pytest

_TRACER = sys.gettrace()
"""Coverage's, which is on while this is loaded."""


def pytest_collection_finish() -> None:
    """From here on only tests and their fixtures are measured; until here modules were loaded, which counts as well."""
    sys.settrace(None)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    sys.settrace(_TRACER)
    try:
        return (yield)
    finally:
        sys.settrace(None)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    before = sys.gettrace()  # one fixture is set up in another's midst
    sys.settrace(_TRACER)
    try:
        return (yield)
    finally:
        sys.settrace(before)
