"""Pools of credentials through the whole service: each signs in as itself, and one that fails takes none of the others out."""

from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from penstock.core.catalog import Credential, Target
from penstock.domain.catalog import catalog_store
from penstock.providers.table import KINDS
from tests.service.conversations import DIALECTS, FRAMES, REPLIES
from tests.service.running_service import House, catalogue
from tests.service.scripted import Asked
from tests.service.test_routing import Script, refusing, well

both = pytest.mark.parametrize("dialect", DIALECTS)


async def pooled(house: House, dialect: str, folder: Path, names: str = "ab", *, spare: bool = False) -> str:
    """A model whose provider has a credential of each name; the spare is the next tier."""
    document = catalogue(1, {name: wire.port for name, wire in house.wires.items()})
    row = next(row for row in document.providers if row.id == f"wire-{dialect}")
    pool: list[Credential] = []
    for name in names:
        place = folder / name
        place.write_text(f"key-of-{name}")
        pool.append(Credential(name, f"file:{place}"))
    row = replace(row, id="pool", secret="", credentials=tuple(pool))
    model = next(m for m in document.models if m.id == "wire-chat")
    targets = (Target("pool", f"up-{dialect}"),)
    if spare:
        targets += (Target(f"spare-{dialect}", f"up-{dialect}", priority=1),)
    model = replace(model, id="pooled", targets=targets)
    document = replace(
        document,
        providers=(*document.providers, row),
        models=(*document.models, model),
        plans=tuple(replace(plan, models=(*plan.models, "pooled")) for plan in document.plans),
    )
    async with house.store.database.transaction() as conn:
        await catalog_store.apply_document(conn, document, KINDS, 2)
        assert (await catalog_store.load_document(conn, KINDS)).providers[-1] == row
    await house.restart()
    return "pooled"


def key_of(asked: Asked) -> str:
    """The credential that signed a request in."""
    said = asked.headers.get("x-api-key") or asked.headers["authorization"].removeprefix("Bearer ")
    return said.removeprefix("key-of-")


def by_key(house: House, dialect: str, **scripts: Script) -> Counter[str]:
    """The wire answers each credential by its script, else well; who has asked is counted."""
    seen: Counter[str] = Counter()

    def script(asked: Asked) -> None:
        key = key_of(asked)
        seen[key] += 1
        if key in scripts:
            scripts[key](asked)
        elif asked.json.get("stream"):
            asked.stream(*FRAMES[dialect])
        else:
            asked.answer(REPLIES[dialect])

    house.wires[f"wire-{dialect}"].script = script
    return seen


@both
async def test_each_credential_signs_in_as_itself_and_the_row_names_it(
    house: House, dialect: str, tmp_path: Path
) -> None:
    model = await pooled(house, dialect, tmp_path)
    user = await house.user()
    seen = by_key(house, dialect)
    for n in range(20):
        assert (await house.ask(dialect, model, user, stream=n % 2 == 0)).status == 200
    assert set(seen) == {"a", "b"}
    assert Counter(row["credential"] for row in await house.rows(user)) == seen


@both
@pytest.mark.parametrize(
    ("status", "message", "code"),
    [(401, "no", ""), (400, "Your credit balance is too low.", ""), (429, "over", "insufficient_quota")],
)
async def test_case_2_one_credential_that_is_not_taken_leaves_the_other(
    house: House, dialect: str, status: int, message: str, code: str, tmp_path: Path
) -> None:
    model = await pooled(house, dialect, tmp_path)
    user = await house.user()
    seen = by_key(house, dialect, a=refusing(status, message, code))
    answers = [await house.ask(dialect, model, user, stream=n % 2 == 0) for n in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert seen["a"] <= 2
    assert seen["b"] == 20
    told = [answer.headers["x-penstock-route"] for answer in answers]
    assert set(told) <= {"weight", "load", "after_auth", "after_quota"}
    assert {row["credential"] for row in await house.rows(user)} == {"b"}


@both
async def test_case_20_a_limit_of_one_key_is_not_the_others(
    house: House, dialect: str, tmp_path: Path
) -> None:
    model = await pooled(house, dialect, tmp_path, spare=True)
    user = await house.user()
    well(house, dialect)

    def limited(asked: Asked) -> None:
        asked.answer(b'{"error": {"message": "slow down"}}', 429, headers={"retry-after": "30"})

    seen = by_key(house, dialect, a=limited)
    for _ in range(20):
        assert (await house.ask(dialect, model, user)).status == 200
    assert (seen["a"], seen["b"]) == (1, 20)
    assert not house.wires[f"spare-{dialect}"].asked, "the provider was not left"


@both
async def test_case_24_an_overload_is_of_all_keys(house: House, dialect: str, tmp_path: Path) -> None:
    model = await pooled(house, dialect, tmp_path, spare=True)
    user = await house.user()
    well(house, dialect)
    seen = by_key(house, dialect, a=refusing(529, "overloaded"), b=refusing(529, "overloaded"))
    assert (await house.ask(dialect, model, user)).status == 200
    assert seen.total() == 1, "the other provider is next, not the other key"


async def test_a_credential_whose_secret_is_missing_is_left_out(house: House, tmp_path: Path) -> None:
    model = await pooled(house, "chat", tmp_path)
    (tmp_path / "a").unlink()
    await house.restart()
    user = await house.user()
    seen = by_key(house, "chat")
    for _ in range(6):
        assert (await house.ask("chat", model, user)).status == 200
    assert seen == {"b": 6}


async def test_all_credentials_gone_is_no_provider(house: House, tmp_path: Path) -> None:
    model = await pooled(house, "chat", tmp_path)
    for name in "ab":
        (tmp_path / name).unlink()
    await house.restart()
    answer = await house.ask("chat", model, await house.user())
    assert (answer.status, answer.json["code"]) == (503, "no_provider")
