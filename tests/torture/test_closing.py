"""The checkers of what the database adds up: statistics and retention."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest

from rowlock.torture import closing
from rowlock.torture.audit import install
from rowlock.torture.checks import retention, statistics
from rowlock.torture.closing import Counted, Relic
from tests.torture.operating import broken, clean, close, kept_relics
from tests.torture.story import Story
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def counted(**numbers: int) -> list[Counted]:
    known: dict[str, Any] = {"succeeded": 0, "failed": 0, "cancelled": 0, "expired": 0, "errors": 0, **numbers}
    return [Counted(step=300, task="torture.quick", **known)]


@pytest.mark.parametrize("succeeded, errors, is_broken", [(2, 1, False), (1, 1, True), (3, 1, True), (2, 0, True)])
def test_the_statistics_come_to_what_ended(story: Story, succeeded: int, errors: int, *, is_broken: bool) -> None:
    story.done()
    job = story.run(story.enqueue(), "error")
    story.again(job, "error")
    story.run(job)
    close(story, counted=counted(succeeded=succeeded, errors=errors))
    assert broken(story) == ({statistics.RULE} if is_broken else set())


@pytest.mark.parametrize("failed, is_broken", [(0, False), (1, False), (2, True)])
def test_an_end_that_was_undone_counts_once_or_was_not_seen(story: Story, failed: int, *, is_broken: bool) -> None:
    job = story.run(story.enqueue(), "error")
    story.fail(job)
    story.act("retry", job)
    story.run(job)
    close(story, counted=counted(succeeded=1, failed=failed, errors=1))
    assert broken(story) == ({statistics.RULE} if is_broken else set())


def test_workers_that_do_not_count_are_seen(story: Story) -> None:
    story.done()
    close(story, counted=counted(succeeded=1), is_counted=False)
    assert broken(story) == {statistics.RULE}


def test_retention_removes_what_is_due_and_nothing_else(story: Story) -> None:
    close(story)
    assert clean(story).looked[retention.RULE] == 6


@pytest.mark.parametrize(
    "relics",
    [
        [*kept_relics(2), Relic(id=kept_relics(1)[0].id, queue="operate.brief", state="succeeded", has_attempt=True)],
        kept_relics(2)[1:],
        kept_relics(2)[:-1],
        [*kept_relics(2)[1:], Relic(id=kept_relics(1)[0].id, queue="operate.brief", state="failed", has_attempt=False)],
    ],
    ids=["something is left", "a failed job is gone", "another queue's is gone", "an attempt is gone"],
)
def test_retention_that_removes_too_much_or_too_little_is_seen(story: Story, relics: list[Relic]) -> None:
    close(story, relics=relics)
    assert broken(story) == {retention.RULE}


async def test_the_duties_are_made_due_again_while_nothing_is_counted(
    connection: Connection, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "DUE_EVERY", 0.05)
    await install(connection)
    other = await asyncpg.connect(direct_url)
    settling = asyncio.create_task(closing.settle(connection))
    due = (
        "SELECT bool_and(next_run_at <= clock_timestamp()) FROM rowlock.duty WHERE name IN ('statistics', 'retention')"
    )
    for _ in range(2):  # a count that was under way puts its duty off, whenever it ends
        await other.execute("UPDATE rowlock.duty SET next_run_at = clock_timestamp() + interval '1 hour'")
        await eventually(lambda: other.fetchval(due))
    assert not settling.done()
    await other.execute("UPDATE rowlock.statistic_mark SET until = clock_timestamp() WHERE name = 'counted'")
    assert (await settling).is_counted
    await other.close()


async def test_a_closing_without_workers_says_that_nothing_is_counted(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "COUNT_SECONDS", 0.01)
    await install(connection)
    assert not (await closing.settle(connection)).is_counted
