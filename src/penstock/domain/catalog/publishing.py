"""Publishing: puts models into the catalogue and into plans, and takes them out again, in one transaction each."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.catalog import Model, Upstream
from penstock.domain.catalog.catalog_store import Change, apply_document, load_document, managers
from penstock.domain.catalog.toml_document import CatalogDocument, CatalogError


async def publish_models(
    conn: AsyncConnection,
    providers: Sequence[Upstream],
    models: Sequence[Model],
    kinds: Mapping[str, Upstream],
    now_ms: int,
    *,
    plans: Sequence[str] | None = None,
) -> list[Change]:
    """Add ``models``, behind those that are there, to the plans named, with what serves them.

    None are all plans but those that a file manages.
    ``providers`` are added where the catalogue has none of that id. Raises ``CatalogError``, where a plan is not there too.
    """
    before = await load_document(conn, kinds)
    known = {plan.id for plan in before.plans}
    strange = [name for name in plans or () if name not in known]
    if strange:
        raise CatalogError([f'there is no plan "{name}"; there are: {", ".join(known)}' for name in strange])
    there = {row.id for row in before.providers}
    held = await managers(conn)
    ids = tuple(model.id for model in models)
    document = CatalogDocument(
        providers=tuple(row for row in providers if row.id not in there),
        models=tuple(models),
        plans=tuple(
            msgspec.structs.replace(
                plan, models=plan.models + tuple(id for id in ids if id not in plan.models)
            )
            for plan in before.plans
            if (("plan", plan.id) not in held if plans is None else plan.id in plans)
        ),
    )
    return await apply_document(conn, document, kinds, now_ms)


async def withdraw_models(
    conn: AsyncConnection,
    patterns: Sequence[str],
    kinds: Mapping[str, Upstream],
    now_ms: int,
    *,
    ids: Sequence[str] = (),
) -> list[Change]:
    """Remove the models whose ids, or ``provider/name`` at all of their providers, a shell pattern fits, and those of ``ids``.

    They leave the plans and the lists of ``auto`` models, too, and follow no other model any more. Raises ``CatalogError``
    where an ``auto`` model would have nothing left to choose from.
    """
    before = await load_document(conn, kinds)
    gone = {model.id for model in before.models if model.id in ids or _fits(model, patterns)}
    kept: list[Model] = []
    for model in before.models:
        if model.id in gone:
            continue
        left = tuple(name for name in model.auto if name not in gone)
        if model.auto and not left:
            raise CatalogError([f'"{model.id}" would have nothing to choose from: remove it too'])
        follows = "" if model.successor in gone else model.successor
        kept.append(msgspec.structs.replace(model, auto=left, successor=follows))
    document = CatalogDocument(
        providers=before.providers,
        models=tuple(kept),
        plans=tuple(
            msgspec.structs.replace(plan, models=tuple(name for name in plan.models if name not in gone))
            for plan in before.plans
        ),
    )
    return await apply_document(conn, document, kinds, now_ms, prune=True) if gone else []


def _fits(model: Model, patterns: Sequence[str]) -> bool:
    if any(fnmatchcase(model.id, pattern) for pattern in patterns):
        return True
    return bool(model.targets) and any(
        all(fnmatchcase(f"{target.provider}/{target.model}", pattern) for target in model.targets)
        for pattern in patterns
    )
