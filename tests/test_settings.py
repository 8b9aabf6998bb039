"""Settings: precedence, every mistake told at once with its place, no secret shown, and a documentation that is complete."""

import subprocess
import sys
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import settings
from penstock.domain.mail import messages
from penstock.operations.logs import hide
from penstock.operations.mail_sender import compose_message
from penstock.settings import Settings, SettingsError, load

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No penstock.toml of the developer's is found."""
    monkeypatch.chdir(tmp_path)


def problems(environ: dict[str, str], file: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(environ, file=file)
    return caught.value.problems


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "etc" / "penstock.toml"
    file.parent.mkdir()
    file.write_text(text)
    return file


def test_nothing_needs_to_be_set(tmp_path: Path) -> None:
    loaded = load({})
    assert loaded.settings == Settings()
    assert (loaded.origins, loaded.file, loaded.warnings) == ({}, None, ())
    assert loaded.settings.data == tmp_path / "data"
    assert loaded.settings.database_url == f"sqlite:///{tmp_path}/data/penstock.db"
    assert loaded.settings.secret_path == tmp_path / "data" / "secrets.json"


def test_flags_come_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'port = 1\nbrand = "File"\ndrain = 1')
    environ = {"PENSTOCK_PORT": "2", "PENSTOCK_BRAND": "Environment"}
    loaded = load(environ, file=file, flags={"port": "3"})
    assert (loaded.settings.port, loaded.settings.brand, loaded.settings.drain) == (3, "Environment", 1.0)
    assert loaded.origins == {
        "port": "--port",
        "brand": "PENSTOCK_BRAND (environment)",
        "drain": f"drain ({file})",
    }


def test_the_file_is_looked_for_here_or_where_the_variable_says(tmp_path: Path) -> None:
    file = write(tmp_path, "port = 1")
    assert load({"PENSTOCK_CONFIG": str(file)}).settings.port == 1
    (tmp_path / "penstock.toml").write_text("port = 2")
    assert load({}).settings.port == 2
    assert load({}, file=file).settings.port == 1
    (problem,) = problems({"PENSTOCK_CONFIG": "nowhere.toml"})
    assert "nowhere.toml: cannot be read: No such file" in problem


def test_paths_in_the_file_are_relative_to_it(tmp_path: Path) -> None:
    file = write(tmp_path, 'data = "../var"\nsecret_file = "/run/s.json"')
    loaded = load({"PENSTOCK_DATA": ""}, file=file).settings
    assert (loaded.data.resolve(), loaded.secret_path) == (tmp_path / "var", Path("/run/s.json"))
    assert load({"PENSTOCK_DATA": "var"}, file=file).settings.data == tmp_path / "var"


@pytest.mark.parametrize("text", ["keys_reveal = false", "keys.reveal = false", "[keys]\nreveal = false"])
def test_dots_and_tables_spell_the_same_setting(tmp_path: Path, text: str) -> None:
    assert load({}, file=write(tmp_path, text)).settings.keys_reveal is False


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("PENSTOCK_KEYS_REVEAL", "no", "keys_reveal", False),
        ("PENSTOCK_KEYS_REVEAL", "On", "keys_reveal", True),
        ("PENSTOCK_KEYS_REVEAL", "0", "keys_reveal", False),
        ("PENSTOCK_DRAIN", "0.5", "drain", 0.5),
        ("PENSTOCK_DATABASE_SYNCHRONOUS", "full", "database_synchronous", "FULL"),
        (
            "PENSTOCK_TRUSTED_PROXIES",
            "127.0.0.1, 10.0.0.0/8,",
            "trusted_proxies",
            ("127.0.0.1", "10.0.0.0/8"),
        ),
        ("PENSTOCK_REDIS_URL", "", "redis_url", ""),
        ("PENSTOCK_PORT", "tcp://10.43.0.7:8484", "port", 8484),
        ("PENSTOCK_MAIL_URL", "file:/tmp/mail", "mail_url", "file:/tmp/mail"),
    ],
)
def test_text_of_the_environment(variable: str, text: str, name: str, value: object) -> None:
    assert getattr(load({variable: text}).settings, name) == value


@pytest.mark.parametrize(
    "text",
    [
        "no address", "a@", "@b", "Acme <a@b.com", "a b@c.d", "x <a b@c.d>", "x <a@b..de>", "x <a..b@c.de>", "a@b@c.de",
        "x <ü@b.de>", "x <a@bücher.de>", "=?x?q?y?= <a@b.c>", "x <=?x?q?y?=@b.c>", "Acme <no-reply@::1>", "x <<a@b.c>>",
    ],
)  # fmt: skip
def test_a_sender_that_no_mail_can_name_is_refused_at_the_start(text: str) -> None:
    assert problems({"PENSTOCK_MAIL_FROM": text}) == [
        f"PENSTOCK_MAIL_FROM (environment): {text!r} is not an address such as Penstock <no-reply@llm.example.com>"
    ]


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({"PENSTOCK_MAIL_FROM": "a@b.com"}, "a@b.com"),
        ({"PENSTOCK_MAIL_FROM": '"Acme, Inc" <a@b.com>'}, "a@b.com"),
        ({"PENSTOCK_MAIL_FROM": "Ünï (x) <a.b+c@mail.b-c.com>"}, "a.b+c@mail.b-c.com"),
        ({"PENSTOCK_MAIL_FROM": "A <a@[127.0.0.1]>"}, "a@[127.0.0.1]"),
        ({}, "no-reply@localhost"),
        ({"PENSTOCK_PUBLIC_URL": "https://[::1]:8484"}, "no-reply@[IPv6:::1]"),
        ({"PENSTOCK_PUBLIC_URL": "https://bücher.example"}, "no-reply@xn--bcher-kva.example"),
        ({"PENSTOCK_PUBLIC_URL": "https://a..b"}, "no-reply@localhost"),
        ({"PENSTOCK_BRAND": 'A "B" <C>, D'}, "no-reply@localhost"),
    ],
)
def test_whom_mails_come_from_can_be_read_in_them(environ: dict[str, str], address: str) -> None:
    mail = messages.verification("Acme", "ann@example.com", "123456")
    written = compose_message(mail, load(environ).settings.mail_from, "eml_1", 0.0)
    read = message_from_bytes(bytes(written), policy=default)
    assert [found.addr_spec for found in read["From"].addresses] == [address]


def test_every_mistake_is_told_with_its_place(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        'prot = 1\nupstream.idel = 3\ndrain = "5"\nport = true\nmax_body = 1.5\nbrand = ""\ntrusted_proxies = [1]\n'
        'colour = "red"\ndata = 7',
    )
    assert problems({"PENSTOCK_PORT": "http", "PENSTOCK_CACHE_SECONDS": "3600"}, file=file) == [
        f"prot ({file}): there is no such setting; did you mean port?",
        f"upstream.idel ({file}): there is no such setting; did you mean upstream_idle?",
        f"colour ({file}): there is no such setting",
        f"drain ({file}): '5' is not a number of seconds",
        "PENSTOCK_PORT (environment): 'http' is not a whole number from 0 to 65535",
        f"max_body ({file}): 1.5 is not a whole number from 1 to 4294967296",
        f"brand ({file}): '' is not a name of 1 to 60 characters",
        f"trusted_proxies ({file}): [1] is not a list of IP addresses or networks such as 10.0.0.0/8",
        f"data ({file}): 7 is not a path",
        "PENSTOCK_CACHE_SECONDS (environment): '3600' is not a number of seconds, at most 60",
    ]


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"PENSTOCK_DRAIN": "nan"}, "is not a number of seconds"),
        ({"PENSTOCK_DRAIN": "inf"}, "is not a number of seconds"),
        ({"PENSTOCK_DRAIN": "-1"}, "is not a number of seconds"),
        ({"PENSTOCK_KEEPALIVE": "0"}, "above 0"),
        ({"PENSTOCK_PUBLIC_URL": "https://llm.example.com/base?x"}, "a URL such as"),
        ({"PENSTOCK_TRUSTED_PROXIES": "10.0.0.1/8"}, "has host bits set"),
        ({"PENSTOCK_DATA": "a?b"}, "cannot be part of a database URL"),
        ({"PENSTOCK_DATA": "~nobody-of-this-name/x"}, "is not a path"),
        ({"PENSTOCK_BRAND": "a\x1bb"}, "cannot be printed"),
        ({"PENSTOCK_HOST": "http://localhost"}, "is not a host name"),
        ({"PENSTOCK_MAIL_URL": "sendmail"}, "is not console:, file:DIR or smtp://"),
    ],
)
def test_what_cannot_be(environ: dict[str, str], problem: str) -> None:
    (told,) = problems(environ)
    assert problem in told


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, "port 1")
    (problem,) = problems({}, file=file)
    assert problem.startswith(f"{file}: is not TOML: ")
    assert "line 1" in problem


@pytest.mark.parametrize("name", ["database_url", "redis_url", "mail_url", "metrics_token"])
def test_no_secret_is_shown(name: str, tmp_path: Path) -> None:
    variable = f"PENSTOCK_{name.upper()}"
    bad = "hunter2 hunter2"
    assert "hunter2" not in "".join(problems({variable: bad}))
    good = "hunter2" if name == "metrics_token" else "smtp://ann:hunter2@example.com/0?password=hunter2"
    good = good.replace("smtp", "redis") if name == "redis_url" else good
    loaded = load({variable: good}).settings
    assert getattr(loaded, name) == good
    assert "hunter2" not in settings.shown_value(loaded, name)
    assert "hunter2" not in repr(loaded)
    assert "hunter2" not in repr(tmp_path)


@pytest.mark.parametrize(
    "address",
    [
        "smtp://ann@example.com:hunter2@smtp.example.com:587",
        "smtp://ann:hunter@2hunter2@smtp.example.com",
        "smtp://:hunter2@hunter2@smtp.example.com",
        "smtps://ann%40example.com:hunter2@smtp.example.com",
    ],
)
def test_a_password_is_hidden_wherever_an_at_sign_stands(address: str) -> None:
    loaded = load({"PENSTOCK_MAIL_URL": address}).settings
    shown = settings.shown_value(loaded, "mail_url")
    assert "hunter" not in shown
    assert "smtp.example.com" in shown
    assert "hunter" not in hide(f"cannot reach {address} now")


def test_a_misspelt_variable_is_told_and_harmless() -> None:
    loaded = load(
        {"PENSTOCK_MAX_BDY": "1", "PENSTOCK_SERVICE_HOST": "10.0.0.1", "PENSTOCK_PORT_8484_TCP": "x"}
    )
    assert loaded.warnings == (
        "PENSTOCK_MAX_BDY is set but means nothing here; did you mean PENSTOCK_MAX_BODY?",
    )


def test_no_bound_for_keys_means_none_for_addresses() -> None:
    assert load({"PENSTOCK_ERRORS_PER_MINUTE": "0"}).settings.errors_per_minute_address == 0
    assert load({"PENSTOCK_ERRORS_PER_MINUTE": "5"}).settings.errors_per_minute_address == 60


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:9000"),
        ({"PENSTOCK_HOST": "::1"}, "http://[::1]:9000"),
        ({"PENSTOCK_PUBLIC_URL": "https://llm.example.com"}, "https://llm.example.com"),
        ({"PENSTOCK_PUBLIC_URL": "http://10.0.0.7:80/"}, "http://10.0.0.7:80"),
    ],
)
def test_the_url_that_callers_are_told(environ: dict[str, str], url: str) -> None:
    assert load(environ).settings.url(9000) == url


@given(st.dictionaries(st.sampled_from([row.variable for row in settings.rows()]), st.text()))
def test_any_text_is_a_setting_or_a_complaint(environ: dict[str, str]) -> None:
    try:
        loaded = load(environ)
    except SettingsError as error:
        told = error.problems
    else:
        told = [f"{place}: " for place in loaded.origins.values()]
    assert all(problem.startswith(tuple(f"{name} (environment): " for name in environ)) for problem in told)


def test_every_setting_is_documented() -> None:
    assert settings.markdown() in DOCS.read_text(), (
        "put the output of `penstock settings --markdown` into docs/configuration.md"
    )
    assert all(row.description.endswith(".") and row.default and row.expects for row in settings.rows())


def test_reading_settings_loads_little() -> None:
    """The server's start and every command pay for what this module imports."""
    program = "import sys; from penstock.settings import load; load({}); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert not {"pydantic", "sqlalchemy", "asyncio", "cryptography"} & set(loaded.split())
