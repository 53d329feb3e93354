"""The history of a run: the actions of each process, one JSON line an event, written before and after each call.

A line is one `write` to a file opened for appending: it survives the kill of its process. `at` is the machine's
monotonic clock in nanoseconds, which all processes share, so that the order of the lines is the order of the events.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self
from uuid import UUID

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


class Event(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, tag_field="do"):
    """An event, its time, and its process."""

    at: int = 0
    by: str = ""
    pid: int = 0


class Wanted(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A job to enqueue. `key` is its unique key as it is stored (`task:key`, or `:key` if it is of no task), and
    `until` is how long it is held; `period` is the number of seconds of a key for a period.

    `delay`, `expires` and `deadline` are the options of these names, in seconds. `content` is the argument of that
    name, which the handler logs; `replaces` means that a waiting holder of the key gets it, and `raises` that a
    duplicate raises. `queue`, `priority`, `timeout` (seconds), `tags`, `metadata`, `args_version` and
    `run_at` (seconds since 1970) are the options of these names. Without a `queue`, the options are unknown.
    """

    id: UUID
    task: str
    key: str | None = None
    until: Literal["finish", "start", "period"] = "finish"
    max_attempts: int = 10
    period: float | None = None
    delay: float | None = None
    expires: float | None = None
    deadline: float | None = None
    content: int | None = None
    replaces: bool = False
    raises: bool = False
    queue: str | None = None
    priority: int = 5
    timeout: float | None = None
    tags: list[str] = []
    metadata: dict[str, str] = {}
    args_version: int = 1
    run_at: float | None = None


class Enqueue(Event, frozen=True, tag="enqueue"):
    """Before an enqueue: `op` names the call, `is_again` that these jobs were enqueued before. One call stores all of
    its jobs or none; `of` is their number, if `jobs` has only those that were found stored.
    """

    op: str
    how: str
    jobs: list[Wanted]
    is_again: bool = False
    of: int = 0


class Enqueued(Event, frozen=True, tag="enqueued"):
    """After an enqueue. `stored`: each of its jobs is in the database, acknowledged. `existing`: refused, since the job
    `existing` holds the key; the call `raised` DuplicateJob, or returned. `nothing`: certainly not stored (refused, or
    rolled back). `unknown`: neither is certain.
    """

    op: str
    outcome: Literal["stored", "existing", "nothing", "unknown"]
    existing: UUID | None = None
    raised: bool = False


class Start(Event, frozen=True, tag="start"):
    """A handler was called: for this attempt of this job. `run` names this one call; it is in its result too."""

    job: UUID
    attempt: int
    run: str
    task: str
    is_stubborn: bool = False
    """It cannot be stopped from outside: it blocks its event loop, or is a plain function in a thread."""
    content: int | None = None
    """The argument of this name, as the handler received it."""
    takes: float = 0.0
    """How many seconds it waits, at least, if nothing stops it."""
    worker: int = 0
    """The process of the worker, if the handler runs in another one (`executor="process"`)."""


class End(Event, frozen=True, tag="end"):
    """The handler is about to return or raise: `how` is `return`, `error`, `snooze`, `fail`, `cancel` (its own
    directive), or `stopped`: it was cancelled from outside (a stop, a timeout, a lost lease, an operator). `delay` is
    the shortest wait of the next attempt in seconds, and `longest` the longest (0: unknown).
    """

    job: UUID
    attempt: int
    run: str
    how: Literal["return", "error", "snooze", "fail", "cancel", "stopped"]
    delay: float = 0.0
    longest: float = 0.0


class Act(Event, frozen=True, tag="act"):
    """Before an operator's call on one job."""

    op: str
    what: Literal["cancel", "retry"]
    job: UUID


class Acted(Event, frozen=True, tag="acted"):
    """After it. `done`: acknowledged, the waiting job is cancelled, or the finished one queued again. `requested`: the
    job runs, and its worker was asked. `refused`: its state did not allow it. `unknown`: the answer was lost.
    """

    op: str
    outcome: Literal["done", "requested", "refused", "unknown"]


class Began(Event, frozen=True, tag="began"):
    """The process has opened its history. `clock` is its clock then, in seconds since 1970: the clocks of all processes
    relate the database's times to the machine's monotonic clock.
    """

    clock: float


class Process(Event, frozen=True, tag="process"):
    """A process of the run has started, or has ended with this exit code (negative: by this signal).

    `alive_at`: when a process that has no waiter was last seen alive. It ended between that and `at`.
    """

    name: str
    process: int
    what: Literal["started", "ended"]
    code: int = 0
    alive_at: int | None = None


class Fault(Event, frozen=True, tag="fault"):
    """A fault is about to begin, or (`is_over`) has just ended. `process` is the process that it hits, if it
    hits only one; without one it may hit everybody.

    `kill` (SIGKILL), `freeze` (SIGSTOP until it is over), `stop` (SIGTERM), `terminate` (pg_terminate_backend),
    `server` (the server is stopped at once, until it accepts connections again), `cut`, `delay`, `black_hole`,
    `half_open` (the network), `pin` (an old transaction), `full` (the disk), `skew` (the process's clock is wrong),
    `locks` (a table, named in `note`, is locked), `pgbouncer` (the pooler is down), `failover` (the standby takes the
    server's place; nothing is lost), `clock` (the server's clock steps: see `rowlock.torture.clocks`), `rewind` (the
    database goes back in time: `note` is the moment that it goes back to, as an `at`).
    """

    kind: str
    process: int = 0
    note: str = ""
    is_over: bool = False


class Stall(Event, frozen=True, tag="stall"):
    """The process did not run for so long, until now: it was frozen, or the machine had no time for it.

    For the `machine` or the `server`, the runner logs it: nothing ran for so long, or a commit took so long.
    """

    seconds: float
    of: Literal["process", "machine", "server"] = "process"


class Call(Event, frozen=True, tag="call"):
    """Before a call of the operating program: `what` it does, to which `jobs`, and `about` what else."""

    op: str
    what: str
    jobs: list[UUID] = []
    about: dict[str, Any] = {}


class Answer(Event, frozen=True, tag="answer"):
    """After it: `said` is what the call returned, or raised (`refused`). `unknown`: the answer was lost."""

    op: str
    outcome: Literal["done", "refused", "unknown"]
    said: dict[str, Any] = {}


class Note(Event, frozen=True, tag="note"):
    """A handler's note in the run `run`: it `found`, is `saving` or has `saved` a checkpoint, or `told` progress; a
    `beat` proves that a task's process lives.
    """

    job: UUID
    attempt: int
    run: str
    what: Literal["found", "saving", "saved", "stale", "told", "beat"]
    value: str = ""


AnyEvent = Began | Enqueue | Enqueued | Start | End | Act | Acted | Process | Fault | Stall | Call | Answer | Note
_decoder: Final = msgspec.json.Decoder(AnyEvent)
_encoder: Final = msgspec.json.Encoder()


class History:
    """The events of this process, appended to a file of its own in the run's folder; `by` is its name in the run.

    >>> with History(folder, "enqueuer-1") as history:  # doctest: +SKIP
    ...     history.write(Enqueue(op="1", how="own", jobs=[...]))
    """

    SUFFIX: ClassVar = ".history"

    def __init__(self, folder: Path, by: str) -> None:
        self.by = by
        self._pid = os.getpid()
        self._file = os.open(folder / f"{by}-{self._pid}{self.SUFFIX}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.write(Began(clock=time.time()))

    def write(self, event: Event) -> None:
        """Write the event, with the time, this process's name and its number."""
        stamped = msgspec.structs.replace(event, at=time.monotonic_ns(), by=self.by, pid=self._pid)
        os.write(self._file, _encoder.encode(stamped) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)


def read_history(folder: Path) -> Iterator[AnyEvent]:
    """Read all the events in a run's folder, file by file (in each, in the order of time).

    Raises `msgspec.DecodeError` for a line that is not an event.
    """
    for file in history_files(folder):
        for line in read_lines(file):
            yield read_event(line)


def history_files(folder: Path) -> list[Path]:
    """Return the histories in a run's folder, one a process."""
    return sorted(folder.glob(f"*{History.SUFFIX}"))


def read_lines(file: Path) -> Iterator[bytes]:
    """Read the lines of one history: each is one write, so none is half written.

    But the kernel writes page by page, and checks in between whether the process is to be killed: for the process, the
    half line at the end of a file of whole pages was never written.
    """
    with file.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n") or lines.tell() % mmap.PAGESIZE:
                yield line


def read_event(line: bytes) -> AnyEvent:
    """Read one line. Raises `msgspec.DecodeError` if it is not an event, or not a whole line."""
    if not line.endswith(b"\n"):
        raise msgspec.DecodeError("the line does not end")
    event: AnyEvent = _decoder.decode(line)
    return event
