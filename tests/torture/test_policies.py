"""The checker of the schedules' policies."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from rowlock.torture.audit import Tick
from rowlock.torture.checks import policies
from tests.torture.operating import broken, call, clean
from tests.torture.story import EPOCH, Job, Story

SINCE = EPOCH - 3600


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def tick(story: Story, schedule: str, at: float) -> Job:
    job = Job(uuid4(), schedule, None)
    story.insert(job)
    story.ticks.append(Tick(schedule=schedule, tick_at=at, job=job.id, fired_at=EPOCH + story.now))
    return job


def test_a_schedule_that_skips_has_one_live_job(story: Story) -> None:
    for number in range(2):
        story.run(tick(story, policies.ALONE, EPOCH + number))
    assert clean(story).looked[policies.OVERLAP] == 2


def test_two_live_jobs_of_a_schedule_that_skips_are_seen(story: Story) -> None:
    jobs = [tick(story, policies.ALONE, EPOCH + number) for number in range(2)]
    for job in jobs:
        story.run(job)
    assert broken(story) == {policies.OVERLAP}


@pytest.mark.parametrize(
    "policy, fired, late, is_broken",
    [
        ("all", [0, 1, 2], 100, False),
        ("all", [0, 2], 100, True),
        ("latest", [2], 100, False),
        ("latest", [0], 100, True),
        ("latest", [], 100, True),
        ("latest", [1, 2], 100, True),
        ("skip", [], 100, False),
        ("skip", [2], 100, True),
        ("skip", [2], 30, False),
        ("skip", [1], 30, True),
        ("latest", [3], 299.8, False),  # which falls due just before they fire
        ("latest", [1], 299.8, True),
        ("all", [0, 1, 2, 3], 299.8, False),
        ("all", [0, 1, 3], 299.8, True),
    ],
)
def test_missed_ticks_become_what_the_policy_says(
    story: Story, policy: str, fired: list[int], late: float, *, is_broken: bool
) -> None:
    for number in fired:
        story.run(tick(story, "operate.missed.1", SINCE + 300 * number))
    until = SINCE + 600 + late
    about = {"schedule": "operate.missed.1", "policy": policy, "period": 300}
    call(story, "miss", about=about, said={"since": SINCE, "until": until, "fired": until + 0.5})
    assert broken(story) == ({policies.MISFIRE} if is_broken else set())
