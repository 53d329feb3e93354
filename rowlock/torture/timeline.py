"""Print all evidence on single jobs in the order of time, to find the cause of a violation.

`python -m rowlock.torture.timeline FOLDER JOB…`
"""

from __future__ import annotations

import sys
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from rowlock.torture.checker import lives
from rowlock.torture.evidence import SECOND
from rowlock.torture.gathering import gather

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.life import Life

AROUND_SECONDS: Final = 10.0
"""How long before and after the job the faults and the leases are shown, too."""


def timelines(folder: Path, jobs: Collection[UUID]) -> Iterator[str]:
    """Print the evidence on each job, line by line; the times are seconds of the machine's monotonic clock."""
    evidence, changes = gather(folder, {})
    for life in lives(evidence, changes):
        if life.id in jobs:
            yield f"{life.id} ({life.wanted.task if life.wanted else 'not asked for'})"
            known = [*_of_the_job(life, evidence), *_recorded(life, evidence)]
            times = [at for at, _ in known if at < inf]
            if times:
                known += _around(life, evidence, min(times) - AROUND_SECONDS, max(times) + AROUND_SECONDS)
            yield from (f"  {at:.3f} {what}" for at, what in sorted(known))


def _of_the_job(life: Life, evidence: Evidence) -> Iterator[tuple[float, str]]:
    """The events of the processes and the changes in the database."""
    for step in life.steps:
        worker = evidence.workers.get(step.change.worker)  # type: ignore[arg-type]  # None is in no dict
        yield (
            evidence.history_time(step.change.at) / SECOND,
            f"database: {step}" + (f" of process {worker.pid}" if worker else ""),
        )
    for run in life.runs:
        yield run.started / SECOND, f"process {run.pid}: attempt {run.attempt} starts (run {run.run})"
        yield run.ended / SECOND, f"process {run.pid}: attempt {run.attempt} ends: {run.how or 'with its process'}"
    for operation in life.operations:
        yield operation.began / SECOND, f"operator: {operation.what}"
        yield operation.ended / SECOND, f"operator: {operation.what} is {operation.outcome}"


def _recorded(life: Life, evidence: Evidence) -> Iterator[tuple[float, str]]:
    for row in life.recorded:
        yield evidence.history_time(row.at) / SECOND, f"recorded: attempt {row.attempt} {row.outcome}"


def _around(life: Life, evidence: Evidence, begin: float, end: float) -> Iterator[tuple[float, str]]:
    """The faults that hit the job's processes or everybody, their leases and their ends, between two moments."""
    holders = {step.change.worker for step in life.steps}
    pids = {run.pid for run in life.runs} | {one.pid for id_, one in evidence.workers.items() if id_ in holders}
    for trouble in evidence.troubles_between(begin * SECOND, end * SECOND):
        if not trouble.process or trouble.process in pids:
            whom = f"process {trouble.process}" if trouble.process else "all"
            yield trouble.begins / SECOND, f"fault: {trouble.kind} of {whom}, until {trouble.ends / SECOND:.3f}"
    for worker in evidence.workers.values():
        if worker.pid in pids:
            for written, until in worker.marks:
                at = evidence.history_time(written) / SECOND
                if begin <= at <= end:
                    left = "is gone" if until is None else f"goes on for {max(0.0, until - written):.2f} s"
                    yield at, f"database: the lease of process {worker.pid} {left}"
    for pid in pids:
        for death in evidence.deaths.get(pid, ()):
            if begin <= death.at / SECOND <= end:
                yield death.at / SECOND, f"process {pid} is killed, or has ended"


if __name__ == "__main__":
    for line in timelines(Path(sys.argv[1]), {UUID(word) for word in sys.argv[2:]}):
        sys.stdout.write(f"{line}\n")
