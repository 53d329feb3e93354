"""Read the folder of a run into the evidence: the processes' histories, the audit, and the logs."""

from __future__ import annotations

import statistics
from collections import defaultdict
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rowlock.torture.audit import Change, Effect, Last, Recorded, Tick, read_audit
from rowlock.torture.clocks import Step
from rowlock.torture.closing import read_closing
from rowlock.torture.evidence import BLOCKS, SECOND, SLOW, Evidence
from rowlock.torture.facts import Answers, Bulk, Death, Deed, Operation, Refusal, Run, Trouble, Worker
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
    history_files,
    read_event,
    read_lines,
)
from rowlock.torture.logs import read_logs
from rowlock.torture.remains import read_remains
from rowlock.torture.rewinds import rewound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAKING_ROOM: Final = frozenset({"claims_paused", "jobs_adopted", "concurrency_changed"})
"""The events of a worker's log after which it releases jobs that have not begun."""
ON_MANY: Final = {"cancel_many": "cancel", "retry_many": "retry"}
"""Calls of the operating program that act on many jobs."""


def gather(folder: Path, periods: dict[str, float]) -> tuple[Evidence, Iterator[Change]]:
    """Read a run's folder: the evidence, and then the changes of the jobs, job by job, to be read once."""
    evidence = Evidence(periods=periods)
    faults: list[Fault] = []
    for file in history_files(folder):
        _Reader(evidence, faults).read(file)
    evidence.troubles += _troubles(faults)
    for fault in faults:
        if fault.kind == "kill" and not fault.is_over:
            evidence.deaths[fault.process].append(Death(fault.at, fault.at))
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
    """Read the workers' logs."""
    evidence.said = read_logs(folder)
    for id_, said in evidence.said.items():
        if id_ in evidence.workers and MAKING_ROOM & said.events.keys():
            evidence.makers_of_room.add(evidence.workers[id_].pid)


def _put_in_order(evidence: Evidence) -> None:
    """Sort the events of parallel processes, and set the end of each run."""
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
    """When a run without an `end` ended: with its process, or after the last beat of a process of its own."""
    beats = [note.at for note in evidence.notes.get(run.job, ()) if note.run == run.run and note.what == "beat"]
    return min(evidence.alive_until(run), max(beats, default=inf))


def _read_workers(changes: Iterator[Change], evidence: Evidence) -> Iterator[Change]:
    """Read the workers' changes, which come first; then pass on the jobs' changes."""
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
        """Read the file. A call without an answer at the end of the process is unknown."""
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
            takes=event.takes,
            child=event.pid if event.worker else 0,
        )
        self._evidence.runs[event.job].append(run)
        if event.task == BLOCKS:
            self._evidence.blocking[event.pid].append(run)

    def _end(self, event: End) -> None:
        run = self._runs.pop(event.run)
        run.ended, run.how, run.delay, run.longest = event.at, event.how, event.delay, event.longest

    def _enqueue(self, event: Enqueue) -> None:
        self._enqueues[event.op] = event
        for wanted in event.jobs:
            if wanted.queue is not None or wanted.id not in self._evidence.wanted:
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
            refusal = Refusal(
                began=enqueue.at,
                ended=event.at,
                wanted=enqueue.jobs,
                raised=None if enqueue.is_again else event.raised,
            )
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
            for job in event.jobs:  # the answer does not name the outcome of a single job: `unknown`
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
            alive_at = event.at if event.alive_at is None else event.alive_at
            self._evidence.deaths[event.process].append(Death(event.at, alive_at))


def _troubles(faults: list[Fault]) -> list[Trouble]:
    """Find each fault's end: that of the same kind at the same process. A kill, or a terminate, is a moment."""
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
