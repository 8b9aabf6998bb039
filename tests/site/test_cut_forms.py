"""Browsers that leave in the middle of a form: nothing is done of it, and nothing is called a fault of ours."""

import logging

import pytest

from tests.site.page_reader import Hotel


@pytest.mark.parametrize("path", ["/signin", "/signup", "/verify", "/setup"])
async def test_a_form_that_is_cut_off(hotel: Hotel, caplog: pytest.LogCaptureFixture, path: str) -> None:
    form = "content-type: application/x-www-form-urlencoded\r\n"
    await hotel.cut_off(f"POST {path} HTTP/1.1\r\n{form}")
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []
