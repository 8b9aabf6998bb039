"""Chromium for the tests: started once for each module of tests, with new contexts for each test, which remember nothing."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest_asyncio
from playwright.async_api import Browser, async_playwright

PROGRAMS = ("chromium-headless-shell", "chromium")
"""The first of these that is there: the shell is the same browser without windows, which costs half as much."""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--in-process-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@asynccontextmanager
async def launched() -> AsyncGenerator[Browser]:
    """A running browser."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), "/usr/bin/chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def started() -> AsyncGenerator[Browser]:
    """The browser of a module."""
    async with launched() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def browser(started: Browser) -> AsyncGenerator[Browser]:
    """The same for one test: what it opens is closed with it."""
    yield started
    for context in started.contexts:
        await context.close()
