"""Jobs that take their worker down, among jobs that do not: the former are set aside, all of the latter finish."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from rowlock import Rowlock, Settings
from tests.acceptance.processes import supervised
from tests.acceptance.tasks import poison, take
from tests.waiting import eventually

SHORT_LEASE = {"ROWLOCK_LEASE": "3", "ROWLOCK_HEARTBEAT": "0.5"}
GOOD = 200
POISON = ("exit", "segfault", "kill")


@pytest.mark.slow
async def test_poison_jobs_are_set_aside_and_the_good_ones_beside_them_all_finish(settings: Settings) -> None:
    async with Rowlock(settings=settings) as app:
        jobs = [*(take.job(0.05) for _ in range(GOOD)), *(poison.job(how) for how in POISON)]
        random.Random(1).shuffle(jobs)
        handles = await app.enqueue_many(jobs)
        async with supervised(settings, "--concurrency", "50", workers=2, **SHORT_LEASE) as died:

            async def all_ended() -> bool:
                async with app.database.connection() as connection:
                    return not await connection.fetchval("SELECT EXISTS (SELECT FROM rowlock.job)")

            await eventually(all_ended, timeout=90)
        rows = [await app.get(handle.id) for handle in handles]
    good, bad = ([row for row in rows if row.task == task.name] for task in (take, poison))
    assert Counter(row.state for row in good) == {"succeeded": GOOD}
    assert [(row.state, row.crashes) for row in bad] == [("failed", 3)] * len(POISON)
    assert {row.error for row in bad} == {"quarantined: 3 workers in a row died while they ran this job"}
    assert 3 + len(POISON) - 1 <= len(died) <= 3 * len(POISON), "together, and then each alone"
