"""The request log of an account: each filter finds what it should, its totals are those of the rows, its file is all of it."""

import asyncio
import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

from penstock.domain.ledger import request_log
from penstock.domain.ledger.request_log import Filter
from penstock.site.turns import ROWS_OF_A_TURN
from tests.service.running_service import User
from tests.site.page_reader import COOKIE, Hotel, Reader, open_hotel
from tests.site.test_dashboard import ANN, on_lab

CLAUDE = {"user-agent": "claude-cli/2.1.330 (external, sdk-cli)"}


async def busy(hotel: Hotel, reader: Reader) -> tuple[User, list[str]]:
    """Three days with requests of all sorts; the ids in the order in which they came."""
    user = await on_lab(hotel, reader)
    other = User(user.id, user.email, await hotel.house.key(user.id))
    ids: list[str] = []
    for _ in range(3):
        for dialect, model, who, stream in (
            ("chat", "chat-plain", user, False),
            ("messages", "messages-plain", user, False),
            ("chat", "chat-plain", other, True),
            ("chat", "chat-error-500", user, False),
            ("messages", "no-such-model", other, False),
            ("chat", "absent-model", user, True),
        ):
            hotel.house.clock.now += 60
            headers = CLAUDE if dialect == "messages" else {}
            answer = await hotel.house.ask(dialect, model, who, headers=headers, stream=stream)
            ids.append(answer.headers["x-request-id"])
        hotel.house.clock.now += 86_400
    await hotel.house.rows(user)
    await reader.sign_in(ANN)  # the session has ended with the day
    return user, ids


def shown(page: str) -> list[str]:
    return re.findall(r'<th scope="row"[^>]*><a href="/requests/(req_\w+)"', page)


def every(ids: list[str], *places: int) -> list[str]:
    """Those at these places of each day, the newest first."""
    return [id for at, id in enumerate(ids) if at % 6 in places][::-1]


FILTERS: dict[str, tuple[int, ...]] = {
    "": (0, 1, 2, 3, 4, 5),
    "model=chat-plain": (0, 2),
    "model=no-such-model": (4,),
    "outcome=completed": (0, 1, 2),
    "outcome=failed": (3, 4, 5),
    "outcome=refused": (4, 5),
    "outcome=upstream_error": (3,),
    "status=200": (0, 1, 2),
    "status=502": (3,),
    "status=404": (4,),
    "code=no_provider": (5,),
    "code=provider_error": (3,),
    "format=messages": (1, 4),
    "client=claude-code": (1, 4),
    "stream=yes": (2, 5),
    "stream=no": (0, 1, 3, 4),
    "provider=sim-messages": (1,),
    "model=chat-plain&stream=yes": (2,),
    "client=claude-code&outcome=refused": (4,),
    "model=gone": (),
}


async def test_each_filter_finds_what_it_says_and_adds_it_up(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    _, ids = await busy(hotel, reader)
    for query, places in FILTERS.items():
        page = (await reader.get(f"/requests?{query}")).text
        assert shown(page) == every(ids, *places), query
        turned = (await reader.get(f"/requests?{query}&sort=oldest")).text
        assert shown(turned) == every(ids, *places)[::-1], query
        sent = [place for place in places if place < 4]
        counted = [place for place in places if place < 3]
        said = f"{3 * len(sent)} sent, {3 * len(counted)} of them counted; {3 * (len(places) - len(sent))} refused"
        assert said in page, query


async def test_days_and_keys_bound_it(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user, ids = await busy(hotel, reader)
    for query, part in (
        ("from=2027-01-16", ids[6:]),
        ("to=2027-01-15", ids[:6]),
        ("from=2027-01-16&to=2027-01-16", ids[6:12]),
        ("from=2027-02-01", []),
    ):
        page = (await reader.get(f"/requests?{query}")).text
        assert shown(page) == part[::-1], query
    keys = {row["key_id"]: row["id"] for row in await hotel.house.rows(user)}
    found = [shown((await reader.get(f"/requests?key={key}")).text) for key in keys]
    assert sorted(map(len, found)) == [6, 12]
    both = "model=chat-plain&from=2027-01-16&to=2027-01-16"
    assert shown((await reader.get(f"/requests?{both}")).text) == [ids[8], ids[6]]


@pytest.mark.parametrize("query", ["from=soon", "to=2027-13-01", "status=abc", "before=x", "status=20"])
async def test_what_is_no_filter_is_said(hotel: Hotel, query: str) -> None:
    reader = await hotel.reader().join(ANN)
    assert (await reader.get(f"/requests?{query}")).status_code == 400
    assert (await reader.get(f"/requests.csv?{query}")).status_code == 400


async def test_an_id_leads_to_its_receipt(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    answer = await reader.get("/requests?id=%20req_x/../y")
    assert answer.headers["location"] == "/requests/req_x%2F..%2Fy"


async def test_the_file_is_all_of_it_with_times_that_say_their_zone(
    hotel: Hotel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = await hotel.reader().join(ANN)
    user, ids = await busy(hotel, reader)
    monkeypatch.setattr(request_log, "ROWS_OF_A_FILE", 4)
    answer = await reader.get("/requests.csv")
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert [line["id"] for line in lines] == ids[::-1]
    assert "content-length" not in answer.headers, "it is written while it is read"
    assert {line["time"][-6:] for line in lines} == {"+00:00"}
    assert lines[-1]["time"] == "2027-01-15T08:01:00.000+00:00"
    assert {line["day"] for line in lines} == {"2027-01-15", "2027-01-16", "2027-01-17"}
    assert {line["key_name"] for line in lines} >= {"default"}
    part = await reader.get("/requests.csv?status=502&from=2027-01-16")
    assert [line["id"] for line in csv.DictReader(io.StringIO(part.text))] == every(ids, 3)[:2]
    assert user.key not in answer.text


async def test_where_the_operator_tells_no_provider_none_is_told(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, providers_told=False) as hotel:
        reader = await hotel.reader().join(ANN)
        _, ids = await busy(hotel, reader)
        for path in ("/requests", "/requests.csv", f"/requests/{ids[0]}"):
            assert "sim-chat" not in (await reader.get(path)).text, path
        assert len(shown((await reader.get("/requests?provider=sim-chat")).text)) == len(ids)
    async with open_hotel(tmp_path / "told") as hotel:
        reader = await hotel.reader().join(ANN)
        _, ids = await busy(hotel, reader)
        for path in ("/requests", "/requests.csv", f"/requests/{ids[0]}"):
            assert "sim-chat" in (await reader.get(path)).text, path


async def test_many_pages_of_a_filter_have_each_row_once(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user, _ = await busy(hotel, reader)
    await reader.get("/requests")  # by then what was refused is written
    async with hotel.house.store.database.connect() as conn:
        assert len((await request_log.page(conn, user.id, Filter(), 99))[0]) == 18
        for chosen in (
            Filter(model="chat-plain"),
            Filter(outcome="failed"),
            Filter(dialect="chat"),
            Filter(),
        ):
            for oldest in (False, True):
                seen: list[Any] = []
                cursor = ""
                while True:
                    asked = Filter(
                        model=chosen.model,
                        outcome=chosen.outcome,
                        dialect=chosen.dialect,
                        oldest=oldest,
                        before=cursor,
                    )
                    rows, cursor = await request_log.page(conn, user.id, asked, 2)
                    seen += [row.id for row in rows]
                    if not cursor:
                        break
                at_once, _ = await request_log.page(
                    conn,
                    user.id,
                    Filter(model=chosen.model, outcome=chosen.outcome, dialect=chosen.dialect, oldest=oldest),
                    99,
                )
                assert seen == [row.id for row in at_once]


async def test_the_export_has_every_request_however_many_there_are(
    hotel: Hotel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = await hotel.reader().join(ANN)
    empty = (await reader.get("/settings/export")).json()
    assert (empty["account"]["email"], empty["requests"]) == (ANN, [])
    _, ids = await busy(hotel, reader)
    for size in (4, 18, 500):
        monkeypatch.setattr(request_log, "ROWS_OF_A_FILE", size)
        answer = await reader.get("/settings/export")
        assert [row["id"] for row in answer.json()["requests"]] == ids[::-1]
        assert "content-length" not in answer.headers, "it is written while it is read"


async def test_others_are_served_while_a_large_file_is_written(hotel: Hotel) -> None:
    reader, prober = await hotel.reader().join(ANN), hotel.reader()
    user = await on_lab(hotel, reader)
    await hotel.house.ask("chat", "chat-plain", user)
    row = await hotel.house.row(user)
    columns = "user_id, key_id, created_at, kind, input_tokens, output_tokens, first_byte_ms, total_ms"
    of_days = columns.replace("created_at", "created_at - i % 60 * 86400000")
    async with hotel.house.store.database.transaction() as conn:
        await conn.exec_driver_sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)"
            f" INSERT INTO requests (day, id, {columns})"
            f" SELECT day - i % 60, CAST('x' || i AS BLOB), {of_days} FROM requests, n WHERE day = {row['day']}"
        )
    for path, lines in (
        ("/settings/export", b'"id":'),
        ("/requests.csv", b"\r\n"),
        ("/usage.csv?by=client", b"\r\n"),
    ):
        writing = asyncio.create_task(reader.get(path))
        turns = 0
        while not writing.done():
            assert (await prober.get("/healthz")).status_code == 200
            turns += 1
        assert (await writing).content.count(lines) > (12_000 if "usage" not in path else 1), path
        # Whoever holds the loop for the whole of the file leaves no room for a turn; the bound is the machine's.
        assert turns >= (20 if "usage" not in path else 1), path


async def test_a_file_is_written_a_few_lines_to_a_turn_of_the_loop(hotel: Hotel) -> None:
    """However many are read at a time: what is written at once is what holds the loop."""
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    await hotel.house.ask("chat", "chat-plain", user)
    row = await hotel.house.row(user)
    columns = "user_id, key_id, created_at, kind, input_tokens"
    before = columns.replace("created_at", "created_at - i")
    rows = 2 * request_log.ROWS_OF_A_FILE + 1
    async with hotel.house.store.database.transaction() as conn:
        await conn.exec_driver_sql(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
            f" INSERT INTO requests (day, id, {columns})"
            f" SELECT day, CAST('x' || i AS BLOB), {before} FROM requests, n WHERE day = {row['day']}"
        )
        await conn.exec_driver_sql(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
            " INSERT INTO audit (id, at, user_id, action, about, address)"
            " SELECT 'x' || i, at - i, user_id, action, about, address FROM audit, n WHERE action = 'signed_up'"
        )
    for path, line in (("/requests.csv", b"\r\n"), ("/settings/export", b"{")):
        turns, written = await _pieces(hotel, reader, path)
        assert sum(piece.count(line) for piece in written) > rows, path
        assert max(piece.count(line) for piece in written[1:]) <= ROWS_OF_A_TURN, path
        # the file's last piece and the empty one that ends it come together
        assert turns >= len(written) - 2, path
    whole = await reader.get("/settings/export")
    told = whole.json()
    assert len({(entry["at"], entry["about"]) for entry in told["audit"]}) > rows
    assert len({one["id"] for one in told["requests"]}) == rows + 1


async def _pieces(hotel: Hotel, reader: Reader, path: str) -> tuple[int, list[bytes]]:
    """What the site sends for this path, piece by piece; and how often something else ran between two of them."""
    assert hotel.house.service is not None
    written: list[bytes] = []
    seen: set[int] = set()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            written.append(message["body"])

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def beside() -> None:
        while True:
            seen.add(len(written))
            await asyncio.sleep(0)

    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path, "raw_path": path.encode(),
        "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        "headers": [(b"host", b"127.0.0.1"), (b"cookie", f"{COOKIE}={reader.token}".encode())],
    }  # fmt: skip
    other = asyncio.create_task(beside())
    await hotel.house.service._serve_site(scope, receive, send)
    other.cancel()
    return len(seen), written


async def test_columns_sort_it_by_size(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user, ids = await busy(hotel, reader)
    rows = {row["id"]: row for row in await hotel.house.rows(user)}
    page = (await reader.get("/requests?model=chat-plain")).text
    for sort, column in (
        ("read", "input_tokens"),
        ("written", "output_tokens"),
        ("first", "first_byte_ms"),
        ("whole", "total_ms"),
    ):
        assert f'href="/requests?model=chat-plain&amp;sort={sort}"' in page
        found = shown((await reader.get(f"/requests?model=chat-plain&sort={sort}")).text)
        assert sorted(found) == sorted(every(ids, 0, 2))
        assert found == sorted(found, key=lambda id: (rows[id][column], rows[id]["created_at"]), reverse=True)
    assert (
        'aria-sort="descending"><a href="/requests?model=chat-plain&amp;sort=whole"'
        in (await reader.get("/requests?model=chat-plain&sort=whole")).text
    )
    text = (await reader.get("/requests.csv?sort=whole")).text
    assert len(list(csv.DictReader(io.StringIO(text)))) == len(ids)
