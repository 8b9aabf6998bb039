"""The number that goes up when something changes on which decisions rest."""

from penstock.core.revision import Revision


def test_each_change_makes_it_another_one() -> None:
    revision = Revision()
    seen = [revision.number]
    for _ in range(3):
        revision.advance()
        seen.append(revision.number)
    assert seen == [0, 1, 2, 3]
