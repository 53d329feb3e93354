"""The public `Schedules`: create, read, edit, pause, resume, run and delete schedules as rows."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Unpack

from rowlock.errors import InvalidOption, ScheduleChanged, ScheduleExists, ScheduleNotFound, UnknownTask
from rowlock.queue.enqueue import columns
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.actor import Origin
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.operate.act import Act, acting
from rowlock.queue.read.handle import JobHandle
from rowlock.queue.read.pages import check_limit
from rowlock.queue.schedules.schedule import (
    OPTIONS,
    Declared,
    Misfire,
    Overlap,
    Schedule,
    ScheduleChanges,
    StoredSchedule,
    Tick,
    revision,
)
from rowlock.queue.tasks.arguments import plain_document
from rowlock.words import quoted

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from rowlock.queue.connect.database import Database
    from rowlock.queue.enqueue.idempotency import Connection
    from rowlock.queue.enqueue.task import Task

MOST_TICKS: Final = 1000


class Schedules:
    """The schedules of the database, as rows: `app.schedules`.

    Each change is one transaction, with a row in the table `operation` that records the act and its actor (`by`).
    Workers apply it within a second or so.

    >>> await app.schedules.create("nightly", "clean_up", "0 3 * * *", timezone="Europe/Berlin", by="ada")
    """

    def __init__(
        self,
        database: Database,
        tasks: Mapping[str, Task[..., Any]],
        origin: Origin | None = None,
        seen: Collection[str] | None = None,
    ) -> None:
        self._database = database
        self._tasks = tasks
        self._origin = Origin() if origin is None else origin
        self._seen = seen

    def through(self, origin: Origin, *, seen: Collection[str] | None = None) -> Schedules:
        """The same schedules, for acts of another origin, which the table `operation` records.

        With `seen`, an act on a schedule that has none of these revisions (`queue/schedules/schedule.py`) changes
        nothing and raises `ScheduleChanged`.
        """
        return Schedules(self._database, self._tasks, origin, seen)

    async def create(
        self,
        name: str,
        task: str,
        cron: str | timedelta,
        *,
        args: Mapping[str, object] | None = None,
        timezone: str = "UTC",
        misfire: Misfire = "latest",
        overlap: Overlap = "allow",
        jitter: timedelta | float = 0,
        queue: str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        is_paused: bool = False,
        by: str | None = None,
    ) -> StoredSchedule:
        """Create a schedule; the options are those of `Schedule`. Its first tick is the next one from now on.

        The task belongs to this application, or a worker has registered it. Raises `InvalidOption`, `ScheduleExists`,
        `InvalidArguments` and `UnknownTask`.
        """
        given = Schedule(
            cron,
            name=name,
            args={} if args is None else args,
            timezone=timezone,
            misfire=misfire,
            overlap=overlap,
            jitter=jitter,
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
        )
        checks.schedule_name(name)
        checks.flag("is_paused", is_paused)
        async with self._act(by) as act:
            document, version = await self._args(act, task, given.args)
            checked = Declared(name=name, task=task, args=document, args_version=version, schedule=given)
            now = (await act.run("moment"))[0]["now"]
            if not await act.run("add_schedule", *checked.parameters(), is_paused, given.times.next(now)):
                raise ScheduleExists(
                    f"schedule {quoted(name)} exists already. Edit it, delete it first, or use another name.",
                    option="name",
                )
            await act.record("create", name, {"task": task, "cron": given.cron, "timezone": timezone})
            return (await act.read(name))[0]

    async def get(self, name: str) -> StoredSchedule:
        """The schedule of this name. Raises `ScheduleNotFound`."""
        rows = await self._database.run("get_schedules", _possible(name))
        if not rows:
            raise _not_found(name)
        return StoredSchedule.from_row(rows[0])

    async def ticks(self, name: str, *, limit: int = 50) -> list[Tick]:
        """The last ticks that fired, newest first: at most 1,000. Raises `ScheduleNotFound`, `InvalidOption`."""
        check_limit(limit, MOST_TICKS)
        found = await self.get(name)
        return [Tick(**row) for row in await self._database.run("list_ticks", found.name, limit)]

    async def list(self) -> list[StoredSchedule]:
        """All schedules, by name."""
        return [StoredSchedule.from_row(row) for row in await self._database.run("get_schedules", None)]

    async def edit(self, name: str, *, by: str | None = None, **changes: Unpack[ScheduleChanges]) -> StoredSchedule:
        """Change a schedule: `task`, and any of the options of `create`; omitted options stay unchanged.

        With another cron text or time zone, its next tick counts from now. Edits of a schedule of the code last until
        the code declares it differently. Raises `ScheduleNotFound`, `InvalidOption`, `InvalidArguments`, `UnknownTask`.
        """
        for option in changes:
            if option not in {"task", *OPTIONS}:
                raise InvalidOption(f"{option} cannot be edited. Use task, {', '.join(OPTIONS)}.")
        async with self._act(by) as act:
            before, now = await self._lock(act, name)
            stored = {option: getattr(before, option) for option in OPTIONS}
            new = Schedule(**stored | {option: value for option, value in changes.items() if option != "task"})
            task = changes.get("task", before.task)
            is_checked = bool({"task", "args"} & changes.keys())
            document, version = await self._args(act, task, new.args) if is_checked else (None, None)
            checked = Declared(name=name, task=task, args=document, args_version=version, schedule=new)
            is_same = (new.text, new.timezone) == (before.cron, before.timezone)
            next_run_at = before.next_run_at if is_same else new.times.next(now)
            await act.run("edit_schedule", *checked.parameters(), before.is_paused, next_run_at)
            after = (await act.read(name))[0]
            await act.record("edit", name, {option: _told(after, option) for option in changes})
            return after

    async def pause(self, name: str, *, by: str | None = None) -> StoredSchedule:
        """Fire no tick until `resume`. Raises `ScheduleNotFound`."""
        return await self._set_pause(name, by, is_paused=True)

    async def resume(self, name: str, *, by: str | None = None) -> StoredSchedule:
        """Fire ticks again, from now on, but not those of the pause. Raises `ScheduleNotFound`."""
        return await self._set_pause(name, by, is_paused=False)

    async def run(self, name: str, *, by: str | None = None, connection: Connection | None = None) -> JobHandle[Any]:
        """Enqueue a job of the schedule now, even while it is paused, and under any overlap policy.

        Its ticks stay unchanged. `connection`, one of Rowlock's own: enqueue in its transaction. Raises
        `ScheduleNotFound`.
        """
        job_id = uuid7()
        async with self._act(by, connection) as act:
            before, _ = await self._lock(act, name)
            known = self._tasks.get(before.task)
            of_task = columns.of_task(None if known is None else known.options)
            made = await act.run("run_schedule", name, job_id, *of_task)
            await act.run("wake", [made[0]["queue"]])
            await act.record("run", name, {"job": str(job_id)})
        returns = Any if known is None else known.returns
        return JobHandle(job_id, before.task, False, self._database, returns)  # noqa: FBT003  # is_duplicate

    async def delete(self, name: str, *, by: str | None = None) -> None:
        """Delete a schedule; its jobs stay. The next worker creates a schedule of the code again.

        Raises `ScheduleNotFound`.
        """
        async with self._act(by) as act:
            before, _ = await self._lock(act, name)
            await act.run("delete_schedule", name)
            await act.record("delete", name, {"task": before.task, "cron": before.cron, "timezone": before.timezone})

    async def prune(self, *, by: str | None = None) -> builtins.list[str]:
        """Delete the schedules that the code once declared and no longer declares; return their names.

        A schedule counts as no longer declared once a worker has started whose code has the task but not the schedule.
        While workers of two versions run, that may be the older one: prune after the deploy. Their jobs stay.
        """
        async with self._act(by) as act:
            gone = sorted(await act.run("prune_schedules"), key=lambda row: str(row["name"]))
            for row in gone:
                details = {"task": row["task"], "cron": row["cron"], "timezone": row["timezone"]}
                await act.record("delete", row["name"], details)
        return [row["name"] for row in gone]

    async def _set_pause(self, name: str, by: str | None, *, is_paused: bool) -> StoredSchedule:
        async with self._act(by) as act:
            before, now = await self._lock(act, name)
            if before.is_paused == is_paused:
                return before
            same = Declared(name=name, task=before.task, args=None, args_version=None, schedule=before)
            next_run_at = before.next_run_at if is_paused else before.times.next(now)
            await act.run("edit_schedule", *same.parameters(), is_paused, next_run_at)
            await act.record("pause" if is_paused else "resume", name, {})
            return (await act.read(name))[0]

    async def _args(self, act: _Act, task: str, args: Mapping[str, object]) -> tuple[str, int]:
        """The arguments as JSON, checked against the task, and their version; 1 for a task of another application.
        Raises `UnknownTask`, `InvalidArguments`.
        """
        known = self._tasks.get(checks.task_name(task))
        if known is not None:
            return known.check(args, known.version)[0], known.version
        if await act.run("get_task", task):
            return plain_document(task, args, self._database.settings.max_args_bytes), 1
        names = ", ".join(sorted(self._tasks)) or "none"
        raise UnknownTask(
            f"The task {quoted(task)} is not known: this application has {names}, and no worker has registered it. "
            "Start a worker of the task, or check the name."
        )

    async def _lock(self, act: _Act, name: str) -> tuple[StoredSchedule, Any]:
        """Lock the schedule; return it and the database's time. Of all who read the same revision, only one changes it.

        Raises `ScheduleNotFound`, `ScheduleChanged`.
        """
        locked, now = await act.lock(name)
        if self._seen is not None and revision(locked) not in self._seen:
            raise ScheduleChanged(
                f"The schedule {quoted(name)} was changed since it was read, so nothing was done. Read it again, and "
                "decide again."
            )
        return locked, now

    def _act(self, by: str | None, connection: Connection | None = None) -> AbstractAsyncContextManager[_Act]:
        return acting(self._database, _Act, self._origin.acted_by(by), connection)


class _Act(Act):
    """An act on a schedule."""

    kind = field = "schedule"

    async def read(self, name: str) -> list[StoredSchedule]:
        return [StoredSchedule.from_row(row) for row in await self.run("get_schedules", name)]

    async def lock(self, name: str) -> tuple[StoredSchedule, Any]:
        """Lock the schedule; return it and the database's time. Raises `ScheduleNotFound`."""
        rows = await self.run("lock_schedule", _possible(name))
        if not rows:
            raise _not_found(name)
        return StoredSchedule.from_row(rows[0]), rows[0]["now"]


def _possible(name: object) -> str:
    """The name, if it can be one. Raises `ScheduleNotFound`."""
    try:
        return checks.schedule_name(name)
    except InvalidOption as error:
        raise _not_found(name) from error


def _not_found(name: object) -> ScheduleNotFound:
    return ScheduleNotFound(f"There is no schedule {quoted(name)}. See `rowlock schedules list`.")


def _told(schedule: StoredSchedule, option: str) -> object:
    """An option for the audit, which does not show arguments."""
    value = getattr(schedule, option)
    if option == "args":
        return "given"
    return value.total_seconds() if isinstance(value, timedelta) else value


__all__ = ["Schedules"]
