"""Coming in: sign-up, codes, sign-in, sessions, the second factor, a forgotten password; and those who try to break in."""

import asyncio
import re
from pathlib import Path

import pytest
from pwdlib import PasswordHash
from pyotp.totp import TOTP
from sqlalchemy import func, select

from penstock.app import Service
from penstock.domain.accounts import accounts
from penstock.domain.accounts.passwords import (
    NOBODY,
    BadPassword,
    Checked,
    Cost,
    PasswordHasher,
    check_choice,
)
from penstock.domain.accounts.sessions import Lifetime, sessions_of, tidy, touch
from penstock.errors import Overloaded
from penstock.providers.secrets import Secrets
from penstock.settings import Settings
from penstock.store.sql.schema import outbox, sessions, users
from tests.site.page_reader import COOKIE, PASSWORD, Hotel, Reader, open_hotel

ANN = "ann@example.com"
OTHER = "another long sentence"


async def ask(hotel: Hotel, key: str) -> int:
    """The status of a small request with this key."""
    answer = await hotel.house.http("GET", "/v1/models", key)
    return answer.status


# ---- sign up


async def test_a_key_exists_from_sign_up_and_works_once_the_address_is_verified(hotel: Hotel) -> None:
    reader = hotel.reader()
    await reader.sign_up(ANN)
    async with hotel.house.store.database.connect() as conn:
        user = await accounts.user_by_email(conn, ANN)
    before = await hotel.house.key(user.id)
    refused = await hotel.house.http("GET", "/v1/models", before)
    assert (refused.status, refused.code) == (403, "email_not_verified")
    answer = await reader.post("/verify", code=hotel.mailbox.code(ANN))
    assert answer.headers["location"] == "/welcome"
    assert await ask(hotel, await reader.key()) == 200


async def test_a_code_is_not_in_the_subject_and_not_in_an_address(hotel: Hotel) -> None:
    reader = hotel.reader()
    await reader.sign_up(ANN)
    code = hotel.mailbox.code(ANN)
    (mail,) = hotel.mailbox.all()
    assert code not in str(mail["subject"])
    assert "text/html" in {part.get_content_type() for part in mail.walk()}


async def test_a_code_is_good_for_five_tries(hotel: Hotel) -> None:
    reader = hotel.reader()
    await reader.sign_up(ANN)
    right = hotel.mailbox.code(ANN)
    wrong = "000000" if right != "000000" else "000001"
    for left in ("4 more tries", "3 more", "2 more", "1 more try", "Ask for a new one"):
        assert left in (await reader.post("/verify", code=wrong)).text
    answer = await reader.post("/verify", code=right)
    assert answer.status_code == 400
    assert "tried too often" in answer.text


async def test_a_code_is_good_once_for_ten_minutes_and_in_its_own_browser(hotel: Hotel) -> None:
    reader, stranger = hotel.reader(), hotel.reader()
    await reader.sign_up(ANN)
    code = hotel.mailbox.code(ANN)
    assert (await stranger.post("/verify", code=code)).headers["location"] == "/signup"
    hotel.house.clock.now += 601
    assert "more than ten minutes old" in (await reader.post("/verify", code=code)).text
    assert (await reader.post("/verify/resend")).status_code == 303
    await hotel.posted()
    fresh = hotel.mailbox.code(ANN)
    token = reader.token
    assert (await reader.post("/verify", code=fresh)).headers["location"] == "/welcome"
    assert reader.token != token, "the browser's token is another one now"
    assert (await reader.post("/verify", code=fresh)).headers["location"] == "/signup"


async def test_guesses_are_counted_by_address_whatever_is_sent_anew(hotel: Hotel) -> None:
    """Thirty checks a day: with all the resends and networks that somebody may have."""
    checked = 0
    for hour in range(16):  # to the end of the day
        for turn in range(8):
            guesser = hotel.reader(f"198.51.{hour}.{turn}")
            answer = await guesser.post("/signup", email=ANN, password=PASSWORD)
            if answer.status_code == 303:
                for _ in range(3):
                    said = await guesser.post("/verify", code="999999")
                    checked += "not the code that was sent" in said.text
            await guesser.http.aclose()
        hotel.house.clock.now += 3600
    assert 0 < checked <= 30


async def test_an_address_with_an_account_is_answered_like_any_other(hotel: Hotel) -> None:
    ann = await hotel.reader().join(ANN)
    hotel.house.clock.now += 3600
    answers = []
    for address in (ANN, "new@example.com"):
        stranger = hotel.reader()
        hashes = hotel.hasher.made
        first = await stranger.post("/signup", email=address, password=OTHER)
        second = await stranger.get("/verify")
        third = await stranger.post("/verify", code="123456")
        plain = [
            re.sub(r"value=\"[0-9a-f]{32}\"", "", page.text).replace(address, "X") for page in (second, third)
        ]
        answers.append((first.status_code, first.headers["location"], plain, hotel.hasher.made - hashes))
    assert answers[0] == answers[1]
    await hotel.posted()
    assert "You have an account already" in hotel.mailbox.texts(ANN)[-1]
    assert await ann.is_in()
    assert (await hotel.reader().sign_in(ANN, OTHER)).status_code == 400
    assert (await hotel.reader().sign_in(ANN)).headers["location"] == "/dashboard"


async def test_the_password_is_that_of_the_browser_that_verified(hotel: Hotel) -> None:
    """Whoever signs up first with an address that is not theirs has nothing from it."""
    thief, owner = hotel.reader("198.51.100.1"), hotel.reader("198.51.100.2")
    await thief.sign_up(ANN, "the password of a thief")
    hotel.house.clock.now += 61
    await owner.join(ANN, OTHER)
    assert (await hotel.reader().sign_in(ANN, "the password of a thief")).status_code == 400
    assert (await hotel.reader().sign_in(ANN, OTHER)).status_code == 303


async def test_sign_up_can_be_closed_or_be_for_some_domains(tmp_path: Path) -> None:
    async with open_hotel(tmp_path / "closed", signup="closed") as hotel:
        answer = await hotel.reader().post("/signup", email=ANN, password=PASSWORD)
        assert answer.status_code == 403
        assert 'href="/signup"' not in (await hotel.reader().get("/")).text
    async with open_hotel(tmp_path / "some", signup_domains=("example.org",)) as hotel:
        answer = await hotel.reader().post("/signup", email=ANN, password=PASSWORD)
        assert "Sign up with an address at example.org" in answer.text
        await hotel.reader().join("ann@example.org")


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "password1",
        "Password123!",
        "12345678",
        "aaaaaaaaaa",
        "ann@example.com",
        "abcdefgh",
        "x" * 1025,
    ],
)
def test_obvious_passwords_are_refused(password: str) -> None:
    with pytest.raises(BadPassword):
        check_choice(password, ANN)


@pytest.mark.parametrize("password", ["correct horse", "ä" * 5 + "öü-!", "x y" * 300, "tr0ub4dor&3"])
def test_other_passwords_are_taken(password: str) -> None:
    check_choice(password, ANN)


@pytest.mark.parametrize("typed", ["a.nn+probe@gmail.com", "ANN@gmail.com", "ann@googlemail.com"])
async def test_how_an_owner_wrote_the_address_is_not_told(hotel: Hotel, typed: str) -> None:
    await hotel.reader().join("Ann@gmail.com")
    hotel.house.clock.now += 3601
    stranger = hotel.reader()
    await stranger.post("/signup", email=typed, password=OTHER)
    await stranger.post("/forgot", email=typed)
    for path in ("/verify", "/reset"):
        assert "Ann@gmail.com" not in (await stranger.get(path)).text
    hotel.house.clock.now += 61
    await stranger.post("/forgot", email=typed)
    hotel.house.clock.now += 61
    await stranger.post("/reset/resend")
    await hotel.posted()
    assert {str(mail["to"]) for mail in hotel.mailbox.all()} == {"Ann@gmail.com"}, "never to another spelling"


async def test_signing_in_elsewhere_before_the_code_sends_another(hotel: Hotel) -> None:
    await hotel.reader().sign_up(ANN)
    hotel.house.clock.now += 61
    other = hotel.reader()
    assert (await other.sign_in(ANN)).headers["location"] == "/verify"
    await hotel.posted()
    assert (await other.post("/verify", code=hotel.mailbox.code(ANN))).headers["location"] == "/welcome"


async def test_signing_in_elsewhere_at_once_says_that_a_code_is_on_its_way(hotel: Hotel) -> None:
    await hotel.reader().sign_up(ANN)
    assert (await hotel.reader().sign_in(ANN)).headers["location"] == "/verify"
    other = hotel.reader()
    answer = await other.sign_in(ANN)
    assert answer.status_code == 429
    assert "not verified yet" in answer.text
    assert "Too many tries" not in answer.text
    wrong = await other.sign_in(ANN, "another long sentence")
    assert "not verified" not in wrong.text


async def test_verifying_an_address_again_ends_the_sessions_from_before(hotel: Hotel) -> None:
    """An operator takes the verification back because somebody else may be signed in."""
    before = await hotel.reader().join(ANN)
    async with hotel.house.store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, ANN)
        await accounts.change_user(conn, user.id, accounts.Changes(verified=False), now=1)
    hotel.house.clock.now += 61
    owner = hotel.reader()
    assert (await owner.sign_in(ANN)).headers["location"] == "/verify"
    await hotel.posted()
    assert (await owner.post("/verify", code=hotel.mailbox.code(ANN))).headers["location"] == "/welcome"
    assert await owner.is_in()
    assert not await before.is_in()


# ---- sign in


async def test_sign_in_and_out(hotel: Hotel) -> None:
    await hotel.reader().join(ANN)
    reader = hotel.reader()
    assert not await reader.is_in()
    assert "do not belong together" in (await reader.sign_in(ANN, OTHER)).text
    assert (await reader.sign_in(ANN)).headers["location"] == "/dashboard"
    assert await reader.is_in()
    token = reader.token
    assert (await reader.post("/signout")).status_code == 303
    assert not await reader.is_in()
    reader.http.cookies.set(COOKIE, token)
    assert not await reader.is_in(), "the session is gone, not the cookie alone"


async def test_an_unknown_address_costs_the_same_work_and_gets_the_same_answer(hotel: Hotel) -> None:
    await hotel.reader().join(ANN)
    answers = []
    for address in (ANN, "nobody@example.com", "not an address"):
        hashes = hotel.hasher.made
        answer = await hotel.reader().sign_in(address, OTHER)
        body = re.sub(r"value=\"[^\"]*\"", "", answer.text)
        answers.append((answer.status_code, body, hotel.hasher.made - hashes))
    assert answers[0] == answers[1] == answers[2]
    hotel.house.clock.now += 61
    forgot = [await hotel.reader().post("/forgot", email=address) for address in (ANN, "nobody@example.com")]
    assert {(answer.status_code, answer.headers["location"]) for answer in forgot} == {(303, "/reset")}


async def test_wrong_passwords_shut_out_a_network_and_not_the_owner(hotel: Hotel) -> None:
    await hotel.reader().join(ANN)
    thief = hotel.reader("198.51.100.7")
    statuses = [(await thief.sign_in(ANN, f"a wrong guess {n}")).status_code for n in range(10)]
    assert statuses == [400] * 8 + [429] * 2
    late = await thief.sign_in(ANN)
    assert late.status_code == 429
    assert int(late.headers["retry-after"]) > 0
    assert (await hotel.reader("203.0.113.5").sign_in(ANN)).status_code == 303


async def test_guesses_from_everywhere_do_not_shut_out_the_owner(hotel: Hotel) -> None:
    await hotel.reader().join(ANN)
    for n in range(20):
        thief = hotel.reader(f"198.51.100.{n}")
        for guess in range(8):
            assert (await thief.sign_in(ANN, f"a wrong guess {guess}")).status_code == 400
    assert (await hotel.reader("203.0.113.5").sign_in(ANN)).status_code == 303


async def test_a_flood_of_sign_ins_is_bounded() -> None:
    hasher = PasswordHasher(at_once=2, waiting=18)
    running = [0]
    real = hasher._hash

    class Watched(PasswordHash):
        def verify_and_update(  # the library's own names
            self,
            password: str | bytes,
            hash: str | bytes,  # noqa: A002
        ) -> tuple[bool, str | None]:
            running.append(running[-1] + 1)
            try:
                return real.verify_and_update(password, hash)
            finally:
                running.append(running[-1] - 1)

    hasher._hash = Watched(real.hashers)
    done = await asyncio.gather(*(hasher.check("guess", None) for _ in range(100)), return_exceptions=True)
    refused = [one for one in done if isinstance(one, Overloaded)]
    assert len(refused) == 100 - 20
    assert max(running) <= 2
    assert all(one.retry_after for one in refused)


async def test_what_is_checked_for_nobody_is_the_work_of_anybody() -> None:
    hasher = PasswordHasher(at_once=1, waiting=1)
    made = await hasher.hash("a long enough sentence")
    assert made.split("$")[:4] == NOBODY.split("$")[:4], "the same parameters"
    assert [len(part) for part in made.split("$")] == [len(part) for part in NOBODY.split("$")]
    assert not (await hasher.check("anything", None)).good
    assert not hasher._hash.verify("anything", NOBODY), "a hash that can be checked, and not a broken one"


async def test_a_server_hashes_at_the_price_of_production_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    service = Service(Settings(data=tmp_path), Secrets({}))
    async with service.running():
        assert service.site_process is not None
        made = await service.site_process.hasher.hash("a long enough sentence")
    assert made.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_a_hash_that_was_made_at_another_price_is_renewed() -> None:
    cheap = PasswordHasher(at_once=1, waiting=1, cost=Cost(passes=1, kibibytes=8))
    old = await cheap.hash("a long enough sentence")
    assert old.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert await cheap.check("a long enough sentence", old) == Checked(True)
    renewed = (await PasswordHasher(at_once=1, waiting=1).check("a long enough sentence", old)).renewed
    assert renewed is not None
    assert renewed.split("$")[:4] == NOBODY.split("$")[:4]


# ---- forms


async def test_a_form_from_elsewhere_is_refused(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "same-site"},
    ):
        answer = await reader.post("/settings/leave", headers, current=PASSWORD)
        assert answer.status_code == 403, headers
    without = await reader.http.post("/settings/leave", data={"current": PASSWORD})
    assert without.status_code == 403
    guessed = await reader.http.post("/settings/leave", data={"current": PASSWORD, "form_token": "0" * 32})
    assert guessed.status_code == 403
    async with hotel.house.store.database.connect() as conn:
        assert (await accounts.user_by_email(conn, ANN)).leaving_at is None


PUBLIC = "http://llm.example.com:18041"


@pytest.mark.parametrize(
    ("public", "headers", "status"),
    [
        (PUBLIC, {"host": "llm.example.com", "origin": PUBLIC}, 303),  # nginx with $host
        (PUBLIC, {"host": "penstock", "origin": PUBLIC}, 303),  # nginx's default: the name of proxy_pass
        (PUBLIC, {"host": "127.0.0.1:8484", "origin": "http://127.0.0.1:8484"}, 303),  # past the proxy
        ("https://llm.example.com:443", {"host": "penstock", "origin": "https://llm.example.com"}, 303),
        ("http://[fd00::1]:80", {"host": "penstock", "origin": "http://[fd00::1]"}, 303),
        ("", {"host": "llm.example.com:80", "origin": "http://llm.example.com"}, 303),
        ("", {"host": "llm.example.com", "origin": "https://llm.example.com"}, 303),
        (PUBLIC, {"host": "llm.example.com", "origin": "http://llm.example.com:18042"}, 403),
        (PUBLIC, {"host": "penstock", "origin": "https://llm.example.com:18041"}, 403),
        (PUBLIC, {"host": "penstock", "origin": PUBLIC, "sec-fetch-site": "cross-site"}, 403),
        (PUBLIC, {"host": "penstock", "origin": "ftp://penstock"}, 403),
        (PUBLIC, {"host": "penstock", "origin": "http://llm.example.com:x"}, 403),
        ("", {"host": "llm.example.com", "origin": PUBLIC}, 403),
    ],
)
async def test_forms_are_taken_from_where_browsers_find_the_pages(
    tmp_path: Path, public: str, headers: dict[str, str], status: int
) -> None:
    async with open_hotel(tmp_path, public_url=public) as hotel:
        answer = await hotel.reader().post("/signup", headers, email=ANN, password=PASSWORD)
        assert answer.status_code == status, answer.text


async def test_a_form_from_another_address_is_told_both(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, public_url=PUBLIC) as hotel:
        headers = {"origin": "http://llm.example.com:18042/<b>"}
        answer = await hotel.reader().post("/signup", headers, email=ANN, password=PASSWORD)
        assert "http://llm.example.com:18042/&lt;b&gt;" in answer.text
        assert PUBLIC in answer.text


async def test_a_form_that_is_too_large_or_no_form(hotel: Hotel) -> None:
    reader = hotel.reader()
    await reader.get("/signin")
    assert (await reader.http.post("/signin", content=b"x" * 70_000)).status_code == 413
    assert (await reader.http.post("/signin", content=b"email=%ff%fe&password=%ff")).status_code == 400


async def test_cookies_are_closed_to_scripts_and_other_sites(tmp_path: Path) -> None:
    async with open_hotel(tmp_path) as hotel:
        plain = (await hotel.reader().get("/signin")).headers["set-cookie"]
        assert plain.startswith("penstock=")
        assert "HttpOnly; SameSite=Lax" in plain
        assert "Secure" not in plain
        secure = await hotel.reader("203.0.113.9").get("/signin", headers={"x-forwarded-proto": "https"})
        cookie = secure.headers["set-cookie"]
        assert cookie.startswith("__Host-penstock=")
        assert "Path=/;" in cookie
        assert cookie.endswith("; Secure")


async def test_where_to_go_after_signing_in_is_a_page_of_ours(hotel: Hotel) -> None:
    await hotel.reader().join(ANN)
    for wanted, path in (
        ("/keys?x=1", "/keys?x=1"),
        ("https://evil.example", "/dashboard"),
        ("//evil.example", "/dashboard"),
    ):
        answer = await hotel.reader().post("/signin", email=ANN, password=PASSWORD, next=wanted)
        assert answer.headers["location"] == path
    asked = await hotel.reader().get("/requests?model=x")
    assert asked.headers["location"] == "/signin?next=/requests%3Fmodel%3Dx"


# ---- sessions


async def test_sessions_are_listed_ended_and_end_by_themselves(hotel: Hotel) -> None:
    first = await hotel.reader().join(ANN)
    second = hotel.reader()
    await second.sign_in(ANN)
    page = (await first.get("/settings")).text
    (other,) = re.findall(r'name="id" value="(ses_\w+)"', page)
    stranger = await hotel.reader().join("bob@example.com")
    await stranger.post("/settings/sessions/end", id=other)
    assert await second.is_in(), "a stranger cannot end it"
    await first.post("/settings/sessions/end", id=other)
    assert not await second.is_in()
    assert await first.is_in()
    hotel.house.clock.now += 86_400 + 61
    assert not await first.is_in(), "not used for a day"
    await second.sign_in(ANN)
    for _ in range(20):
        hotel.house.clock.now += 80_000
        await second.get("/settings")
    assert not await second.is_in(), "fourteen days at most, however used"


async def test_who_has_not_given_the_second_factor_is_not_listed_as_signed_in(hotel: Hotel) -> None:
    owner = await hotel.reader().join(ANN)
    await switch_on(owner, hotel)
    await hotel.reader().sign_in(ANN)
    assert re.findall(r'name="id" value="(ses_\w+)"', (await owner.get("/settings")).text) == []


async def test_sessions_that_are_over_are_tidied_away_and_no_others(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    lifetime = Lifetime(idle=1000, longest=5000)
    async with hotel.house.store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, ANN)
        (session,) = await sessions_of(conn, user.id, Lifetime(10**9, 10**9), now=0)
        begun = session.created_at
        await touch(conn, session, "", now=begun + 900)
        assert await tidy(conn, lifetime, now=begun + 1900) == 0
        await touch(conn, session, "", now=begun + 4900)
        assert await tidy(conn, lifetime, now=begun + 5000) == 0
        assert await tidy(conn, lifetime, now=begun + 5001) == 1, "as old as it may be"
    assert not await reader.is_in()
    await reader.sign_in(ANN)
    async with hotel.house.store.database.transaction() as conn:
        (session,) = await sessions_of(conn, user.id, Lifetime(10**9, 10**9), now=0)
        assert await tidy(conn, lifetime, now=session.seen_at + 1001) == 1, "not used for so long"


async def test_a_disabled_account_has_no_session(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    async with hotel.house.store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, ANN)
        await accounts.change_user(conn, user.id, accounts.Changes(disabled=True), now=1)
    assert not await reader.is_in()
    refused = await hotel.reader().sign_in(ANN)
    assert refused.status_code == 403
    assert "disabled" in refused.text


# ---- a forgotten password


async def test_a_new_password_ends_every_session_and_is_told(hotel: Hotel) -> None:
    before = await hotel.reader().join(ANN)
    reader = hotel.reader()
    hotel.house.clock.now += 61
    assert (await reader.post("/forgot", email=ANN)).headers["location"] == "/reset"
    await hotel.posted()
    code = hotel.mailbox.code(ANN)
    weak = await reader.post("/reset", code=code, password="password")
    assert "first passwords" in weak.text
    answer = await reader.post("/reset", code=code, password=OTHER)
    assert answer.headers["location"].startswith("/dashboard")
    assert await reader.is_in()
    assert not await before.is_in()
    assert (await hotel.reader().sign_in(ANN)).status_code == 400
    await hotel.posted()
    assert "Every other session" in hotel.mailbox.texts(ANN)[-1]


async def test_an_account_of_the_command_line_gets_its_password_by_mail(hotel: Hotel) -> None:
    user = await hotel.house.user()
    assert (await hotel.reader().sign_in(user.email, "")).status_code == 400
    reader = hotel.reader()
    await reader.post("/forgot", email=user.email)
    await hotel.posted()
    await reader.post("/reset", code=hotel.mailbox.code(user.email), password=OTHER)
    assert await reader.is_in()


async def test_a_change_of_the_password(hotel: Hotel) -> None:
    reader, other = await hotel.reader().join(ANN), hotel.reader()
    await other.sign_in(ANN)
    assert "not your password" in (await reader.post("/settings/password", current="no", password=OTHER)).text
    answer = await reader.post("/settings/password", current=PASSWORD, password=OTHER)
    assert answer.status_code == 303
    assert await reader.is_in()
    assert not await other.is_in()


# ---- the second factor


async def switch_on(reader: Reader, hotel: Hotel) -> tuple[str, list[str]]:
    """The secret and the recovery codes."""
    page = (await reader.post("/settings/factor", current=PASSWORD)).text
    secret = re.search(r"<code>([A-Z2-7]{32})</code>", page)
    assert secret is not None
    assert "<svg" in page
    wrong = await reader.post("/settings/factor/confirm", code="000000")
    assert wrong.status_code == 400
    done = await reader.post("/settings/factor/confirm", code=TOTP(secret[1]).at(int(hotel.house.clock.now)))
    return secret[1], re.findall(r"\b[a-z2-7]{6}-[a-z2-7]{7}(?=\n|</code>)", done.text)


async def test_the_second_factor(hotel: Hotel) -> None:
    owner = await hotel.reader().join(ANN)
    secret, recovery = await switch_on(owner, hotel)
    for code in ("000000", TOTP(secret).at(int(hotel.house.clock.now) + 30)):
        again = await owner.post("/settings/factor/confirm", code=code)
        assert again.status_code == 400
        assert "on already" in again.text
        assert secret not in again.text, "nobody sees the secret of one that is in use"
        assert "Scan this" not in again.text
    assert len(set(recovery)) == 10
    reader = hotel.reader()
    assert (await reader.sign_in(ANN)).headers["location"].startswith("/signin/code")
    assert not await reader.is_in(), "a password alone is not enough"
    now = int(hotel.house.clock.now)
    assert (await reader.post("/signin/code", code=TOTP(secret).at(now))).status_code == 400, "used already"
    hotel.house.clock.now += 30
    code = TOTP(secret).at(now + 30)
    assert (await reader.post("/signin/code", code=code)).headers["location"] == "/dashboard"
    assert await reader.is_in()
    again = hotel.reader()
    await again.sign_in(ANN)
    assert (await again.post("/signin/code", code=recovery[3])).status_code == 303
    third = hotel.reader()
    await third.sign_in(ANN)
    assert (await third.post("/signin/code", code=recovery[3])).status_code == 400, "it was used"
    hotel.house.clock.now += 601
    assert (await third.post("/signin/code", code=recovery[4])).headers["location"] == "/signin", "too late"
    assert (await owner.post("/settings/factor/off", current=PASSWORD)).status_code == 303
    assert (await hotel.reader().sign_in(ANN)).headers["location"] == "/dashboard"


async def test_guesses_of_the_second_factor_are_counted(hotel: Hotel) -> None:
    owner = await hotel.reader().join(ANN)
    await switch_on(owner, hotel)
    thieves = [hotel.reader(f"198.51.100.{n}") for n in range(3)]
    for thief in thieves:
        await thief.sign_in(ANN)
    answers = [await thief.post("/signin/code", code="123456") for thief in thieves for _ in range(6)]
    statuses = ["Too many tries" in answer.text for answer in answers]
    assert statuses == [False] * 10 + [True] * 8


async def test_guesses_of_the_second_factor_have_a_bound_in_the_day(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, second_factor_tries_day=12) as hotel:
        await switch_on(await hotel.reader().join(ANN), hotel)
        refused: list[bool] = []
        for n in range(2):
            hotel.house.clock.now += 900
            thief = hotel.reader(f"198.51.100.{n}")
            await thief.sign_in(ANN)
            answers = [await thief.post("/signin/code", code="123456") for _ in range(9)]
            refused += ["Too many tries" in answer.text for answer in answers]
        assert refused == [False] * 12 + [True] * 6


# ---- address, data, the end


async def test_another_address(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    await hotel.reader().join("bob@example.com")
    hotel.house.clock.now += 61
    await reader.post("/settings/email", current=PASSWORD, email="bob@example.com")
    assert (await reader.post("/settings/email/code", code="123456")).status_code == 400, (
        "somebody else's: no code"
    )
    await reader.post("/settings/email", current=PASSWORD, email="ann@example.net")
    await hotel.posted()
    code = hotel.mailbox.code("ann@example.net")
    assert (await reader.post("/settings/email/code", code=code)).status_code == 303
    await hotel.posted()
    assert "now ann@example.net" in hotel.mailbox.texts(ANN)[-1]
    assert (await hotel.reader().sign_in("ann@example.net")).status_code == 303
    assert (await hotel.reader().sign_in(ANN)).status_code == 400


async def test_all_that_is_kept_can_be_had_and_holds_no_secret(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    key = await reader.key()
    answer = await reader.get("/settings/export")
    export = answer.json()
    assert export["account"]["email"] == ANN
    assert {"signed_up", "verified", "signed_in"} <= {entry["action"] for entry in export["audit"]}
    assert key not in answer.text
    assert reader.token not in answer.text


async def test_an_account_that_leaves_is_gone_for_its_keys_until_it_comes_back(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    key = await reader.key()
    assert await ask(hotel, key) == 200
    await reader.post("/settings/leave", current=PASSWORD)
    for path in ("/v1/models", "/v1/doctor", "/v1/messages/count_tokens", "/v1/chat/completions"):
        method = "POST" if "tok" in path or "chat" in path else "GET"
        refused = await hotel.house.http(method, path, key, body=b"{}" if method == "POST" else b"")
        assert (refused.status, refused.code) == (403, "account_leaving"), path
        assert "being deleted" in refused.error
        assert refused.headers["x-should-retry"] == "false"
    other = hotel.reader()
    assert (await other.sign_in(ANN)).headers["location"] == "/dashboard", "to undo it"
    assert await ask(hotel, key) == 403, "to look at it is not to keep it"
    await other.post("/settings/stay")
    assert await ask(hotel, key) == 200


async def test_an_account_that_leaves_has_no_other_session_and_none_that_waits(hotel: Hotel) -> None:
    reader, other, waits = await hotel.reader().join(ANN), hotel.reader(), hotel.reader()
    await other.sign_in(ANN)
    secret, _ = await switch_on(reader, hotel)
    await waits.sign_in(ANN)
    await reader.post("/settings/leave", current=PASSWORD)
    assert not await other.is_in()
    hotel.house.clock.now += 30
    code = TOTP(secret).at(int(hotel.house.clock.now))
    assert (await waits.post("/signin/code", code=code)).headers["location"] == "/signin"
    assert await reader.is_in(), "who asked for it can undo it"


async def test_of_an_account_that_leaves_nothing_is_changed_but_that(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    await reader.post("/settings/leave", current=PASSWORD)
    for path, fields in (
        ("/keys", {"name": "late"}),
        ("/playground/key", {}),
        ("/settings/password", {"current": PASSWORD, "password": OTHER}),
        ("/settings/email", {"current": PASSWORD, "email": "ann@example.net"}),
        ("/settings/leave", {"current": PASSWORD}),
    ):
        answer = await reader.post(path, **fields)
        assert answer.status_code == 403, path
        assert "Keep it first" in answer.text
    assert (await reader.get("/settings/export")).status_code == 200
    assert (await reader.post("/settings/sessions/end", id="others")).status_code == 303
    assert (await reader.post("/settings/stay")).status_code == 303
    assert (await reader.post("/keys", name="late")).status_code == 200


async def test_an_account_can_be_left_and_kept_after_all(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    assert (await reader.post("/settings/leave", current="no")).status_code == 400
    await reader.post("/settings/leave", current=PASSWORD)
    assert "will be deleted on" in (await reader.get("/dashboard")).text
    await reader.post("/settings/stay")
    assert "will be deleted on" not in (await reader.get("/dashboard")).text
    await reader.post("/settings/leave", current=PASSWORD)
    async with hotel.house.store.database.transaction() as conn:
        week = int(hotel.house.clock.now * 1000) + 7 * 86_400_000
        assert await accounts.delete_leavers(conn, now=week - 1) == 0
        assert await accounts.delete_leavers(conn, now=week) == 1
        assert await conn.scalar(select(func.count()).select_from(sessions)) == 0
        assert await conn.scalar(select(func.count()).where(users.c.email == ANN)) == 0
        theirs = select(outbox.c.kind).where(outbox.c.recipient == ANN, outbox.c.due_at.is_(None))
        assert list(await conn.scalars(theirs)) == []
    assert not await reader.is_in()
