"""What is posted is signed as the standard says, and goes to addresses of the world alone, or to listed ones."""

import base64
import ipaddress
from pathlib import Path

import pytest

from penstock.domain.notifications.event_kinds import EVENT_KINDS
from penstock.domain.notifications.rules import Rule
from penstock.domain.notifications.signed_address import SignedAddress, host_of, signed_address
from penstock.errors import InvalidRequest
from penstock.operations.export_files import append_lines
from penstock.operations.signed_post import NotTaken, _resolved, may_reach
from penstock.providers.tokens.aws import IamCredentials, Presigned, signed_query
from penstock.settings.zones import zone_of

LISTED = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00:1::/32"))
ROOT = Path(__file__).parents[2]


def test_the_signature_is_what_the_standards_own_library_gives() -> None:
    """standardwebhooks 1.1.0 for Python, with the secret and the id of its own tests."""
    address = SignedAddress("https://x.example", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLuSw")
    body = b'{"test": 2432232314}'
    headers = dict(address.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body))
    assert headers[b"webhook-signature"] == b"v1,Ag5hMlu6Po1AphfUJ/B7cUxKWt27/SdjjyV2uJc2YT0="
    assert headers[b"webhook-id"] == b"msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert headers[b"webhook-timestamp"] == b"1614265330"


def test_a_secret_has_256_bits_and_shows_itself_to_nobody() -> None:
    made = signed_address("https://hooks.example.com:8443/canary?token=canary", lambda count: b"\7" * count)
    assert made.secret.startswith("whsec_")
    assert base64.b64decode(made.secret.removeprefix("whsec_")) == b"\7" * 32
    assert made.target == b"/canary?token=canary"
    assert host_of(made.place) == "hooks.example.com:8443"
    assert "canary" not in repr(made)
    assert made.secret not in repr(made)
    assert signed_address("https://h.example", bytes).target == b"/"
    assert host_of(signed_address("https://[2606:4700::1]/x", bytes).place) == "[2606:4700::1]"


@pytest.mark.parametrize(
    "url",
    [
        "", "http://hooks.example.com/canary", "https://user:canary@hooks.example.com/", "https://h.example/#canary",
        "https:///canary", "ftp://h.example/canary", "https://h.example/can ary", "https://h.example/canary\r\nx: y",
        "https://h.example/caña", "https://h.example:0/canary", "https://h.example:x/canary", "javascript:canary",
        "https://h.example/" + "canary" * 400, "https://[::1%25eth0]/canary", "https://h.example\\canary",
    ],
)  # fmt: skip
def test_an_address_is_https_without_a_user_and_its_refusal_does_not_repeat_it(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        signed_address(url, bytes)
    assert "canary" not in refused.value.message
    assert refused.value.param == "url"


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("::ffff:8.8.8.8", True), ("64:ff9b::808:808", True),
        ("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("fd00:1::5", True), ("64:ff9b::a01:203", True),
        ("127.0.0.1", False), ("::1", False), ("::ffff:127.0.0.1", False), ("::", False), ("0.0.0.0", False),
        ("10.2.0.1", False), ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False),
        ("::ffff:169.254.169.254", False), ("64:ff9b::a9fe:a9fe", False), ("2002:7f00:1::", False), ("100.64.0.1", False),
        ("224.0.0.1", False), ("ff02::1", False), ("fe80::1", False), ("fd00:2::5", False), ("240.0.0.1", False),
        ("255.255.255.255", False), ("::127.0.0.1", False), ("64:ff9b:1::1", False), ("198.18.0.1", False),
    ],
)  # fmt: skip
def test_only_the_world_and_what_is_listed_is_reached(address: str, reached: bool) -> None:
    assert may_reach(ipaddress.ip_address(address), LISTED) is reached


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3"])
async def test_what_goes_in_the_clear_goes_to_listed_networks_alone(address: str) -> None:
    networks = [ipaddress.ip_network("10.0.0.0/8")]
    assert await _resolved(address, 4318, networks, listed=True) == address
    assert await _resolved("93.184.216.34", 443, networks, listed=False) == "93.184.216.34"
    for world in ("93.184.216.34", "2606:2800:220:1::1", "127.0.0.1"):
        with pytest.raises(NotTaken, match="without TLS"):
            await _resolved(world, 4318, networks, listed=True)


def test_a_put_is_signed_as_the_vendors_own_library_signs_links() -> None:
    """botocore 1.x, S3SigV4QueryAuth, with the same key, name and time."""
    place = "/my-bucket/receipts%20of/2027/01/15/dst_x-000000000001-000000000009.jsonl"
    host, region = "s3.eu-central-1.amazonaws.com", "eu-central-1"
    put = Presigned("PUT", host, place, {}, region, "s3", 300, 1_800_000_000.0, digest="UNSIGNED-PAYLOAD")
    signed = signed_query(IamCredentials("AKIAEXAMPLE", b"secret/EXAMPLE+key"), put)
    assert signed.endswith("=5e58b1cfe4c10032ee63976b9ec5da9a80b72ae334a976ef49f9534d1faae826")


# ---- rules and files


@pytest.mark.parametrize(
    ("quiet", "at", "due"),
    [
        ("", "08:00", "08:00"), ("22:00-07:00", "08:00", "08:00"), ("22:00-07:00", "23:30", "07:00"),
        ("22:00-07:00", "06:59", "07:00"), ("22:00-07:00", "07:00", "07:00"), ("12:00-13:30", "12:00", "13:30"),
        ("12:00-13:30", "13:30", "13:30"), ("12:00-13:30", "11:59", "11:59"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_quiet_hours_are_waited_for_in_the_zone(quiet: str, at: str, due: str, zone: str) -> None:
    offset = 330 if zone == "Asia/Kolkata" else 0
    rule = Rule("r", "*", "info", "w", None, True, quiet, 0)

    def minutes(text: str) -> int:
        return 60 * int(text[:2]) + int(text[3:])

    now = (2 * 1440 + minutes(at) - offset) * 60_000
    found = rule.due_at(now, zone_of(zone))
    assert (found // 60_000 + offset) % 1440 == minutes(due)
    assert 0 <= found - now < 86_400_000


def test_a_torn_line_is_cut_off_and_files_turn(tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    append_lines(folder, b'{"a":1}\n', now=0.0, most=20)
    (file,) = folder.iterdir()
    assert file.name == "1970-01-01.0001.jsonl"
    with file.open("ab") as open_file:
        open_file.write(b'{"torn":')
    append_lines(folder, b'{"b":2}\n{"c":3}\n', now=1.0, most=20)
    assert file.read_bytes() == b'{"a":1}\n{"b":2}\n{"c":3}\n'
    append_lines(folder, b'{"d":4}\n', now=2.0, most=20)
    append_lines(folder, b'{"e":5}\n', now=86_400.0, most=20)
    assert sorted(it.name for it in folder.iterdir()) == [
        "1970-01-01.0001.jsonl",
        "1970-01-01.0002.jsonl",
        "1970-01-02.0001.jsonl",
    ]
    (folder / "1970-01-02.0001.jsonl").write_bytes(b"x" * 5)
    append_lines(folder, b'{"f":6}\n', now=86_400.0, most=20)
    assert (folder / "1970-01-02.0001.jsonl").read_bytes() == b'{"f":6}\n', "nothing of it was whole"


def test_each_file_of_rows_begins_with_its_head_whatever_was_torn(tmp_path: Path) -> None:
    written = tmp_path / "1970-01-01.0001.csv"
    written.write_bytes(b"a,b")
    (tmp_path / "1970-01-01.0009.jsonl").write_bytes(b"{}\n")
    for row in (b"1,2\n", b"3,4\n", b"5,6\n"):
        append_lines(tmp_path, row, now=0, most=10, ending="csv", head=b"a,b\n")
    assert written.read_bytes() == b"a,b\n1,2\n3,4\n"
    assert (tmp_path / "1970-01-01.0002.csv").read_bytes() == b"a,b\n5,6\n"


def test_the_page_of_events_is_the_table() -> None:
    page = (ROOT / "docs" / "operations" / "notifications.md").read_text("utf-8")
    for row in EVENT_KINDS.values():
        assert f"| `{row.name}` | {row.severity} | {row.what} |" in page
    assert page.count("| `") == len(EVENT_KINDS)
