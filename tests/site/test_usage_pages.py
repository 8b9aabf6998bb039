"""Usage over time: chart, figures and file say what the rows say, by model, key and client, from two days to a year."""

import csv
import io
import re
from datetime import UTC, datetime

import pytest

from penstock.domain.ledger.latency import class_of
from tests.site.page_reader import Hotel
from tests.site.test_dashboard import ANN, on_lab
from tests.site.test_request_log import busy, shown


async def test_the_figures_are_those_of_the_rows(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user, _ = await busy(hotel, reader)
    rows = await hotel.house.rows(user)
    for group, word in (("model", "model"), ("key", "key_id"), ("client", "client")):
        for length in ("day", "week", "year"):
            text = (await reader.get(f"/usage.csv?length={length}&by={group}")).text
            lines = list(csv.DictReader(io.StringIO(text)))
            # Two days are the one that runs, which has none, and the one before.
            since = 20_835 if length == "day" else 0
            meant = [row for row in rows if row["day"] >= since]
            assert sum(int(line["requests"]) for line in lines) == len(meant)
            assert sum(int(line["counted"]) for line in lines) == sum(row["counted"] for row in meant)
            assert sum(int(line["output_tokens"]) for line in lines) == sum(
                row["output_tokens"] or 0 for row in meant
            )
            assert len({line[group] for line in lines}) == len({row[word] for row in meant})
            assert all(line["start"].endswith("+00:00") for line in lines)


@pytest.mark.parametrize(
    "show", ["requests", "read", "written", "cached", "failed", "first", "whole", "no-such"]
)
@pytest.mark.parametrize("length", ["day", "week", "month", "quarter", "year", "no-such"])
async def test_every_choice_has_a_page(hotel: Hotel, length: str, show: str) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    assert "No requests in these days" in (await reader.get("/usage")).text
    for agent in ("curl/8", "claude-cli/2.1.330 (external, sdk-cli)"):
        await hotel.house.ask("chat", "chat-plain", user, headers={"user-agent": agent})
    await hotel.house.rows(user)
    for group in ("model", "key", "client"):
        page = await reader.get(f"/usage?length={length}&show={show}&by={group}")
        assert page.status_code == 200
        assert "<svg" in page.text


async def test_the_links_lead_to_the_requests_that_were_added_up(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    await busy(hotel, reader)
    page = (await reader.get("/usage?length=week&by=model")).text
    found = dict(re.findall(r'<a href="(/requests\?model=[^"]*)">([^<]*)</a>', page))
    numbers = {
        name: len(shown((await reader.get(path.replace("&amp;", "&"))).text)) for path, name in found.items()
    }
    assert numbers == {"chat-plain": 6, "messages-plain": 3, "chat-error-500": 3}
    errors = re.findall(r'<a href="(/requests\?code=[^"]*)">', page)
    assert [len(shown((await reader.get(path.replace("&amp;", "&"))).text)) for path in errors] == [3, 3, 3]


async def test_percentiles_are_those_of_the_rows(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user, _ = await busy(hotel, reader)
    rows = [row for row in await hotel.house.rows(user) if row["outcome"] == "completed"]
    page = (await reader.get("/usage?length=week&by=client&show=first")).text
    assert '<circle class="c1"' in page
    text = (await reader.get("/usage.csv?length=week&by=client")).text
    lines = list(csv.DictReader(io.StringIO(text)))
    for part, column in (("first_token", "first_byte_ms"), ("whole", "total_ms")):
        for line in lines:
            meant = [
                row[column]
                for row in rows
                if row["client"] == line["client"]
                and line["start"] == datetime.fromtimestamp(row["day"] * 86_400, UTC).isoformat()
            ]
            for share in (50, 95, 99):
                told = line[f"{part}_p{share}_ms"]
                assert (told != "") == bool(meant)
                if meant:
                    assert class_of(min(meant)) <= class_of(int(told)) <= class_of(max(meant))
    for name in ("claude-code", "All"):
        assert f'<tr><th scope="row">{name}</th>' in page


async def test_what_was_not_timed_has_no_time(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    assert "none yet" in (await reader.get("/dashboard")).text
    await hotel.house.ask("chat", "chat-error-500", user)
    await hotel.house.rows(user)
    for show in ("first", "whole"):
        page = (await reader.get(f"/usage?show={show}")).text
        assert '<circle class="c1"' not in page
        assert "None" not in page
