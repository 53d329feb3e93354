"""The book of a worker's claims: which rows go, which stay, and which are shortened."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from uuid import UUID

from rowlock.queue.claim.holdings import Holdings

if TYPE_CHECKING:
    from asyncpg import Record


def rows(number: int | None, jobs: int) -> list[Record]:
    return [cast("Record", {"id": UUID(int=job), "number": number}) for job in range(jobs)]


def test_a_claim_is_over_once_each_of_its_jobs_has_ended() -> None:
    holdings = Holdings()
    first, second = holdings.number(), holdings.number()
    holdings.claimed(first, 2)
    holdings.claimed(second, 1)
    holdings.ended(rows(first, 1))
    assert holdings.over() == []
    holdings.ended(rows(second, 1))
    holdings.ended(rows(first, 1))
    third = holdings.number()
    assert holdings.over() == [second, first]
    holdings.claimed(third, 1)
    assert holdings.over() == []


def test_what_ends_while_a_claim_is_under_way_is_left_to_the_next_one() -> None:
    holdings = Holdings()
    first, second = holdings.number(), holdings.number()
    holdings.claimed(first, 1)
    holdings.claimed(second, 1)
    holdings.ended(rows(first, 1))
    third = holdings.number()
    assert holdings.over() == [first]
    holdings.ended(rows(second, 1))
    holdings.claimed(third, 1)
    assert holdings.over() == [second]


def test_a_reconnect_before_the_claim_is_sent_takes_back_what_it_was_to_remove() -> None:
    holdings = Holdings()
    number = holdings.number()
    holdings.claimed(number, 1)
    holdings.ended(rows(number, 1))
    sent = holdings.over()
    assert sent == [number]
    holdings.keep_all()
    assert sent == []


def test_numbers_of_two_books_differ() -> None:
    assert Holdings().number() != Holdings().number()


def test_adopted_jobs_and_claims_whose_answer_was_lost_end_nothing() -> None:
    holdings = Holdings()
    lost = holdings.number()
    holdings.ended(rows(None, 3))
    holdings.ended(rows(lost, 1))
    assert holdings.over() == []


def test_what_is_to_be_kept_stays_whatever_ends() -> None:
    holdings = Holdings()
    one, other = holdings.number(), holdings.number()
    holdings.claimed(one, 1)
    holdings.claimed(other, 1)
    holdings.ended(rows(one, 1))
    holdings.keep_all()
    holdings.ended(rows(other, 1))
    assert holdings.over() == []


def test_only_large_claims_of_which_little_is_left_are_shortened() -> None:
    holdings = Holdings()
    small, large = holdings.number(), holdings.number()
    holdings.claimed(small, 8)
    holdings.claimed(large, 64)
    holdings.ended(rows(small, 7))
    holdings.ended(rows(large, 47))
    assert holdings.to_trim() == []
    holdings.ended(rows(large, 1))
    assert holdings.to_trim() == [large]
    holdings.trimmed(large, 16)
    assert holdings.to_trim() == []
