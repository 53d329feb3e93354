"""The checkers of what the database adds up: statistics and retention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rowlock.torture.checks import retention, statistics
from rowlock.torture.closing import Counted, Relic
from tests.torture.operating import broken, clean, close, kept_relics
from tests.torture.story import Story


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
