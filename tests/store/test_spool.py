"""The spool gives back what was put in, in order, whatever was cut off or left from before."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.store.backend import StoreError
from penstock.store.spool import RESERVED, Spool


def read(path: Path) -> list[bytes]:
    spool, records = Spool.open(path)
    spool.close()
    return records


def test_what_is_appended_is_read_back_until_it_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "s"
    spool, records = Spool.open(path)
    assert records == []
    assert spool.empty
    spool.append([b"one", b"two"])
    spool.append([b"three"])
    assert not spool.empty
    assert read(path) == [b"one", b"two", b"three"]
    spool.clear()
    assert spool.empty
    assert read(path) == []
    spool.append([b"4"])
    spool.close()
    assert read(path) == [b"4"], "what lay behind the end before is not read"


def test_its_space_is_there_before_it_is_needed(tmp_path: Path) -> None:
    spool, _ = Spool.open(tmp_path / "s")
    found = (tmp_path / "s").stat()
    assert found.st_size == RESERVED
    assert found.st_blocks * 512 >= RESERVED
    assert found.st_mode & 0o777 == 0o600
    spool.append([b"x" * 5000] * 20)
    assert (tmp_path / "s").stat().st_size == RESERVED
    spool.close()


def test_it_grows_past_its_reserve(tmp_path: Path) -> None:
    spool, _ = Spool.open(tmp_path / "s")
    record = b"y" * (RESERVED // 2)
    spool.append([record, record, record])
    spool.close()
    assert read(tmp_path / "s") == [record, record, record]


def test_appending_goes_on_behind_what_was_found(tmp_path: Path) -> None:
    spool, _ = Spool.open(tmp_path / "s")
    spool.append([b"one"])
    spool.close()
    again, records = Spool.open(tmp_path / "s")
    assert records == [b"one"]
    again.append([b"two"])
    again.close()
    assert read(tmp_path / "s") == [b"one", b"two"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        Spool.open(tmp_path / "nowhere" / "s")


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_a_torn_write_costs_the_torn_record_and_none_before_it(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("spool") / "s"
    spool, _ = Spool.open(path)
    ends = [0]
    for record in records:
        spool.append([record])
        ends.append(ends[-1] + 8 + len(record))
    spool.close()
    cut = data.draw(st.integers(0, ends[-1]))
    with path.open("r+b") as file:
        file.seek(cut)
        file.write(bytes(ends[-1] - cut))
        file.flush()
        os.fsync(file.fileno())
    whole = sum(end <= cut for end in ends) - 1
    found = read(path)
    # a record that ends in zeros is not torn by writing zeros over them
    assert found[:whole] == records[:whole]
    assert found == records[: len(found)]
