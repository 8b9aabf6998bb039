"""What a compressed body comes to is bounded, and its memory is taken as it comes out, for each coding."""

import asyncio
import gzip
import random
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest

from penstock.errors import InvalidRequest, Overloaded, RequestTooLarge
from penstock.server.body_coding import decoded
from tests.service.conversations import body_of
from tests.service.running_service import open_house

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstd.compress,
    "br": brotli.compress,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}
codings = pytest.mark.parametrize("coding", COMPRESS)


@codings
@pytest.mark.parametrize("size", [0, 1, 2, 16 * 1024, 64 * 1024, 64 * 1024 + 1, 700_000])
async def test_bytes_of_any_kind_come_back(coding: str, size: int) -> None:
    noise = random.Random(size).randbytes(size)
    for body in (noise, b"x" * size, (noise[:999] + b" " * 999) * (size // 1998)):
        assert await decoded(COMPRESS[coding](body), coding, size, None) == body


@codings
async def test_no_more_is_decoded_than_a_body_may_have(coding: str) -> None:
    bomb = COMPRESS[coding](b"\0" * (8 << 20))
    told: list[int] = []
    with pytest.raises(RequestTooLarge):
        await decoded(bomb, coding, 300_000, told.append)
    assert told == sorted(told)
    assert told[-1] <= len(bomb) + 300_000


@codings
async def test_where_there_is_no_room_it_ends(coding: str) -> None:
    def full(size: int) -> None:
        if size > 200_000:
            raise Overloaded("full")

    with pytest.raises(Overloaded):
        await decoded(COMPRESS[coding](b"\0" * (8 << 20)), coding, 8 << 20, full)


@codings
async def test_others_have_their_turn_meanwhile(coding: str) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(others())
    await decoded(COMPRESS[coding](b"\0" * (8 << 20)), coding, 8 << 20, None)
    task.cancel()
    assert turns > 8


async def test_a_window_beyond_what_is_agreed_is_refused() -> None:
    parameter = zstd.CompressionParameter
    options = {int(parameter.window_log): 27, int(parameter.content_size_flag): 0}
    packer = zstd.ZstdCompressor(options=options)
    body = packer.compress(random.Random(1).randbytes(1 << 20)) + packer.flush()
    with pytest.raises(InvalidRequest):
        await decoded(body, "zstd", 64 << 20, None)


@codings
@pytest.mark.parametrize("seed", range(40))
async def test_damaged_bytes_are_refused_or_read(coding: str, seed: int) -> None:
    chance = random.Random(seed)
    whole = bytearray(COMPRESS[coding](b'{"model": "x", "messages": []}' * 50))
    for _ in range(3):
        whole[chance.randrange(len(whole))] = chance.randrange(256)
    try:
        found = await decoded(bytes(whole), coding, 1 << 20, None)
    except (InvalidRequest, RequestTooLarge):
        return
    assert len(found) <= 1 << 20


@codings
async def test_the_room_of_bodies_is_taken_and_given_back(tmp_path: Path, coding: str) -> None:
    headers = {"content-encoding": coding}
    async with open_house(tmp_path, max_body=1 << 20, max_bodies=4 << 20) as house:
        user = await house.user("one")
        body = body_of("chat", "chat-plain")
        for size, status in ((0, 200), (900_000, 200), (1 << 20, 413), (30 << 20, 413)):
            answer = await house.post("chat", COMPRESS[coding](body + b" " * size), user, headers)
            assert answer.status == status, answer.body
    assert house.taken == 0
