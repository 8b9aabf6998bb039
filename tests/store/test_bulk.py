"""Statements over many rows cover each row once and in order, within the database's bounds."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.store.sql.bulk import LARGEST, Bulk

BULK = Bulk("VALUES ", "(?, ?, 0)", " END")


@given(st.integers(0, 300))
def test_every_row_is_in_one_statement(count: int) -> None:
    rows = [(number, str(number)) for number in range(count)]
    found = list(BULK.statements(rows))
    assert [value for _, values in found for value in values] == [value for row in rows for value in row]
    for text, values in found:
        assert text == "VALUES " + ", ".join(["(?, ?, 0)"] * (len(values) // 2)) + " END"
        assert len(values) // 2 <= LARGEST
    assert len(found) <= count // LARGEST + 6, "few statements, and few different texts to prepare"
