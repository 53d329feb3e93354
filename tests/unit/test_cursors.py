"""The cursors, without a database: what may settle when, and where a claim begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from rowlock.queue.claim.cursors import (
    BEGINNING,
    PATIENCE,
    RESCAN_SHARE,
    Cursors,
    Lane,
    Position,
    Scan,
    everything_until,
)

LANE = Lane("default", 5)
START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def position(seconds: float) -> Position:
    return Position(START + timedelta(seconds=seconds), UUID(int=1))


def scan(reached: float, *, xid: int | None, xmin: int) -> Scan:
    return Scan(reached={LANE: position(reached)}, xid=xid, xmin=xmin)


def test_a_new_cursor_begins_at_the_beginning() -> None:
    cursors = Cursors()
    assert cursors.should_rescan()
    assert cursors.start(LANE, rescan=True) == BEGINNING
    assert cursors.start(LANE, rescan=False) == BEGINNING


def test_a_position_settles_when_all_transactions_older_than_the_next_claim_have_ended() -> None:
    cursors = Cursors()
    cursors.record(scan(1, xid=100, xmin=100), rescan=True, took=0.001)
    assert cursors.start(LANE, rescan=True) == BEGINNING, "its transaction may have begun before others that are open"
    cursors.record(scan(2, xid=101, xmin=100), rescan=True, took=0.001)
    assert cursors.start(LANE, rescan=True) == BEGINNING, "tagged with 101, and 100 may be open"
    cursors.record(scan(3, xid=102, xmin=101), rescan=True, took=0.001)
    assert cursors.start(LANE, rescan=True) == position(1)
    assert cursors.start(LANE, rescan=False) == position(3)


def test_a_position_waits_while_an_older_transaction_is_open() -> None:
    cursors = Cursors()
    for claim in range(1, 20):
        cursors.record(scan(claim, xid=100 + claim, xmin=50), rescan=True, took=0.001)
    assert cursors.start(LANE, rescan=True) == BEGINNING
    assert cursors.start(LANE, rescan=False) == position(19)


def test_a_position_does_not_settle_by_a_claim_that_did_not_look_behind_it() -> None:
    clock = Clock()
    cursors = Cursors(clock)
    cursors.record(scan(1, xid=100, xmin=90), rescan=True, took=0.001)
    cursors.record(scan(2, xid=101, xmin=90), rescan=True, took=0.001)
    clock.now += PATIENCE * 2
    cursors.record(scan(3, xid=102, xmin=102), rescan=False, took=0.001)
    assert cursors.start(LANE, rescan=True) == BEGINNING, "what the older transactions left was not looked for"
    assert cursors.should_rescan(), "but now it is, at once"
    cursors.record(scan(3, xid=103, xmin=103), rescan=True, took=0.001)
    assert cursors.start(LANE, rescan=True) == position(1)


def test_a_full_claim_settles_no_further_than_it_has_looked() -> None:
    cursors = Cursors()
    cursors.record(scan(10, xid=100, xmin=90), rescan=True, took=0.001)
    cursors.record(scan(11, xid=101, xmin=90), rescan=True, took=0.001)
    cursors.record(scan(4, xid=102, xmin=102), rescan=True, took=0.001)
    assert cursors.start(LANE, rescan=True) == position(4), "between 4 and 10 there may be more of what came late"
    assert cursors.start(LANE, rescan=False) == position(11)


def test_rescans_become_rare_while_a_writing_transaction_stays_open() -> None:
    clock = Clock()
    cursors = Cursors(clock)
    cursors.record(scan(1, xid=100, xmin=90), rescan=True, took=0.5)
    cursors.record(scan(2, xid=101, xmin=90), rescan=True, took=0.5)
    assert cursors.should_rescan(), "usually it is over in milliseconds"
    clock.now += PATIENCE * 2
    assert not cursors.should_rescan()
    clock.now += RESCAN_SHARE * 0.5
    assert cursors.should_rescan()


def test_an_idle_queue_asks_for_a_transaction_id_once_it_has_something_to_settle() -> None:
    cursors = Cursors()
    asked = [cursors.is_untagged]
    cursors.record(scan(1, xid=None, xmin=90), rescan=True, took=0.001)
    asked.append(cursors.is_untagged)
    cursors.record(scan(1, xid=91, xmin=90), rescan=True, took=0.001)
    asked.append(cursors.is_untagged)
    assert asked == [False, True, False]


def test_a_lane_read_to_its_end_goes_on_behind_all_that_was_due() -> None:
    end = everything_until(START)
    assert end > Position(START, UUID(int=2**127))
    assert end < Position(START + timedelta(microseconds=1), UUID(int=0))


def test_a_reset_looks_at_everything_again() -> None:
    cursors = Cursors()
    for claim in range(1, 5):
        cursors.record(scan(claim, xid=100 + claim, xmin=100 + claim), rescan=True, took=0.001)
    assert cursors.start(LANE, rescan=True) != BEGINNING
    cursors.reset()
    assert cursors.start(LANE, rescan=True) == cursors.start(LANE, rescan=False) == BEGINNING
