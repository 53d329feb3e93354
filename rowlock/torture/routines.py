"""The routines of the operating program: pauses, scales, acts on many jobs, checkpoints, schedules, copies of jobs."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID, uuid4

from rowlock.errors import (
    DrainTimeout,
    InvalidOption,
    JobFailed,
    JobNotFound,
    ResultTimeout,
    ScheduleNotFound,
    WrongState,
)
from rowlock.queue.jobs.filter import JobFilter
from rowlock.torture import operated
from rowlock.torture.calls import LOST, Calls, Said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from asyncpg import Record

    from rowlock.app import Rowlock
    from rowlock.queue.jobs.new_job import NewJob
    from rowlock.queue.read.pages import JobPage

PAUSED: Final = operated.paused.options.queue
SCALED: Final = operated.scaled.options.queue
PERIOD: Final = 300
"""Seconds between two ticks of the schedules whose ticks are missed."""
MISSED: Final = 1500
"""How many seconds of ticks are missed."""
SET_BACK: Final = """
    UPDATE rowlock.schedule
       SET next_run_at = date_bin(interval '300 seconds', now(), 'epoch') - $2::integer * interval '1 second',
           is_paused = false, updated_at = clock_timestamp()
     WHERE name = $1
    RETURNING extract(epoch FROM next_run_at)::float8 AS since, extract(epoch FROM clock_timestamp())::float8 AS at"""
FIRED: Final = """
    SELECT next_run_at > now() AS is_done, extract(epoch FROM clock_timestamp())::float8 AS at
      FROM rowlock.schedule WHERE name = $1"""
OLD_SECONDS: Final = 4.0
BY: Final[dict[str, dict[str, Any]]] = {
    "tag": {},
    "task": {"task": operated.bulk.name},
    "args": {"args": {"part": "a"}},
    "age": {"older_than": OLD_SECONDS},
}
"""The property by which a filter, beside the tag, selects the intended jobs, and the filter's condition on it."""
FIRED_SECONDS: Final = 15.0
RESUMED_SECONDS: Final = 40.0
SURELY_SECONDS: Final = 1.0
"""How long before an act its jobs have ended: by any of the clocks."""


async def pause(calls: Calls) -> None:
    """Pause a queue, or drain it, enqueue into it meanwhile, and resume it."""
    app, rng = calls.app, calls.rng
    await calls.enqueue([operated.paused.job(rng.choice([0.0, 0.3, 1.0])) for _ in range(15)])
    if rng.random() < 0.5:

        async def drain() -> None:
            await app.queues.drain(PAUSED, timeout=6, by="torture")

        await calls.call("drain", drain, about={"queue": PAUSED}, refused=(DrainTimeout,))
    else:

        async def stop() -> None:
            await app.queues.pause(PAUSED, by="torture")

        await calls.call("pause", stop, about={"queue": PAUSED})
    waiting = await calls.enqueue([operated.paused.job(0.0) for _ in range(5)])
    await calls.pause(rng.choice([0.2, 2.0, 5.0]))
    if await resume(calls) is not None:
        for handle in waiting[:1]:
            await _see_it_run(calls, handle)
    await calls.pause(rng.choice([0.0, 2.0]))


async def _see_it_run(calls: Calls, handle: Any) -> None:  # noqa: ANN401  # a handle of any task
    async def wait() -> Said:
        try:
            await handle.result(timeout=RESUMED_SECONDS)
        except ResultTimeout:
            return {"is_late": True}
        return {"is_late": False}

    await calls.call("resumed", wait, jobs=[handle.id])


async def resume(calls: Calls) -> Said | None:
    """Resume the queue, and repeat it until there is an answer."""

    async def go_on() -> None:
        await calls.app.queues.resume(PAUSED, by="torture")

    return await calls.insist("resume", go_on, {"queue": PAUSED})


async def scale(calls: Calls) -> None:
    """Limit how many jobs of a queue each worker may run at once, and enqueue more than that."""
    most = calls.rng.choice([1, 2, 5])

    async def say() -> None:
        await calls.app.queues.scale(SCALED, most, by="torture")

    await calls.call("scale", say, about={"queue": SCALED, "most": most})
    for _ in range(8):
        await calls.enqueue([operated.scaled.job(calls.rng.choice([0.2, 0.6])) for _ in range(12)])
        await calls.pause(2.0)


async def undo(calls: Calls) -> None:
    """Reset the queues."""
    await resume(calls)

    async def say() -> None:
        await calls.app.queues.scale(SCALED, None, by="torture")

    await calls.insist("scale", say, {"queue": SCALED, "most": 0})


async def cancel_many(calls: Calls) -> None:
    """Cancel the jobs with a tag: some wait, some run, some have finished; all of them, or only the scheduled ones.

    Others, which another part of the filter excludes, continue.
    """
    rng, tag = calls.rng, uuid4().hex
    by = rng.choice(list(BY))
    others = [_other(by, tag, delay=rng.choice([0.0, 1.0, 6.0]), fails=False) for _ in range(4)]
    group = [
        operated.bulk.using(tags=[tag], delay=rng.choice([0.0, 0.3, 6.0])).job(
            fails=False, seconds=rng.choice([0.0, 2.0]), part="a"
        )
        for _ in range(rng.randint(2, 25))
    ]
    began = await _enqueue_both(calls, group, others, by)
    if began is None:
        return
    ids = [job.id for job in group]
    state: Literal["scheduled"] | None = "scheduled" if rng.random() < 0.3 else None
    which = JobFilter(tag=tag, queue="operate.bulk", state=state, **BY[by])

    async def try_it() -> Said:
        async with _young(began, by):
            return {"count": (await calls.app.jobs.cancel_many(which, dry_run=True)).count}

    async def do() -> Said:
        async with _young(began, by):
            done = await calls.app.jobs.cancel_many(which, reason="torture", by="torture")
        return {"count": done.count, "requested": done.requested, "first_ids": [str(id_) for id_ in done.first_ids]}

    if rng.random() < 0.3:
        await calls.call("dry cancel_many", try_it, jobs=ids)
    await calls.call("cancel_many", do, jobs=ids, about={"state": state, "by": by})


def _other(by: str, tag: str, *, delay: float = 0.0, fails: bool) -> NewJob[Any]:
    """A job that differs from the intended ones only in one property, which the filter names."""
    task = operated.bulk_too if by == "task" else operated.bulk
    tags = [f"{tag}-not" if by == "tag" else tag]
    return task.using(tags=tags, delay=delay).job(fails=fails, part="b" if by == "args" else "a")


async def _enqueue_both(calls: Calls, group: list[NewJob[Any]], others: list[NewJob[Any]], by: str) -> float | None:
    """Enqueue the intended jobs and others; if the filter is the age, the others are younger.

    Returns when the others' enqueue began; None if it is unknown what is stored.
    """
    if by != "age":
        began = time.monotonic()
        if not await calls.enqueue([*group, *others]):
            return None
        await calls.pause(calls.rng.choice([0.0, 0.2, 0.5]))
        return began
    if not await calls.enqueue(group):
        return None
    await calls.pause(OLD_SECONDS + SURELY_SECONDS)
    if calls.stopping.is_set():  # perhaps before they were old enough
        return None
    began = time.monotonic()
    return began if await calls.enqueue(others) else None


@asynccontextmanager
async def _young(began: float, by: str) -> AsyncIterator[None]:
    """Stop, with a TimeoutError, before the others are as old as the intended jobs."""
    left = OLD_SECONDS - SURELY_SECONDS - (time.monotonic() - began)
    async with asyncio.timeout(left if by == "age" else None):
        yield


async def retry_many(calls: Calls) -> None:
    """Put dead letters with a tag back, or discard them. Others, with another tag, stay unchanged."""
    rng, tag = calls.rng, uuid4().hex
    group = [operated.bulk.using(tags=[tag]).job(fails=rng.random() < 0.7, part="a") for _ in range(rng.randint(2, 15))]
    by = rng.choice([one for one in BY if one != "age"])
    others = [_other(by, tag, fails=True) for _ in range(2)]
    handles = await calls.enqueue([*group, *others])
    if not handles:
        return
    await asyncio.gather(*(_finish(handle) for handle in handles))
    ids = [job.id for job in group]
    which = JobFilter(tag=tag, queue="operate.bulk", **BY[by])
    what: Literal["retry_many", "discard_many"] = "discard_many" if rng.random() < 0.3 else "retry_many"

    async def try_it() -> Said:
        return {"count": (await getattr(calls.app.jobs, what)(which, dry_run=True)).count}

    async def do() -> Said:
        done = await getattr(calls.app.jobs, what)(which, by="torture")
        return {"count": done.count, "skipped": done.skipped, "first_ids": [str(id_) for id_ in done.first_ids]}

    await calls.call(f"dry {what}", try_it, jobs=ids)
    await calls.pause(SURELY_SECONDS)
    await calls.call(what, do, jobs=ids, about={"by": by})
    if what == "discard_many":
        await _look_at_discarded(calls, tag, ids)


async def _look_at_discarded(calls: Calls, tag: str, ids: list[UUID]) -> None:
    async def look() -> Said:
        app = calls.app
        discarded = await _ids_on_all_pages(app.jobs.list, JobFilter(tag=tag, discarded=True))
        return {"discarded": discarded, "dead": await _ids_on_all_pages(app.dead_letters.list, JobFilter(tag=tag))}

    await calls.call("discarded", look, jobs=ids)


async def _ids_on_all_pages(read: Callable[..., Awaitable[JobPage]], which: JobFilter) -> list[str]:
    """A page ends after two seconds: on a busy machine it may be empty, and still have a next page."""
    ids: list[str] = []
    before: UUID | None = None
    while True:
        page = await read(which, before=before, limit=100)
        ids += [str(job.id) for job in page]
        if (before := page.following) is None:
            return ids


async def checkpoint(calls: Calls) -> None:
    """Enqueue jobs that save checkpoints, and read their progress when they have ended."""
    rng = calls.rng
    await calls.enqueue(
        [operated.steps.job(rng.choice([5, 20]), rng.choice([0, 1, 2]), is_silent=rng.random() < 0.3) for _ in range(3)]
    )


async def run_again(calls: Calls) -> None:
    """Run a finished job again: as it was, or with other arguments."""
    op = uuid4().hex
    for handle in await calls.enqueue([operated.again.using(priority=7, tags=["again"], metadata={"op": op}).job(op)]):
        await _finish(handle)
        args = {"op": f"{op}-other"} if calls.rng.random() < 0.5 else None

        async def do(id_: UUID = handle.id, args: dict[str, str] | None = args) -> Said:
            old = await calls.app.get(id_)
            new = await calls.app.jobs.run_again(id_, args=args, by="torture")
            after = await calls.app.get(id_)
            return {"old": _shown(old), "new": _shown(new), "after": _shown(after)}

        wanted = op if args is None else args["op"]
        await calls.call("run_again", do, jobs=[handle.id], refused=(WrongState,), about={"op": op, "wanted": wanted})


async def run_now(calls: Calls) -> None:
    """Run a schedule now."""

    async def do() -> Said:
        return {"job": str((await calls.app.schedules.run(operated.NOW, by="torture")).id)}

    await calls.call("run_now", do, refused=(ScheduleNotFound,))


async def miss(calls: Calls) -> None:
    """Make a schedule miss the ticks of half an hour, and check its policy."""
    app, name = calls.app, f"operate.missed.{uuid4().hex[:12]}"
    policy: Literal["latest", "all", "skip"] = calls.rng.choice(["latest", "all", "skip"])

    async def create() -> None:
        await app.schedules.create(
            name, operated.missed.name, "0 */5 * * * *", misfire=policy, is_paused=True, by="torture"
        )

    async def set_back() -> Said:
        row = await _row_of_schedule(app, name, SET_BACK, MISSED)
        until = asyncio.get_running_loop().time() + FIRED_SECONDS
        while asyncio.get_running_loop().time() < until:
            now = await _row_of_schedule(app, name, FIRED)
            if now["is_done"]:
                return {"since": row["since"], "until": row["at"], "fired": now["at"]}
            await asyncio.sleep(0.2)
        return {"since": row["since"], "until": row["at"], "fired": None}

    if await calls.call("create", create, refused=(InvalidOption,), about={"schedule": name}) is not None:
        await calls.call("miss", set_back, about={"schedule": name, "policy": policy, "period": PERIOD})


async def _row_of_schedule(app: Rowlock, name: str, sql: str, *parameters: object) -> Record:
    """Run a statement on a schedule; return its one row. Raises `ScheduleNotFound`: the database may be rewound."""
    async with app.database.connection() as connection:
        row = await connection.fetchrow(sql, name, *parameters, timeout=5)
    if row is None:
        raise ScheduleNotFound(f"The schedule {name} is gone.")
    return row


async def _finish(handle: Any) -> None:  # noqa: ANN401  # a handle of any task
    """Wait until the job has finished, as long as the database answers."""
    try:
        await handle.result(timeout=15)
    except (JobFailed, ResultTimeout, JobNotFound, *LOST):
        return


def _shown(job: Any) -> dict[str, Any]:  # noqa: ANN401  # a Job
    return {
        name: getattr(job, name)
        for name in (
            "task",
            "args",
            "queue",
            "priority",
            "tags",
            "metadata",
            "max_attempts",
            "state",
            "attempt",
            "errors",
        )
    } | {"id": str(job.id)}


ROUTINES: Final[tuple[tuple[Callable[[Calls], Awaitable[None]], float], ...]] = (
    (pause, 0.1),
    (scale, 0.1),
    (cancel_many, 1.0),
    (retry_many, 1.0),
    (checkpoint, 1.5),
    (run_again, 1.0),
    (run_now, 2.0),
    (miss, 4.0),
)
"""Each with the seconds after which it begins again."""
