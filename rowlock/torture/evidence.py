"""What a run has left behind, in the shape in which the checks want it: by job, by process, by worker."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rowlock.torture.audit import Change, Effect, Last, Recorded, Tick, read_audit
from rowlock.torture.clocks import Clocks, Step
from rowlock.torture.closing import Closing, read_closing
from rowlock.torture.history import (
    Act,
    Acted,
    Answer,
    Began,
    Call,
    End,
    Enqueue,
    Enqueued,
    Fault,
    Note,
    Process,
    Stall,
    Start,
    Wanted,
    history_files,
    read_event,
    read_lines,
)
from rowlock.torture.logs import Said, read_logs
from rowlock.torture.remains import Remains, read_remains
from rowlock.torture.rewinds import Rewinds, rewound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from rowlock.torture.life import Life

SECOND: Final = 1_000_000_000
"""In the history's nanoseconds."""
PAUSES: Final = frozenset({"freeze", "stall"})
"""What keeps a process from running at all."""
MAKING_ROOM: Final = frozenset({"claims_paused", "jobs_adopted", "concurrency_changed"})
SLOW: Final = "slow"
"""The kind of trouble when the machine, or the server, made everybody wait."""
ON_MANY: Final = {"cancel_many": "cancel", "retry_many": "retry"}
"""The operating program's calls that do to many jobs what an operator does to one."""
BLOCKS: Final = "torture.blocks"
"""The task whose handler blocks its process's event loop: nothing there can be stopped meanwhile."""


@dataclass(slots=True, kw_only=True)
class Run:
    """One call of a handler. `ended` is when it ended, or its process did; infinite if neither is known to have."""

    job: UUID
    attempt: int
    run: str
    pid: int
    task: str
    is_stubborn: bool
    started: int
    ended: float = inf
    how: str | None = None
    """As in `End`; None if there is no such event."""
    content: int | None = None
    delay: float = 0.0
    """As in `Start` and `End`."""
    child: int = 0
    """The process of the handler, if that is not the worker's; `pid` is the worker's."""


@dataclass(slots=True, kw_only=True)
class Operation:
    """An operator's call. `ended` is infinite if its answer was never written down; it is unknown then."""

    what: str
    began: int
    ended: float = inf
    outcome: str = "unknown"


@dataclass(slots=True, kw_only=True)
class Deed:
    """A call of the operating program. `ended` is infinite if its answer was never written down."""

    what: str
    pid: int
    began: int
    jobs: list[UUID]
    about: dict[str, Any]
    ended: float = inf
    outcome: str = "unknown"
    said: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Refusal:
    """An enqueue that was refused, since another job held the key."""

    began: int
    ended: int
    wanted: list[Wanted]


@dataclass(slots=True, kw_only=True)
class Bulk:
    """A call that was given several jobs, to store all of them or none; `of` as in `Enqueue`, or how many there are."""

    op: str
    how: str
    jobs: list[UUID]
    of: int
    outcome: str = "unknown"


@dataclass(slots=True, kw_only=True)
class Taken:
    """What one claim statement took of one queue: the least urgent job of it, as (priority, due time, job)."""

    began: float
    at: float
    priority: int
    run_at: float
    job: UUID


@dataclass(slots=True, kw_only=True)
class Wait:
    """A delayed job that no claim can have overlooked, from when it was due until it was taken, or ended."""

    job: UUID
    queue: str
    priority: int
    run_at: float
    until: float


@dataclass(slots=True, kw_only=True)
class Rescue:
    """A job that was taken from its worker: `claimed` and `number` are those changes, in this transaction."""

    job: UUID
    claimed: int
    number: int
    xid: int
    crashes: int
    is_quarantine: bool


@dataclass(slots=True, kw_only=True)
class Trouble:
    """A fault, from its begin to its end."""

    kind: str
    process: int
    begins: int
    ends: float = inf
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Worker:
    """A worker as its row says: each mark is when it was written, and until when the lease goes (None: it is gone)."""

    pid: int
    marks: list[tuple[float, float | None]] = field(default_factory=list)


@dataclass(slots=True)
class Ends:
    """How the jobs of each task ended, and how many attempts failed: what the statistics must come to."""

    last: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By task and state: the jobs that are in this state in the end."""
    ever: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By task and state: how often a job came to this state, put back since then or not."""
    undone: Counter[str] = field(default_factory=Counter)
    """By task: the ends that an operator's retry undid."""
    errors: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Answers:
    """How many of the enqueues of one job had which outcome."""

    stored: int = 0
    existing: int = 0
    nothing: int = 0
    unknown: int = 0
    first_stored: float = inf
    """When the first of them was acknowledged."""


@dataclass
class Evidence:
    """Everything but the changes of the jobs, which are too many to keep."""

    wanted: dict[UUID, Wanted] = field(default_factory=dict)
    answers: dict[UUID, Answers] = field(default_factory=dict)
    runs: dict[UUID, list[Run]] = field(default_factory=lambda: defaultdict(list))
    operations: dict[UUID, list[Operation]] = field(default_factory=lambda: defaultdict(list))
    refusals: dict[UUID, list[Refusal]] = field(default_factory=lambda: defaultdict(list))
    """By the job that held the key."""
    bulks: dict[str, Bulk] = field(default_factory=dict)
    """By the call's name: those of several jobs without a unique key."""
    inserted: dict[UUID, int] = field(default_factory=dict)
    """The transaction that stored a job first, of those that several were given of at once."""
    taken: dict[str, dict[tuple[int, UUID | None], Taken]] = field(default_factory=lambda: defaultdict(dict))
    """By the queue: what each claim took, by its transaction and worker."""
    waits: list[Wait] = field(default_factory=list)
    blocking: dict[int, list[Run]] = field(default_factory=lambda: defaultdict(list))
    """The runs that blocked the event loop of the process with this number."""
    deeds: list[Deed] = field(default_factory=list)
    """What the operating program did, in the order of time."""
    deeds_on: dict[UUID, list[Deed]] = field(default_factory=lambda: defaultdict(list))
    """The same, by the jobs that they were about."""
    kept: dict[UUID, Life] = field(default_factory=dict)
    """The lives of those jobs, and of the jobs of schedules: few enough to keep."""
    notes: dict[UUID, list[Note]] = field(default_factory=lambda: defaultdict(list))
    """What handlers noted, by job, in the order of time."""
    closing: Closing = field(default_factory=Closing)
    ends: Ends = field(default_factory=Ends)
    deaths: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """When the processes with this number were killed, or were seen to have ended."""
    names: dict[int, str] = field(default_factory=dict)
    """The names in the run of the processes with these numbers."""
    troubles: list[Trouble] = field(default_factory=list)
    broken_lines: list[tuple[str, str]] = field(default_factory=list)
    clocks: Clocks = field(default_factory=Clocks)
    """The steps of the server's clock. All times of changes, of leases and of outcomes are without them."""
    rewinds: Rewinds = field(default_factory=Rewinds)
    remains: Remains | None = None
    claims: Counter[int] = field(default_factory=Counter)
    stored: Counter[int] = field(default_factory=Counter)
    """How many jobs were claimed, and how many were acknowledged, in each second of the history."""

    workers: dict[UUID, Worker] = field(default_factory=dict)
    recorded: dict[UUID, list[Recorded]] = field(default_factory=lambda: defaultdict(list))
    effects: dict[UUID, list[Effect]] = field(default_factory=lambda: defaultdict(list))
    last: dict[UUID, list[Last]] = field(default_factory=lambda: defaultdict(list))
    ticks: list[Tick] = field(default_factory=list)
    tick_jobs: set[UUID] = field(default_factory=set)
    periods: dict[str, float] = field(default_factory=dict)
    """Of the schedules that may miss no tick: the seconds between two."""
    holds: dict[str, list[tuple[int, float, UUID]]] = field(default_factory=lambda: defaultdict(list))
    """When a unique key was held (between the changes with these numbers), and by which job."""
    rescues: dict[UUID, list[Rescue]] = field(default_factory=lambda: defaultdict(list))
    """By the worker that had the jobs."""

    said: dict[UUID, Said] = field(default_factory=dict)
    """By the worker: what its log says."""
    makers_of_room: set[int] = field(default_factory=set)
    """The processes that gave back what had not begun: for a job that runs alone, or after an operator's act."""

    looked: Counter[str] = field(default_factory=Counter)
    """How many cases each rule had to look at: a rule that saw none has shown nothing. By the rule's name, or by
    `rule: case` for a case that a run may or may not have had."""
    epochs: list[float] = field(default_factory=list)
    """What the database's clock was when the machine's monotonic one was zero, as each process has it."""
    epoch: float = 0.0

    def database_time(self, at: float) -> float:
        """The database's clock, in seconds since 1970, at a time of the history."""
        return at / SECOND + self.epoch

    def history_time(self, at: float) -> float:
        """A time of the history, by the database's clock."""
        return (at - self.epoch) * SECOND

    def death(self, pid: int, after: float) -> float:
        """When the process ended that had this number at that time; infinite if nothing says so."""
        return min((at for at in self.deaths.get(pid, ()) if at >= after), default=inf)

    def death_of(self, run: Run) -> float:
        """When the process ended that a handler was called in, or its worker; infinite if nothing says so."""
        child = self.death(run.child, run.started) if run.child else inf
        return min(child, self.death(run.pid, run.started))

    def is_calm(self, pid: int, begin: float, end: float) -> bool:
        """Whether no fault hit this process, or everybody, between the two."""
        return not any(trouble.process in {0, pid} for trouble in self.troubles_between(begin, end))

    def deeds_of(self, *what: str) -> Iterator[Deed]:
        """Return the operating program's calls of these kinds, in the order of time."""
        return (deed for deed in self.deeds if deed.what in what)

    def troubles_between(self, begin: float, end: float) -> Iterator[Trouble]:
        """What went on at some moment between the two."""
        return (trouble for trouble in self.troubles if trouble.begins <= end and trouble.ends >= begin)


def gather(folder: Path, periods: dict[str, float]) -> tuple[Evidence, Iterator[Change]]:
    """Read a run's folder: the evidence, and then the changes of the jobs, job by job, to be read once."""
    evidence = Evidence(periods=periods)
    faults: list[Fault] = []
    for file in history_files(folder):
        _Reader(evidence, faults).read(file)
    evidence.troubles += _troubles(faults)
    for fault in faults:
        if fault.kind == "kill" and not fault.is_over:
            evidence.deaths[fault.process].append(fault.at)
    evidence.epoch = statistics.median(evidence.epochs) if evidence.epochs else 0.0  # some have a wrong clock
    _put_in_order(evidence)
    evidence.clocks.steps += sorted(
        (Step.from_fault(fault) for fault in faults if fault.kind == "clock" and fault.is_over),
        key=lambda step: step.at,
    )
    evidence.rewinds.windows += rewound(faults)
    evidence.remains = read_remains(folder)
    evidence.closing = read_closing(folder)

    for row in read_audit(folder, Recorded):
        at = evidence.clocks.right_time(row.at, evidence.epoch)
        evidence.recorded[row.job].append(msgspec.structs.replace(row, at=at))
    for effect in read_audit(folder, Effect):
        evidence.effects[effect.job].append(effect)
    for last in read_audit(folder, Last):
        evidence.last[last.id].append(last)
    evidence.ticks = list(read_audit(folder, Tick))
    evidence.tick_jobs = {tick.job for tick in evidence.ticks}
    righted = (evidence.clocks.right(change, evidence.epoch) for change in read_audit(folder, Change))
    changes = _read_workers(righted, evidence)
    _take_logs(folder, evidence)
    return evidence, changes


def _take_logs(folder: Path, evidence: Evidence) -> None:
    """Take in what the workers have logged."""
    evidence.said = read_logs(folder)
    for id_, said in evidence.said.items():
        if id_ in evidence.workers and MAKING_ROOM & said.events.keys():
            evidence.makers_of_room.add(evidence.workers[id_].pid)


def _put_in_order(evidence: Evidence) -> None:
    """Sort what the processes wrote side by side, and give each run its end."""
    evidence.deeds.sort(key=attrgetter("began"))
    for deeds in evidence.deeds_on.values():
        deeds.sort(key=attrgetter("began"))
    for notes in evidence.notes.values():
        notes.sort(key=attrgetter("at"))
    for runs in evidence.runs.values():
        for run in runs:
            if run.how is None:
                run.ended = _end_of(run, evidence)


def _end_of(run: Run, evidence: Evidence) -> float:
    """When a run ended that did not say so: with its process, or after the last beat of a process of its own."""
    beats = [note.at for note in evidence.notes.get(run.job, ()) if note.run == run.run and note.what == "beat"]
    return min(evidence.death_of(run), max(beats, default=inf))


def _read_workers(changes: Iterator[Change], evidence: Evidence) -> Iterator[Change]:
    """Take in the workers' changes, which come first, before the first of a job is given."""
    first = None
    for first in changes:
        if first.what != "worker":
            break
        worker = evidence.workers.setdefault(first.id, Worker(pid=first.pid or 0))
        worker.marks.append((first.at, None if first.state is None else first.expires_at))
    else:
        return iter(())
    return _chain(first, changes)


def _chain(first: Change, rest: Iterator[Change]) -> Iterator[Change]:
    yield first
    yield from rest


class _Reader:
    """Reads the history of one process: the two events around each of its calls are in the same file."""

    def __init__(self, evidence: Evidence, faults: list[Fault]) -> None:
        self._evidence = evidence
        self._faults = faults
        self._runs: dict[str, Run] = {}
        self._enqueues: dict[str, Enqueue] = {}
        self._operations: dict[str, Operation] = {}
        self._deeds: dict[str, Deed] = {}
        self._takes: dict[type, Callable[[Any], None]] = {
            Began: self._began,
            Start: self._start,
            End: self._end,
            Enqueue: self._enqueue,
            Enqueued: self._enqueued,
            Act: self._act,
            Acted: self._acted,
            Process: self._process,
            Fault: self._faults.append,
            Stall: self._stall,
            Call: self._call,
            Answer: self._answer,
            Note: self._note,
        }

    def read(self, file: Path) -> None:
        """Read it all. What had no answer when the process ended is unknown."""
        for number, line in enumerate(read_lines(file), 1):
            try:
                event = read_event(line)
                self._takes[type(event)](event)
            except (msgspec.DecodeError, KeyError) as error:
                self._evidence.broken_lines.append((file.name, f"line {number}: {error!r}"))
        for enqueue in self._enqueues.values():
            self._count(enqueue, "unknown")

    def _began(self, event: Began) -> None:
        self._evidence.epochs.append(event.clock - event.at / SECOND)

    def _start(self, event: Start) -> None:
        run = self._runs[event.run] = Run(
            job=event.job,
            attempt=event.attempt,
            run=event.run,
            pid=event.worker or event.pid,
            task=event.task,
            is_stubborn=event.is_stubborn,
            started=event.at,
            content=event.content,
            child=event.pid if event.worker else 0,
        )
        self._evidence.runs[event.job].append(run)
        if event.task == BLOCKS:
            self._evidence.blocking[event.pid].append(run)

    def _end(self, event: End) -> None:
        run = self._runs.pop(event.run)
        run.ended, run.how, run.delay = event.at, event.how, event.delay

    def _enqueue(self, event: Enqueue) -> None:
        self._enqueues[event.op] = event
        for wanted in event.jobs:
            self._evidence.wanted[wanted.id] = wanted
        together = [wanted.id for wanted in event.jobs if wanted.key is None]
        if max(len(together), event.of) > 1 and not event.is_again:
            self._evidence.bulks[event.op] = Bulk(
                op=event.op, how=event.how, jobs=together, of=event.of or len(together)
            )

    def _enqueued(self, event: Enqueued) -> None:
        enqueue = self._enqueues.pop(event.op)
        self._count(enqueue, event.outcome, event.at)
        if (bulk := self._evidence.bulks.get(event.op)) is not None:
            bulk.outcome = event.outcome
        if event.existing is not None:
            refusal = Refusal(began=enqueue.at, ended=event.at, wanted=enqueue.jobs)
            self._evidence.refusals[event.existing].append(refusal)

    def _count(self, enqueue: Enqueue, outcome: str, at: float = inf) -> None:
        for wanted in enqueue.jobs:
            answers = self._evidence.answers.setdefault(wanted.id, Answers())
            setattr(answers, outcome, getattr(answers, outcome) + 1)
            if outcome == "stored":
                answers.first_stored = min(answers.first_stored, at)

    def _act(self, event: Act) -> None:
        operation = self._operations[event.op] = Operation(what=event.what, began=event.at)
        self._evidence.operations[event.job].append(operation)

    def _acted(self, event: Acted) -> None:
        operation = self._operations.pop(event.op)
        operation.ended, operation.outcome = event.at, event.outcome

    def _call(self, event: Call) -> None:
        deed = self._deeds[event.op] = Deed(
            what=event.what, pid=event.pid, began=event.at, jobs=event.jobs, about=event.about
        )
        self._evidence.deeds.append(deed)
        for job in event.jobs:
            self._evidence.deeds_on[job].append(deed)
        if event.what in ON_MANY:
            for job in event.jobs:  # of a single one nobody says what became of it: `unknown`
                self._evidence.operations[job].append(Operation(what=ON_MANY[event.what], began=event.at))

    def _answer(self, event: Answer) -> None:
        deed = self._deeds.pop(event.op)
        deed.ended, deed.outcome, deed.said = event.at, event.outcome, event.said

    def _note(self, event: Note) -> None:
        self._evidence.notes[event.job].append(event)

    def _stall(self, event: Stall) -> None:
        began = event.at - int(event.seconds * SECOND)
        kind, process = ("stall", event.pid) if event.of == "process" else (SLOW, 0)
        self._evidence.troubles.append(Trouble(kind=kind, process=process, begins=began, ends=event.at))

    def _process(self, event: Process) -> None:
        self._evidence.names[event.process] = event.name
        if event.what == "ended":
            self._evidence.deaths[event.process].append(event.at)


def _troubles(faults: list[Fault]) -> list[Trouble]:
    """Give each fault its end: that of the same kind at the same process. A kill, or a terminate, is a moment."""
    troubles: list[Trouble] = []
    open_ones: dict[tuple[str, int], list[Trouble]] = defaultdict(list)
    for fault in sorted(faults, key=lambda fault: fault.at):
        key = (fault.kind, fault.process)
        if not fault.is_over:
            trouble = Trouble(kind=fault.kind, process=fault.process, begins=fault.at, note=fault.note)
            if fault.kind in {"kill", "terminate"}:
                trouble.ends = fault.at
            open_ones[key].append(trouble)
            troubles.append(trouble)
        elif open_ones[key]:
            open_ones[key].pop(0).ends = fault.at
    return troubles
