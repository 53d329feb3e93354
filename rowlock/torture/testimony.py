"""The testimony of a run's processes for the witness: plain lines in a file each, and rows that handlers insert.

`witness-NAME-PID.txt` gets its lines by one `write` each: `asked`, `stored` or `nothing` and a job's id; `begun` or
`ended` with the job, the attempt, the handler's call and its end. Each line ends with its time: the machine's
monotonic clock, in nanoseconds.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from asyncpg import Connection, Record

EXACTLY_ONCE: Final = frozenset({"torture.exactly_once"})
"""The tasks that insert their effect in `job.transaction()`: exactly one for each success, and no other."""
AT_LEAST_ONCE: Final = frozenset({"torture.quick", "torture.flaky", "torture.batch"})
"""The tasks that insert their effect over a separate connection: at least one for each success."""
ONE_OF: Final = 8
"""One in so many jobs of the latter does: the run should load the queue, not this table."""
EFFECT_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 0.2
CALL_SECONDS: Final = 3.0
MOST_IDLE: Final = 4
EFFECT: Final = "INSERT INTO witness.effect (job, attempt, run) VALUES ($1, $2, $3)"
AWAY: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


_opened: Final[list[int]] = []


def open_file(folder: Path, name: str) -> None:
    """Open this process's file in the run's folder, under its name in the run."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    _opened[:] = [os.open(folder / f"witness-{name}-{os.getpid()}.txt", flags, 0o600)]


def _write(lines: str) -> None:
    """Write lines at once, to the open file, else to the file that the environment names."""
    if not _opened:
        open_file(Path(os.environ["ROWLOCK_TORTURE_FOLDER"]), os.environ["ROWLOCK_TORTURE_NAME"])
    os.write(_opened[0], lines.encode())


def note(what: str, jobs: Iterable[object]) -> None:
    """Log that these jobs are `asked` for, are `stored` by an acknowledgement, or that `nothing` was stored; other
    outcomes prove nothing.
    """
    if what not in {"asked", "stored", "nothing"}:
        return
    at = time.monotonic_ns()
    if lines := "".join(f"{what} {job} {at}\n" for job in jobs):
        _write(lines)


@contextmanager
def attempt(job: UUID, number: int, run: str) -> Iterator[None]:
    """Log that a handler has begun an attempt, and how it ended."""
    _write(f"begun {job} {number} {run} {time.monotonic_ns()}\n")
    how = "raised"
    try:
        yield
        how = "returned"
    finally:
        _write(f"ended {job} {number} {run} {how} {time.monotonic_ns()}\n")


def is_inserted(task: str, job: UUID) -> bool:
    """Whether this job's handler inserts an effect over a separate connection."""
    return task in AT_LEAST_ONCE and job.int % ONE_OF == 0


class Effects:
    """Inserts effects over separate connections. A handler that is stopped meanwhile stops at once."""

    def __init__(self) -> None:
        self._idle: list[Connection[Record]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def insert(self, dsn: str, task: str, job: UUID, number: int, run: str) -> None:
        """Insert the effect of an attempt, if this job has any; raise if that is not possible for a while."""
        if not is_inserted(task, job):
            return
        inserting = asyncio.create_task(self._insert(dsn, job, number, run))
        self._running.add(inserting)
        inserting.add_done_callback(self._forget)
        await asyncio.shield(inserting)  # a dead link must not hold up a handler that has to stop

    async def _insert(self, dsn: str, job: UUID, number: int, run: str) -> None:
        until = asyncio.get_running_loop().time() + EFFECT_SECONDS
        while True:
            try:
                await self._insert_once(dsn, job, number, run)
            except AWAY:
                if asyncio.get_running_loop().time() > until:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return

    async def _insert_once(self, dsn: str, job: UUID, number: int, run: str) -> None:
        """Insert it over an idle connection or a new one. A connection that fails is cut, without waiting for it."""
        connection = self._idle.pop() if self._idle else await asyncpg.connect(dsn, timeout=CALL_SECONDS)
        try:
            await connection.execute(EFFECT, job, number, run, timeout=CALL_SECONDS)
        except BaseException:
            connection.terminate()
            raise
        if len(self._idle) < MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.terminate()

    def close(self) -> None:
        """Cut the idle connections."""
        while self._idle:
            self._idle.pop().terminate()

    def _forget(self, done: asyncio.Task[None]) -> None:
        self._running.discard(done)
        if not done.cancelled():
            done.exception()  # the handler has got it, or was stopped and does not care
