"""The scanner: one pass over a JSON object that checks it whole and finds its members.

The contract, for a caller's body: where ``scan`` gives spans under the rules of a format, the long way (``envelope.read_body``
and ``envelope.bounded``, under the same bound on values) would accept the body, find nothing in it to change or to tell
because of what it costs, and read the same out of it. Where it gives None, nothing is said: the long way decides, and has the
words for what is wrong. So a scanner is strict where that is cheap. It gives None for

- what is no valid JSON or UTF-8, is nested too deeply, or has more values than the rules allow;
- a name at the top level that is not in the rules, is there twice, or is written with an escape;
- a value of another form than the rules have for its member, or a required member that is not there;
- tools and items that may name a model, or may run one: by the words that the table of cost fields looks for, escapes included.

There are two that agree (but on how deep is too deep): ``_native.c``, built where there is a compiler, and
``python_scanner.py``. A test holds them equal on damaged bodies, and both to the contract.
"""

from collections.abc import Callable
from contextlib import suppress

from penstock.core.body.python_scanner import scan_in_python
from penstock.core.body.scan_rules import ScanRules, Spans

Scanner = Callable[[bytes, int, int, ScanRules], Spans | None]

scan: Scanner = scan_in_python
"""The places of the wanted members of the object in ``data[start:end]``, or None where the long way has to look at it.

Raises ``ValueError`` where there is no such range.
"""
with suppress(ImportError):
    from penstock.core.body import _native

    scan = _native.scan
BOUNDS_NESTING = scan is not scan_in_python
"""Whether what ``scan`` takes is nested no deeper than ``MAX_DEPTH``; else only the decoder's own bound holds."""
KIND = "Python" if scan is scan_in_python else "native"
"""Which of the two ``scan`` is, as an operator is told."""
