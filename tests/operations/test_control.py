"""The control socket: commands in another shell see what the server sees, and nobody else is answered."""

import asyncio
import os
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from penstock.app import Service
from penstock.commands.installation import Installation
from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.toml_document import parse
from penstock.operations import control
from penstock.operations.control import SOCKET_NAME, ControlAnswers, ServerState, ask_server, control_socket
from penstock.operations.doctor import examine_installation
from penstock.operations.first_start import open_store
from penstock.providers.secrets import Secrets
from penstock.providers.table import KINDS
from penstock.settings import Settings, load
from tests.operations.model_servers import listing, model_server
from tests.service.scripted import PATIENCE


class Word(msgspec.Struct):
    said: str


def answers(word: str) -> ControlAnswers:
    async def state() -> Word:
        return Word(word)

    return {"state": state}


async def test_the_first_process_answers_and_a_file_that_was_left_behind_does_not_matter(
    tmp_path: Path,
) -> None:
    assert await ask_server(tmp_path, "state", Word) is None
    (tmp_path / SOCKET_NAME).write_bytes(b"")
    async with control_socket(tmp_path, answers("first")):
        assert stat.S_IMODE((tmp_path / SOCKET_NAME).stat().st_mode) == 0o600
        async with control_socket(tmp_path, answers("second")):
            assert await ask_server(tmp_path, "state", Word) == Word("first")
        assert await ask_server(tmp_path, "state", Word) == Word("first")
        assert await ask_server(tmp_path, "listings", Word) is None
        assert await ask_server(tmp_path, "state", ServerState) is None
    assert not (tmp_path / SOCKET_NAME).exists()


async def test_the_next_process_answers_when_the_first_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a reload: the new workers begin before the old ones end."""
    monkeypatch.setattr(control, "LOOK_SECONDS", 0.01)

    async def answered(word: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while await ask_server(tmp_path, "state", Word) != Word(word):  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.01)

    async with AsyncExitStack() as first, AsyncExitStack() as second, AsyncExitStack() as third:
        await first.enter_async_context(control_socket(tmp_path, answers("first")))
        await second.enter_async_context(control_socket(tmp_path, answers("second")))
        await first.aclose()
        await answered("second")
        (tmp_path / SOCKET_NAME).unlink()
        await third.enter_async_context(control_socket(tmp_path, answers("third")))
        await answered("third")
        await second.aclose()
        await answered("third")
    assert not (tmp_path / SOCKET_NAME).exists()


async def test_what_fails_inside_comes_out_and_the_socket_stays(tmp_path: Path) -> None:
    async with control_socket(tmp_path, answers("first")):
        for failure in (OSError("full"), TimeoutError("late"), ValueError("odd")):
            with pytest.raises(type(failure)):
                async with control_socket(tmp_path, answers("second")):
                    raise failure
            assert await ask_server(tmp_path, "state", Word) == Word("first")


async def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    async with control_socket(deep, answers("deep")):
        assert await ask_server(deep, "state", Word) == Word("deep")


async def test_a_place_that_cannot_have_a_socket_does_not_stop_the_server(tmp_path: Path) -> None:
    (tmp_path / SOCKET_NAME).mkdir()
    async with control_socket(tmp_path, answers("x")):
        assert await ask_server(tmp_path, "state", Word) is None


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load({"PENSTOCK_DATA": str(tmp_path / "data")}).settings


async def test_the_doctor_and_the_catalogue_see_what_the_server_sees(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.commands.catalog import _current  # noqa: PLC0415

    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)
    environ = {"PENSTOCK_DATA": str(tmp_path / "data")}
    async with model_server({"/v1/models": (200, listing("one"))}, key="sk-lab") as vendor:
        text = f"""
[[provider]]
id = "lab"
speaks = {{ chat = "{vendor.url}" }}
secret = "env:LAB_KEY"
[[model]]
id = "lab-1"
targets = [{{ provider = "lab", model = "one" }}]
"""
        async with open_store(settings) as store, store.database.transaction() as conn:
            await catalog_store.apply_document(conn, parse(text, KINDS), KINDS, 0)
        service = Service(settings, Secrets({"LAB_KEY": "sk-lab"}))
        async with service.running():
            assert service.provider_refusals is not None
            service.provider_refusals.note("lab", "one", "auth", 401, "Incorrect API key")
            service.provider_refusals.note("lab", "one", "overload", 529, "Busy")
            seen, state = await _current(Installation(data=tmp_path / "data"))
            report = await examine_installation(environ, None, {})
        alone, nobody = await _current(Installation(data=tmp_path / "data"))
        after = await examine_installation(environ, None, {})
    assert state is not None
    assert (state.pid, state.served, state.simulated) == (os.getpid(), ("lab-1",), False)
    assert (seen.simulated, alone.simulated, nobody) == (False, True, None)
    told = [(each.level, each.text) for each in report.findings if each.subject == "providers"]
    assert ("ok", "lab answers the running server") in told
    assert any(
        "lab has refused 1 requests for one (auth), the last with 401: Incorrect API key" in text
        for _, text in told
    )
    assert not any("Busy" in text for _, text in told)
    assert "sk-lab" not in str(report)
    assert any("every model is answered by the simulator" in each.text for each in after.findings)
    assert vendor.asked
