"""The jobs that the enqueuing programs make, and the checker's expectations of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from rowlock.torture import workload
from rowlock.torture.history import Wanted

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from rowlock.queue.jobs.new_job import NewJob

ODD_JOBS: Final = 0.25
"""The share of jobs that are not simply quick."""
SLOW_SECONDS: Final = (0.01, 0.2, 1.0, 2.0, 8.0)
"""How long slow jobs take: some longer than the lease, so that they still run when it is lost."""


def make_job(rng: random.Random) -> NewJob[Any]:
    """Make a job of any kind: most of them quick, some slow, failing, delayed, or ending before their time."""
    if rng.random() > ODD_JOBS:
        return workload.quick.using(priority=rng.choice([5, 5, 5, 0, 9])).job()
    makers: dict[Callable[[], NewJob[Any]], int] = {
        lambda: workload.slow.job(rng.choices(SLOW_SECONDS, (3, 3, 3, 3, 1))[0]): 12,
        lambda: workload.flaky.job(rng.randint(1, 2), rng.choice(workload.NASTY)): 20,
        lambda: workload.directed.job(rng.choice(["snooze", "retry", "fail", "cancel"])): 10,
        lambda: workload.in_a_thread.job(rng.choice([0.0, 0.05])): 10,
        lambda: workload.batch.job(rng.choice([0, 0, 0, 1])): 20,
        workload.exactly_once.job: 20,
        workload.parent.job: 10,
        workload.doomed.job: 4,
        lambda: workload.quick.using(delay=rng.uniform(0, 3)).job(): 10,
        lambda: _with_options(rng): 20,
        lambda: workload.timed.job(rng.choice([0.1, 12.0])): 4,
        lambda: workload.slow.using(deadline=rng.choice([3.0, 6.0])).job(20.0): 4,
        lambda: workload.versioned.job(new=rng.randrange(100)): 5,
        lambda: workload.quick.using(delay=0.2, expires=rng.choice([0.21, 5.0])).job(): 4,
        lambda: workload.quick.using(delay=0.2, deadline=rng.choice([0.21, 5.0])).job(): 4,
        lambda: workload.flaky.using(deadline=rng.choice([0.3, 5.0])).job(2): 4,
        lambda: workload.in_a_thread.using(expires=rng.choice([0.05, 5.0])).job(0.05): 4,
        lambda: workload.in_a_thread.using(deadline=rng.choice([0.05, 5.0])).job(0.05): 4,
        lambda: workload.batch.using(expires=rng.choice([0.05, 5.0])).job(0): 4,
    }
    (make,) = rng.choices(list(makers), list(makers.values()))
    return make()


def _with_options(rng: random.Random) -> NewJob[Any]:
    """Make a job that overrides each of its task's options. Its time is a moment in the past or the future."""
    return workload.flaky.using(
        priority=rng.randrange(10),
        max_attempts=rng.randint(2, 20),
        timeout=rng.uniform(60, 90),
        tags=[f"tag-{rng.randrange(3)}", "torture"],
        metadata={"customer": str(rng.randrange(100)), "by": "torture"},
        run_at=datetime.now(UTC) + timedelta(seconds=rng.choice([-5.0, 0.5, 1.0, 2.0])),
    ).job(rng.randint(0, 1))


def wanted(job: NewJob[Any]) -> Wanted:
    """The job that its caller expects."""
    options, unique = job.options, job.options.unique
    until: Literal["finish", "start", "period"] = "finish"
    key: str | None = None
    if unique is not None:
        until = unique.until if unique.period is None else "period"
        key = f"{'' if unique.across_tasks else job.task}:{unique.key}"
    return Wanted(
        id=job.id,
        task=job.task,
        key=key,
        until=until,
        period=_seconds(unique.period) if unique is not None else None,
        max_attempts=options.max_attempts,
        delay=_seconds(options.delay),
        expires=_seconds(options.expires),
        deadline=_seconds(options.deadline),
        content=msgspec.json.decode(job.args).get("content"),
        replaces=unique is not None and unique.on_duplicate == "replace",
        raises=unique is not None and unique.on_duplicate == "raise",
        queue=options.queue,
        priority=options.priority,
        timeout=_seconds(options.timeout),
        tags=list(options.tags or ()),
        metadata=msgspec.json.decode(options.metadata or "{}"),
        args_version=job.args_version,
        run_at=None if options.run_at is None else options.run_at.timestamp(),
    )


def _seconds(option: object) -> float | None:
    return option.total_seconds() if isinstance(option, timedelta) else None


__all__ = ["make_job", "wanted"]
