"""Backup: copies a SQLite database while it may be in use, to a file that its owner alone can read."""

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from penstock.store.sql.backend import StoreError
from penstock.store.sql.sqlite import BUSY_SECONDS


def back_up(path: Path, label: str) -> Path:
    """Copy the database at ``path`` beside it, under its name with ``label`` and the time; gives the copy.

    Raises ``StoreError`` when the disk has no room for the copy and for as much again, which changing the tables may
    take, or when copying fails; no copy is left then.
    """
    copy = path.with_name(f"{path.name}.{label}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.backup")
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as source:
            _check_room(source, path)
            os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            try:
                with closing(sqlite3.connect(copy)) as target:
                    source.backup(target)
            except BaseException:
                copy.unlink()
                raise
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"cannot copy {path} to {copy}: {error}") from error
    return copy


def _check_room(source: sqlite3.Connection, path: Path) -> None:
    (pages,) = source.execute("PRAGMA page_count").fetchone()
    (page,) = source.execute("PRAGMA page_size").fetchone()
    needed, free = 2 * pages * page, shutil.disk_usage(path.parent).free
    if free < needed:
        raise StoreError(
            f"{path.parent} has {free >> 20} MiB left; the copy and the migration may take {(needed >> 20) + 1} MiB"
        )


def copy_into(path: Path, directory: Path) -> Path:
    """Copy the database at ``path`` into a directory, under its own name, in the place of an older copy once it is whole.

    Raises ``StoreError``; what was there before stays then.
    """
    target = directory / path.name
    fresh = directory / f".{path.name}.{os.getpid()}.part"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if target.exists() and target.samefile(path):
            raise StoreError(f"{directory} is where the database itself is")
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            with (
                closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as source,
                closing(sqlite3.connect(fresh)) as copy,
            ):
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
                (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise StoreError(f"the copy is damaged, and so is {path}: {found}")
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"cannot copy {path} to {target}: {error}") from error
    return target
