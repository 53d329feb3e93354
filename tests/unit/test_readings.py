"""Readings: one at a time, for everybody, for a while."""

from __future__ import annotations

import asyncio

import pytest

from rowlock.api.http import readings
from rowlock.api.http.readings import Readings


class Source:
    """Something to read, which counts how often it is."""

    def __init__(self) -> None:
        self.reads = 0
        self.is_broken = False
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def read(self) -> int:
        self.reads += 1
        number = self.reads
        await self.may_end.wait()
        if self.is_broken:
            raise ValueError(number)
        return number


async def test_those_who_ask_at_once_share_one_reading() -> None:
    source, shared = Source(), Readings()
    assert set(await asyncio.gather(*(shared.get("it", source.read) for _ in range(50)))) == {1}
    assert await shared.get("it", source.read) == 1
    assert await shared.get("another", source.read) == 2


async def test_an_old_reading_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    source, shared = Source(), Readings()
    assert await shared.get("it", source.read) == 1
    monkeypatch.setattr(readings, "FRESH_SECONDS", -1)
    monkeypatch.setattr(readings, "SHARE", -1)
    assert await shared.get("it", source.read) == 2


async def test_none_is_given_that_is_older_than_whoever_asks_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    source, shared = Source(), Readings()
    assert [await shared.get("it", source.read, most_age=60) for _ in range(2)] == [1, 1]
    assert await shared.get("it", source.read, most_age=0) == 2
    assert await shared.get("it", source.read, most_age=60) == 1, "what is read for one alone is nobody else's"
    assert await shared.get("it", source.read, most_age=1e-9) == 3
    monkeypatch.setattr(readings, "SHARE", 1e9)
    monkeypatch.setattr(readings, "STALE_SECONDS", 1e-9)
    assert await shared.get("it", source.read) == 4, "however long it took"
    assert await shared.get("it", source.read, most_age=3600) == 5, "whatever whoever asks would take"


async def test_of_a_slow_reading_the_former_is_given_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "FRESH_SECONDS", -1)
    monkeypatch.setattr(readings, "SHARE", -1)
    monkeypatch.setattr(readings, "SLOW_SECONDS", -1)
    source, shared = Source(), Readings()
    assert await shared.get("it", source.read) == 1
    source.may_end.clear()
    assert [await shared.get("it", source.read) for _ in range(3)] == [1, 1, 1]
    await asyncio.sleep(0)
    assert source.reads == 2
    monkeypatch.setattr(readings, "STALE_SECONDS", -1)
    source.may_end.set()
    assert await shared.get("it", source.read) == 2, "one that is too old is waited for"


async def test_an_act_makes_all_be_read_anew_even_what_is_under_way() -> None:
    source, shared = Source(), Readings()
    source.may_end.clear()
    first = asyncio.create_task(shared.get("it", source.read))
    await asyncio.sleep(0)
    shared.forget()
    second = asyncio.create_task(shared.get("it", source.read))
    await asyncio.sleep(0)
    source.may_end.set()
    assert (await first, await second) == (1, 2)


async def test_an_error_is_everybodys_and_is_not_kept() -> None:
    source, shared = Source(), Readings()
    source.is_broken = True
    told = await asyncio.gather(*(shared.get("it", source.read) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in told] == ["1"] * 3
    source.is_broken = False
    assert await shared.get("it", source.read) == 2


async def test_one_who_gives_up_does_not_end_the_reading_of_the_others() -> None:
    source, shared = Source(), Readings()
    source.may_end.clear()
    first, second = (asyncio.create_task(shared.get("it", source.read)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    source.may_end.set()
    assert await second == 1


async def test_closing_ends_what_is_under_way() -> None:
    source, shared = Source(), Readings()
    source.may_end.clear()
    asked = asyncio.create_task(shared.get("it", source.read))
    await asyncio.sleep(0)
    await shared.close(None)
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_no_more_readings_are_kept_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "MOST", 2)
    source, shared = Source(), Readings()
    for key in ("a", "b", "a", "c", "a", "b"):
        await shared.get(key, source.read)
    assert source.reads == 4, "b went for c, as a was asked for since"
