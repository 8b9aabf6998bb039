"""What nobody may find: keys, prompts and answers leave no trace in logs, errors, metrics or the data directory."""

import base64
import logging
from pathlib import Path

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import DBAPIError

from penstock.operations import logs
from penstock.store.sql.schema import users
from tests.service.conversations import DIALECTS, FRAMES, PATHS, REPLIES, body_of, request
from tests.service.running_service import VENDOR_KEY, House, open_house
from tests.site.page_reader import open_hotel
from tests.stores import Engine, engine

__all__ = ["engine"]

PROMPT = "canary-prompt-7f3a9c"
ANSWER = "canary-answer-51bd02"


async def _everything(house: House, key: str) -> list[bytes]:
    """Every kind of request there is, good and bad, with the canaries in it; gives all error answers and heads."""
    user = await house.user()
    seen: list[bytes] = []
    turns = [{"role": "user", "content": PROMPT}]
    for dialect in DIALECTS:
        good, stream = REPLIES[dialect], FRAMES[dialect]
        wire = house.wires[f"wire-{dialect}"]
        wire.script = lambda asked, good=good, stream=stream: (
            asked.stream(*(frame.replace(b"there", ANSWER.encode()) for frame in stream))
            if asked.json.get("stream")
            else asked.answer(good.replace(b"there", ANSWER.encode()))
        )
        for caller in DIALECTS:
            for streamed in (False, True):
                body = body_of(caller, f"wire-{dialect}", messages=turns, stream=streamed)
                answer = await house.http("POST", PATHS[caller], key, body=body)
                assert ANSWER in answer.body.decode()
                seen.append(str(answer.headers).encode())
        said = b'{"error": {"message": "cannot take %b"}}' % PROMPT.encode()
        wire.script = lambda asked, said=said: asked.answer(said, 500)
        for caller in DIALECTS:
            body = body_of(caller, f"wire-{dialect}", messages=turns)
            answer = await house.http("POST", PATHS[caller], key, body=body)
            assert answer.status == 502
            seen.append(answer.body)
        for model in ("error-401", "error-500", "garbage", "cut", "unfinished", "error-in-stream", "html"):
            for streamed in (False, True):
                body = body_of(dialect, f"{dialect}-{model}", messages=turns, stream=streamed)
                answer = await house.http("POST", PATHS[dialect], key, body=body)
                seen += [str(answer.headers).encode(), answer.body]
        other = "chat" if dialect == "messages" else "messages"
        strange = {"type": "text", "text": [PROMPT]}
        bad = [
            body_of(dialect, f"{dialect}-plain", messages=[{"role": PROMPT, "content": 5}]),
            body_of(dialect, f"{dialect}-plain", messages=PROMPT),
            body_of(dialect, f"{dialect}-plain", messages=turns)[:-5],
            body_of(dialect, f"{dialect}-plain", messages=turns, temperature=PROMPT),
            body_of(dialect, f"{other}-plain", messages=[{"role": "user", "content": [strange]}]),
            PROMPT.encode(),
            b'{"model": "\xff' + PROMPT.encode(),
        ]
        for body in bad:
            answer = await house.http("POST", PATHS[dialect], key, body=body)
            assert 400 <= answer.status < 500
            seen += [str(answer.headers).encode(), answer.body]
        cut = request("POST", PATHS[dialect], {"x-api-key": key}, body_of(dialect, "x", messages=turns))
        (await house.send(cut[:-3])).leave()
        caller = await house.begin(dialect, f"{dialect}-hang", user, messages=turns, headers={"x-other": key})
        caller.leave()
    for wrong in (key[:-1], key + "x", f"{key} {key}", "sk-ps-" + "a" * 49):
        answer = await house.http("GET", "/v1/models", wrong)
        assert answer.status == 401
        seen += [str(answer.headers).encode(), answer.body]
    answer = await house.http("GET", f"/v1/models/{PROMPT}?key={key}", key)
    seen += [str(answer.headers).encode()]
    return seen


def _broken(*_args: object, **_named: object) -> None:
    raise ZeroDivisionError


async def test_keys_prompts_and_answers_are_nowhere_to_be_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    data = tmp_path / "data"
    async with open_house(data) as house:
        user = await house.user()
        key = user.key
        seen = await _everything(house, key)
        with monkeypatch.context() as broken:
            # a bug in the middle of everything, which logs a traceback
            broken.setattr("penstock.relay.relayed_call.Attempts", _broken)
            for dialect in DIALECTS:
                body = body_of(dialect, f"{dialect}-plain", messages=[{"role": "user", "content": PROMPT}])
                answer = await house.http("POST", PATHS[dialect], key, body=body)
                assert answer.status == 500
                seen.append(answer.body)
        await house.rows(user)
        seen.append((await house.page("/metrics")).body)
        assert b"penstock_requests_total" in seen[-1]
        await house.stop()
    records = "\n".join(
        f"{record.getMessage()} {record.__dict__} {record.exc_text}" for record in caplog.records
    )
    assert "provider failed" in records
    assert "ZeroDivisionError" in records
    kept = b"".join(path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file())
    assert user.id.encode() in kept
    for secret in (key, key[6:], VENDOR_KEY, PROMPT, ANSWER):
        for form in (secret.encode(), base64.b64encode(secret.encode())[:-4], secret.encode().hex().encode()):
            assert form not in kept, "in the data directory"
            assert form not in records.encode(), "in a log"
            assert all(form not in text for text in seen), "in an answer"


ADDRESS = "canary-address-8d41@example.com"
PASSWORD = "canary password 90ac22"


async def test_nothing_of_a_person_is_in_the_log_at_debug(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.handler.addFilter(logs.is_allowed)
    async with open_hotel(tmp_path, database_url=engine.url) as hotel:
        reader = await hotel.reader().join(ADDRESS, PASSWORD)
        key, code = await reader.key(), hotel.mailbox.code(ADDRESS)
        await hotel.reader().sign_in(ADDRESS, PASSWORD + "x")
        await reader.post("/settings/factor", current=PASSWORD)
        await reader.get(f"/requests?model={PROMPT}")
        async with hotel.house.store.database.connect() as conn:
            row = (await conn.execute(select(users).where(users.c.email == ADDRESS))).one()
        again = {**row._mapping, "id": "usr_canary_again"}
        with pytest.raises(DBAPIError) as refused:
            async with hotel.house.store.database.transaction() as conn:
                await conn.execute(insert(users).values(again))
        logging.getLogger("penstock.site").error("a page failed", exc_info=refused.value)
        token = reader.token
    written = "\n".join(
        form.format(record) for record in caplog.records for form in (logs.Lines(), logs.JsonLines())
    )
    assert "a page failed" in written
    assert "(hidden)" in written or engine.name == "sqlite"
    for secret in (ADDRESS, PASSWORD, PROMPT, key, token, "usr_canary_again", "$argon2"):
        assert secret not in written, secret
    assert f"'{code}'" not in written
