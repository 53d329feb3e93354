"""Makes up what a run leaves behind: a clean one, unless it is told to go wrong."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

import msgspec

from rowlock.torture.audit import Change, Effect, Last, Recorded, Tick
from rowlock.torture.checker import Report, check
from rowlock.torture.history import (
    Act,
    Acted,
    Began,
    End,
    Enqueue,
    Enqueued,
    Event,
    Fault,
    Process,
    Start,
    Wanted,
)

EPOCH = 1_700_000_000.0
"""The database's clock when the machine's monotonic one is at zero."""
LEASE = 15.0
NEMESIS, ENQUEUER, OPERATOR = "nemesis", "enqueuer", "operator"


@dataclass
class Worker:
    pid: int
    id: UUID = field(default_factory=uuid4)
    is_renewing: bool = True
    until: float = 0.0
    name: str = ""


@dataclass
class Job:
    """A job, and how the database has it. `run` is the handler's call that goes on, or went on last."""

    id: UUID
    task: str
    key: str | None
    state: str | None = None
    attempt: int = 0
    errors: int = 0
    crashes: int = 0
    worker: UUID | None = None
    result: str | None = None
    run: str = ""
    queue: str = "default"
    priority: int = 5
    run_at: float | None = None
    """When it is due; None: at once. These times are seconds of the story."""
    expires_at: float | None = None
    deadline: float | None = None
    content: int | None = None
    max_attempts: int = 10
    timeout: float | None = None
    tags: list[str] | None = None
    metadata: dict[str, str] | None = None
    args_version: int = 1


class Story:
    """What happens, one thing after the other, a tenth of a second each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 100.0
        self.events: dict[str, list[Event]] = defaultdict(list)
        self.changes: list[Change] = []
        self.recorded: list[Recorded] = []
        self.effects: list[Effect] = []
        self.ticks: list[Tick] = []
        self.jobs: list[Job] = []
        self.lasts: dict[UUID, Last] = {}
        self.workers: list[Worker] = []
        self.numbers = 0
        self.xid = 0
        self.op = 0
        self.first = ""
        self.offset = 0
        self.tell(Began(clock=EPOCH + self.now), by=NEMESIS)
        self.worker = self.new_worker(pid=11)

    # What the processes say

    def tell(self, event: Event, by: str, pid: int = 1) -> None:
        self.now += 0.1
        self.events[by].append(msgspec.structs.replace(event, at=int(self.now * 1e9), by=by, pid=pid))

    def wait(self, seconds: float) -> None:
        """Let time pass; the workers renew their leases."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 4)
            self.renew()

    def renew(self) -> None:
        for worker in self.workers:
            if worker.is_renewing:
                self._lease(worker, "registered", self.now + LEASE)

    def new_worker(self, pid: int, name: str = "") -> Worker:
        worker = Worker(pid, name=name or f"worker-{pid}")
        self.workers.append(worker)
        self.tell(Process(name=worker.name, process=pid, what="started"), by=NEMESIS)
        self._lease(worker, None, self.now + LEASE)
        return worker

    def step_clock(self, offset: int) -> None:
        """Step the server's clock: it is so many seconds ahead of the machine's from now on."""
        self.tell(Fault(kind="clock"), by=NEMESIS)
        note = f"{self.offset} {offset} {self.numbers} {self.numbers}"
        self.tell(Fault(kind="clock", note=note, is_over=True), by=NEMESIS)
        self.offset = offset

    def rewind(self, moment: float) -> None:
        """Let the database go back to a moment: what it has seen since is forgotten. The story does that itself."""
        note = str(int(moment * 1e9))
        self.tell(Fault(kind="rewind", note=note), by=NEMESIS)
        self.tell(Fault(kind="rewind", note=note, is_over=True), by=NEMESIS)
        self.forget(moment)

    def forget(self, moment: float) -> None:
        """Have the database see nothing of what happened since."""
        self.changes = [change for change in self.changes if change.at <= EPOCH + moment]
        self.recorded = [row for row in self.recorded if row.at <= EPOCH + moment]
        self.numbers += 1000

    def fault(self, kind: str, worker: Worker | None = None, *, is_over: bool = False) -> None:
        self.tell(Fault(kind=kind, process=worker.pid if worker else 0, is_over=is_over), by=NEMESIS)
        if worker and kind in {"kill", "freeze", "black_hole"}:
            worker.is_renewing = is_over
            if is_over and self.now > worker.until:  # it begins again as a new worker
                worker.id = uuid4()
                self._lease(worker, None, self.now + LEASE)

    def ended(self, worker: Worker, code: int = -9) -> None:
        self.tell(Process(name=worker.name, process=worker.pid, what="ended", code=code), by=NEMESIS)
        worker.is_renewing = False

    def kill(self, worker: Worker) -> None:
        self.fault("kill", worker)
        self.ended(worker)

    def start(self, job: Job, worker: Worker | None = None, *, attempt: int | None = None, **more: Any) -> str:  # noqa: ANN401  # of Start
        worker = worker or self.worker
        job.run = uuid4().hex
        more = {"content": job.content, **more}
        event = Start(job=job.id, attempt=attempt or job.attempt, run=job.run, task=job.task, **more)
        self.tell(event, by=worker.name, pid=worker.pid)
        return job.run

    def end(
        self, job: Job, how: str = "return", worker: Worker | None = None, *, run: str = "", attempt: int | None = None
    ) -> None:
        worker = worker or self.worker
        event = End(job=job.id, attempt=attempt or job.attempt, run=run or job.run, how=how)  # type: ignore[arg-type]  # one of them
        self.tell(event, by=worker.name, pid=worker.pid)

    # What they do, and the database sees

    def enqueue(
        self,
        outcome: Literal["stored", "existing", "nothing", "unknown", "killed"] = "stored",
        *,
        is_stored: bool | None = None,
        task: str = "torture.quick",
        key: str | None = None,
        until: Literal["finish", "start", "period"] = "finish",
        holder: Job | None = None,
        max_attempts: int = 10,
        again: Job | None = None,
        row: dict[str, Any] | None = None,
        raised: bool = False,
        **asked: Any,  # noqa: ANN401  # of Wanted
    ) -> Job:
        """Enqueue a job; `row` says what its row has, and `asked` what else was asked for."""
        job = again or Job(uuid4(), task, f"{task}:{key}" if key else None, **(row or {}))
        self.op += 1
        wanted = Wanted(id=job.id, task=task, key=job.key, until=until, max_attempts=max_attempts, **asked)
        self.tell(Enqueue(op=str(self.op), how="own", jobs=[wanted], is_again=again is not None), by=ENQUEUER)
        if is_stored if is_stored is not None else outcome == "stored":
            self.insert(job)
        if outcome != "killed":
            existing = holder.id if holder else None
            self.tell(Enqueued(op=str(self.op), outcome=outcome, existing=existing, raised=raised), by=ENQUEUER)
        return job

    def insert(self, job: Job, xid: int = 0) -> None:
        if job not in self.jobs:
            self.jobs.append(job)
        job.state = "queued"
        self._change(job, old_state=None, state="queued", xid=xid)

    def replace(self, job: Job, content: int | None, *, is_acknowledged: bool = True, **asked: Any) -> None:  # noqa: ANN401
        """Give the waiting holder of a key another content, or only say so."""
        self.op += 1
        wanted = Wanted(id=uuid4(), task=job.task, key=job.key, until="start", content=content, replaces=True, **asked)
        self.tell(Enqueue(op=str(self.op), how="unique", jobs=[wanted]), by=ENQUEUER)
        if job.state == "queued":
            self.update(job, content=content)
        if is_acknowledged:
            self.tell(Enqueued(op=str(self.op), outcome="existing", existing=job.id), by=ENQUEUER)

    def lose_key(self, job: Job) -> None:
        """Have another job take the key of this one, whose time is over."""
        self._change(job, old_state=job.state, state=job.state, ends_at=0.0)

    def insert_many(self, jobs: list[Job]) -> None:
        """Store jobs in one transaction."""
        self.xid += 1
        for job in jobs:
            self.insert(job, xid=self.xid)

    def claim(self, job: Job, worker: Worker | None = None, *, xid: int = 0) -> None:
        job.attempt += 1
        self.update(job, state="running", worker=(worker or self.worker).id, xid=xid)

    def update(self, job: Job, *, xid: int = 0, **values: Any) -> None:  # noqa: ANN401  # columns
        old_state = job.state
        for name, value in values.items():
            setattr(job, name, value)
        self._change(job, old_state=old_state, state=job.state, xid=xid)

    def again(self, job: Job, outcome: str, *, run_at: float | None = None) -> None:
        """Put an attempt back: running → queued."""
        self.record(job, outcome)
        counts = outcome in {"error", "timeout", "retried"}
        self.update(job, state="queued", worker=None, errors=job.errors + counts, run_at=run_at)

    def rescue(self, job: Job) -> None:
        self.record(job, "crashed")
        if job.crashes + 1 >= 3:
            self.finish(job, "failed", crashes=job.crashes + 1)
        else:
            self.update(job, state="queued", worker=None, crashes=job.crashes + 1)

    def finish(self, job: Job, state: str, *, archive_first: bool = False, **values: Any) -> None:  # noqa: ANN401  # columns
        """Move the job to the archive, with other values there if some are given."""
        self.xid += 1
        old = job.state
        before = {name: getattr(job, name) for name in ("attempt", "errors", "crashes", "worker")}
        for name, value in {**values, "state": state}.items():
            setattr(job, name, value)
        deleted = {"old_state": old, "state": None, "what": "job", "run": None, **before}
        inserted = {"old_state": None, "state": state, "what": "finished_job", "run": job.result}
        for change in (inserted, deleted) if archive_first else (deleted, inserted):
            self._change(job, xid=self.xid, **change)

    def succeed(self, job: Job, **values: Any) -> None:  # noqa: ANN401  # columns
        self.finish(job, "succeeded", **{"result": job.run, **values})

    def fail(self, job: Job, outcome: str = "error") -> None:
        """End the attempt and the job: running → failed, or cancelled."""
        self.record(job, outcome)
        counts = outcome in {"error", "timeout", "retried", "failed"}
        self.finish(job, "failed" if counts else "cancelled", errors=job.errors + counts)

    def act(
        self, what: Literal["cancel", "retry"], job: Job, outcome: str = "done", *, does: bool | None = None
    ) -> None:
        """Let an operator cancel a waiting job, or put a finished one back."""
        self.op += 1
        self.tell(Act(op=str(self.op), what=what, job=job.id), by=OPERATOR)
        if does if does is not None else outcome == "done":
            if what == "cancel":
                self.finish(job, "cancelled")
            else:
                self.put_back(job)
        if outcome != "killed":
            self.tell(Acted(op=str(self.op), outcome=outcome), by=OPERATOR)  # type: ignore[arg-type]  # one of them

    def put_back(self, job: Job) -> None:
        self.xid += 1
        self._change(job, old_state=job.state, state=None, what="finished_job", xid=self.xid)
        job.errors = job.crashes = 0
        job.worker = None
        self.insert(job, xid=self.xid)

    def record(self, job: Job, outcome: str, **values: Any) -> None:  # noqa: ANN401  # columns
        row = {"attempt": job.attempt, "worker": job.worker, "at": EPOCH + self.now + self.offset, **values}
        self.recorded.append(Recorded(job=job.id, outcome=outcome, **row))

    def run(self, job: Job, how: str = "return", worker: Worker | None = None) -> Job:
        """Run a job's next attempt, up to its end as the handler says it; a success is recorded too."""
        self.claim(job, worker)
        self.start(job, worker)
        self.end(job, how, worker)
        if how == "return":
            self.succeed(job)
        return job

    def done(self, **options: Any) -> Job:  # noqa: ANN401  # of enqueue()
        """Enqueue a job and run it."""
        return self.run(self.enqueue(**options))

    # What is left

    def save(self) -> None:
        order = [change.id for change in self.changes if change.what == "job"]
        kept = sorted(self.changes, key=lambda change: (change.what != "worker", str(change.id), change.number))
        assert order or not self.jobs
        for job in self.jobs:
            last = Last(id=job.id, task=job.task, state=job.state or "", attempt=job.attempt, run=job.result)
            self.lasts.setdefault(job.id, last)
        for by, events in self.events.items():
            self._write(f"{by}.history", events)
        self._write("change.audit", kept)
        self._write("recorded.audit", self.recorded)
        self._write("effect.audit", self.effects)
        self._write("tick.audit", self.ticks)
        self._write("last.audit", self.lasts.values())

    def check(self, **options: Any) -> Report:  # noqa: ANN401  # of check()
        self.save()
        return check(self.folder, **options)

    def _write(self, name: str, rows: Any) -> None:  # noqa: ANN401  # of structs
        (self.folder / name).write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))

    def _change(self, job: Job, *, xid: int = 0, what: str = "job", **values: Any) -> None:  # noqa: ANN401  # columns
        self.now += 0.01
        self.numbers += 1
        if not xid:
            self.xid += 1
        columns = {name: getattr(job, name) for name in ("attempt", "errors", "crashes", "worker")}
        change = {"unique_key": job.key, "what": what, **columns, **values}
        at = EPOCH + self.now + self.offset
        change["committed"] = at
        if change["state"] == "queued":
            change = self._waiting(job) | change
        self.changes.append(Change(number=self.numbers, xid=xid or self.xid, at=at, began=at, id=job.id, **change))

    def _waiting(self, job: Job) -> dict[str, Any]:
        """The columns that the audit has of a waiting job alone."""
        times = {"run_at": job.run_at or self.now, "expires_at": job.expires_at, "deadline": job.deadline}
        ends = [at for at in (job.expires_at if not job.attempt else None, job.deadline) if at is not None]
        given = {name: None if at is None else EPOCH + self.offset + at for name, at in times.items()}
        given["ends_at"] = EPOCH + self.offset + min(ends) if ends else None
        names = ("queue", "task", "priority", "content", "max_attempts", "timeout", "tags", "metadata", "args_version")
        return {**given, **{name: getattr(job, name) for name in names}}

    def _lease(self, worker: Worker, old_state: str | None, until: float, state: str | None = "registered") -> None:
        self.numbers += 1
        worker.until = until
        self.changes.append(
            Change(
                number=self.numbers,
                xid=0,
                at=EPOCH + self.now + self.offset,
                what="worker",
                id=worker.id,
                old_state=old_state,
                state=state,
                pid=worker.pid,
                expires_at=EPOCH + until + self.offset,
            )
        )


def interrupted(story: Story, task: str = "torture.quick") -> Job:
    """A job that runs."""
    job = story.enqueue(task=task)
    story.claim(job)
    story.start(job)
    return job


def rescued(story: Story, job: Job) -> None:
    """Let another worker have the job, and run it."""
    story.rescue(job)
    story.run(job, worker=story.workers[1])


def frozen(story: Story, seconds: float = 20) -> Job:
    """A job that is rescued and runs again while the process of its first attempt is frozen."""
    job = interrupted(story)
    story.first = job.run
    story.fault("freeze", story.worker)
    story.wait(seconds)
    story.rescue(job)
    story.run(job, worker=story.workers[1])
    return job
