"""The room of bodies and of whole answers: who is given how much of it, and that all of it comes back."""

import pytest

from penstock.api.body_memory import STEP, BodyMemory, Reservation
from penstock.errors import ConcurrentLimitReached, Overloaded
from penstock.relay.answer_memory import STEP as ANSWER_STEP
from penstock.relay.answer_memory import AnswerMemory, AnswerRoom

MAX = 16 * STEP
MOST = 64 * STEP
KEPT = 8 * STEP


def memory() -> BodyMemory:
    return BodyMemory(max_body=MAX, most=MOST, kept=KEPT)


def place(memory: BodyMemory, user: str, size: int, concurrent: int = 9) -> Reservation:
    """A body of this size that has arrived."""
    found = Reservation(memory, user, concurrent, MAX)
    found.arrived(size)
    return found


def test_a_body_takes_steps_as_it_arrives_and_gives_all_of_them_back() -> None:
    room = memory()
    body = place(room, "a", 1)
    assert room.taken == STEP
    for size, taken in ((STEP, 1), (STEP + 1, 2), (5 * STEP, 5), (MAX, 16)):
        body.arrived(size)
        assert room.taken == taken * STEP
    body.shrink(MAX - 7)
    assert room.taken == MAX - 7
    body.leave()
    body.leave()
    assert room.taken == 0


def test_who_is_alone_may_take_all_of_it() -> None:
    room = memory()
    bodies = [place(room, "a", MAX) for _ in range(4)]
    assert room.taken == MOST
    with pytest.raises(Overloaded):
        place(room, "b", 1)
    for body in bodies:
        body.leave()
    assert room.taken == 0


def test_however_many_take_what_they_can_one_who_holds_nothing_finds_room() -> None:
    room = memory()
    place(room, "well-behaved", 1).leave()
    refused = 0
    for user in range(40):
        try:
            place(room, f"u{user}", MAX)
        except Overloaded:
            refused += 1
    assert refused > 30
    assert room.taken <= MOST - KEPT
    assert place(room, "new", STEP)


def test_small_bodies_of_those_who_hold_some_leave_a_part_for_those_who_hold_none() -> None:
    room = memory()
    for _ in range((MOST - KEPT // 2) // STEP):
        place(room, "a", 1, concurrent=90)
    with pytest.raises(Overloaded):
        place(room, "a", 1, concurrent=90)
    assert room.taken == MOST - KEPT // 2
    assert place(room, "b", 1)


def test_a_users_own_bound_is_met_where_the_body_outgrows_it() -> None:
    room = memory()
    place(room, "a", MAX, concurrent=1)
    second = place(room, "a", MAX - STEP, concurrent=1)
    third = Reservation(room, "a", 1, MAX)
    third.arrived(STEP)
    with pytest.raises(ConcurrentLimitReached):
        second.arrived(MAX)
    with pytest.raises(ConcurrentLimitReached):
        place(room, "a", 1, concurrent=1)
    assert room.taken == 2 * MAX


def test_the_first_step_of_an_answer_is_free_and_the_rest_is_within_one_bound() -> None:
    room = AnswerMemory(3 * ANSWER_STEP)
    first, second = AnswerRoom(room), AnswerRoom(room)
    for size in (ANSWER_STEP, 1, ANSWER_STEP):
        first.arrived(size)
    assert room.taken == 2 * ANSWER_STEP
    second.arrived(ANSWER_STEP)
    second.arrived(ANSWER_STEP)
    assert room.taken == 3 * ANSWER_STEP
    with pytest.raises(Overloaded):
        second.arrived(1)
    second.leave()
    first.leave()
    assert room.taken == 0
