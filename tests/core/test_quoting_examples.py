"""One example of each thing that quoting does, place by place; the properties are in ``test_quoting.py``."""

import pytest

from penstock.core import quoting

ESC, RLO, FAR, HALF = "\x1b", "\u202e", "\U000e0001", "\ud83d"


def test_what_is_plain_comes_back_as_it_was() -> None:
    plain = "Ann-7"
    for function in (
        quoting.visible, quoting.terminal_text, quoting.log_value, quoting.shell_word, quoting.header_text,
        quoting.csv_cell, quoting.json_text, quoting.toml_key, quoting.url_path, quoting.url_host,
    ):  # fmt: skip
        assert function(plain) == plain
    assert quoting.shell_option("email", plain) == "--email Ann-7"
    assert quoting.json_string(plain) == quoting.toml_string(plain) == '"Ann-7"'
    assert quoting.csv_cell(7) == 7


@pytest.mark.parametrize(
    ("character", "escape"), [(ESC, "\\x1b"), (RLO, "\\u202e"), (FAR, "\\U000e0001"), (HALF, "\\ud83d")]
)
def test_what_is_not_printed_is_written_out(character: str, escape: str) -> None:
    assert quoting.visible(f"a{character}b") == f"a{escape}b"
    assert quoting.terminal_text(f"a\n{character}") == f"a\n{escape}"


def test_a_shell_gets_one_word() -> None:
    assert quoting.shell_word("`id`") == "'`id`'"
    assert quoting.shell_word(f"a{ESC}") == "$'\\x61\\x1b'"
    assert quoting.shell_option("email", "--admin@x") == "--email=--admin@x"


def test_a_log_a_header_and_a_table() -> None:
    assert quoting.log_value("a b") == '"a b"'
    assert quoting.log_value(f"a{ESC}") == '"a\\u001b"'
    assert quoting.header_text("=?utf-8?q?x?=") == "= ?utf-8?q?x?="
    assert quoting.csv_cell("=1+1") == "'=1+1"
    assert quoting.csv_cell("  =1") == "'  =1"
    assert quoting.csv_cell("\t1") == "'\t1"


def test_json_toml_and_urls() -> None:
    assert quoting.json_text('{"a":\n"\u202e\x7f"}') == '{"a":\n"\\u202e\\u007f"}'
    assert quoting.toml_string(f"{RLO}{FAR}") == '"\\u202E\\U000E0001"'
    assert quoting.toml_key("a b") == '"a b"'
    assert quoting.url_path("/a b/$(id)") == "/a%20b/%24%28id%29"
    assert quoting.url_host("[::1]:80$") == "[::1]:80%24"
