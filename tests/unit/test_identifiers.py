"""Identifiers are RFC 9562 UUIDs of version 7, greater one by one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import RFC_4122, UUID, SafeUUID, uuid4

import pytest

from rowlock.errors import InvalidOption
from rowlock.queue.jobs import identifiers
from rowlock.queue.jobs.identifiers import created_at, uuid7


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> identifiers._Generator:
    """A fresh generator in place of the process's, whose clock may be far ahead after other tests."""
    fresh = identifiers._Generator()
    monkeypatch.setattr(identifiers, "_generator", fresh)
    return fresh


def set_clock(monkeypatch: pytest.MonkeyPatch, readings: Iterator[int]) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: next(readings))


def test_version_and_variant_are_those_of_rfc_9562() -> None:
    for identifier in (uuid7() for _ in range(500)):
        assert (identifier.version, identifier.variant) == (7, RFC_4122)


def test_an_identifier_is_a_uuid_like_any_other() -> None:
    identifier = uuid7()
    assert identifier == UUID(str(identifier))
    assert hash(identifier) == hash(UUID(str(identifier)))
    assert identifier.is_safe is SafeUUID.unknown
    assert len({uuid7() for _ in range(1000)}) == 1000


def test_the_example_of_rfc_9562_is_read_to_the_millisecond() -> None:
    example = UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
    assert created_at(example) == datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)


def test_an_identifier_knows_when_it_was_made(generator: identifiers._Generator) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    identifier = uuid7()
    assert before <= created_at(identifier) <= datetime.now(UTC)


def test_identifiers_of_one_instant_increase(
    generator: identifiers._Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant = time.time_ns()
    set_clock(monkeypatch, iter([instant] * 10_000))
    made = [uuid7() for _ in range(10_000)]
    assert all(first < second for first, second in pairwise(made))


def test_identifiers_increase_when_the_clock_steps_back(
    generator: identifiers._Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns()
    set_clock(monkeypatch, iter([now, now - 3_600 * 10**9, now - 10**9, now + 10**9]))
    made = [uuid7() for _ in range(4)]
    assert made == sorted(made)
    assert created_at(made[2]) - created_at(made[0]) <= timedelta(milliseconds=1)
    assert created_at(made[3]) - created_at(made[0]) == timedelta(seconds=1)


def test_the_order_is_finer_than_a_millisecond(
    generator: identifiers._Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, iter([10**18, 10**18 + 1_000]))
    first, second = uuid7(), uuid7()
    assert created_at(first) == created_at(second)
    assert (second.int >> 64 & 0xFFF) - (first.int >> 64 & 0xFFF) == 4  # a tick is 244 ns


def test_threads_never_share_an_identifier_and_each_sees_them_increase() -> None:
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: [uuid7() for _ in range(2_000)], range(8)))
    assert len({identifier for batch in batches for identifier in batch}) == 16_000
    assert all(batch == sorted(batch) for batch in batches)


def test_all_random_bits_vary() -> None:
    ones = zeros = 0
    for _ in range(200):
        word = uuid7().int & ((1 << 62) - 1)
        ones |= word
        zeros |= ~word & ((1 << 62) - 1)
    assert ones == zeros == (1 << 62) - 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX only")
def test_a_forked_child_does_not_repeat_its_parents_random_bits() -> None:
    uuid7()  # leaves prefetched random numbers behind
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, uuid7().bytes)
        os._exit(0)
    os.waitpid(child, 0)
    theirs = UUID(bytes=os.read(reader, 16))
    os.close(reader)
    os.close(writer)
    ours = {uuid7().int & identifiers._RANDOM_BITS for _ in range(200)}
    assert theirs.int & identifiers._RANDOM_BITS not in ours


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX only")
def test_a_child_forked_while_a_thread_makes_an_identifier_can_make_its_own() -> None:
    with identifiers._generator._lock:
        child = os.fork()
        if child == 0:
            uuid7()
            os._exit(0)
    deadline = time.monotonic() + 10
    while (finished := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        os.sched_yield()
    assert finished == (child, 0)


def test_the_time_of_another_kind_of_uuid_is_refused() -> None:
    with pytest.raises(InvalidOption, match="not a UUID of version 7"):
        created_at(uuid4())


def test_a_time_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(InvalidOption, match="after the year 9999"):
        created_at(UUID("ffffffff-ffff-7fff-bfff-ffffffffffff"))
