"""What a test compiles, for those after it: each service that a test opens would compile its statements and routes anew."""

from functools import cache

import starlette.routing
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.util import LRUCache

MOST = 2000
"""Statements that are kept for each kind of database."""


@cache
def _kept(_kind: type[Dialect]) -> LRUCache[object, object]:
    return LRUCache(MOST)


def keep_compiled() -> None:
    """Have all engines on one kind of database share their statements, and all applications their patterns of paths.

    A statement is kept by the dialect that it was compiled for. Two of one class are the same here, because the servers that
    they learn from are the same for all tests.
    """
    for dialect in (SQLiteDialect_aiosqlite, PGDialect_asyncpg):
        vars_of = {
            "__eq__": lambda one, other: type(one) is type(other),
            "__hash__": lambda one: hash(type(one)),
        }
        for name, method in vars_of.items():
            setattr(dialect, name, method)
    shared = property(lambda engine: _kept(type(engine.dialect)), lambda _engine, _own: None)
    setattr(Engine, "_compiled_cache", shared)  # noqa: B010 - the type checker lets nobody assign it
    starlette.routing.compile_path = cache(starlette.routing.compile_path)
