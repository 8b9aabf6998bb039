"""What a caller is told of its own set-up."""

from email.utils import formatdate

import msgspec

from tests.service.running_service import MORNING, House, raw

PATH = "/api/v1/doctor"


async def test_it_says_what_arrived(house: House) -> None:
    user = await house.user("one")
    answer = await house.http("GET", PATH, user.key, headers={"user-agent": "odd/1"})
    assert answer.status == 200
    told = answer.json
    assert (told["key_header"], told["user_agent"]) == ("authorization", "odd/1")
    assert (told["plan"], told["daily_requests"], told["concurrent_requests"]) == ("one", 1000, 1)
    assert "chat-plain" in told["models"]
    assert (told["server_time"], told["clock_skew"]) == (int(MORNING), None)
    assert user.key not in answer.body.decode()
    assert await house.used(user) == 0


async def test_it_says_which_of_two_headers_was_used(house: House) -> None:
    user = await house.user()
    direct = await house.http("GET", PATH, headers={"x-api-key": user.key})
    assert direct.json["key_header"] == "x-api-key"
    other = await house.http("GET", PATH, user.key, headers={"x-api-key": "sk-of-another"})
    assert other.json["key_header"] == "authorization"


async def test_it_says_how_far_the_clock_is_off(house: House) -> None:
    user = await house.user()
    for date, skew in ((formatdate(MORNING + 90, usegmt=True), 90), ("not a date", None), ("", None)):
        answer = await house.http("GET", PATH, user.key, headers={"date": date})
        assert answer.json["clock_skew"] == skew


async def test_its_stream_comes_piece_by_piece(house: House) -> None:
    user = await house.user()
    caller = await house.send(raw("GET", f"{PATH}?stream=true", user.key, b"", {}))
    head = await caller.head()
    assert head.headers["content-type"].startswith("text/event-stream")
    pieces = []
    while piece := await caller.more():
        pieces.append(piece)
    events = [msgspec.json.decode(piece.removeprefix(b"data: ")) for piece in pieces]
    assert [event["event"] for event in events] == [1, 2, 3, 4]


async def test_it_wants_a_key_and_a_get(house: House) -> None:
    user = await house.user()
    assert (await house.http("GET", PATH)).status == 401
    assert (await house.http("POST", PATH, user.key)).status == 405
