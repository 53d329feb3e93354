"""Makes up what the operating program writes into a run's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal
from uuid import UUID

from rowlock.torture.checker import Report
from rowlock.torture.closing import Counted, Relic, Settled, Shown, write_lines
from rowlock.torture.history import Answer, Call, Note
from tests.torture.story import Job, Story

PROGRAM = "operating"


def call(
    story: Story,
    what: str,
    during: Callable[[], object] = lambda: None,
    *,
    jobs: Sequence[Job] = (),
    about: dict[str, Any] | None = None,
    said: dict[str, Any] | None = None,
    outcome: Literal["done", "refused", "unknown"] = "done",
) -> None:
    """Let the program do something, and something happen meanwhile."""
    story.op += 1
    op = f"call-{story.op}"
    story.tell(Call(op=op, what=what, jobs=[job.id for job in jobs], about=about or {}), by=PROGRAM, pid=5)
    during()
    story.tell(Answer(op=op, outcome=outcome, said=said or {}), by=PROGRAM, pid=5)


def note(story: Story, job: Job, what: str, value: str = "", *, attempt: int = 0, run: str = "", pid: int = 0) -> None:
    """Let the handler of a job's attempt note something."""
    event = Note(job=job.id, attempt=attempt or job.attempt, run=run or job.run, what=what, value=value)  # type: ignore[arg-type]  # one of them
    story.tell(event, by=story.worker.name, pid=pid or story.worker.pid)


def close(
    story: Story,
    *,
    counted: Sequence[Counted] = (),
    shown: Sequence[Shown] = (),
    relics: Sequence[Relic] | None = None,
    is_counted: bool = True,
) -> None:
    """Write what the database added up; by default nothing, and each relic as it is to be."""
    write_lines(story.folder, Counted, list(counted))
    write_lines(story.folder, Shown, list(shown))
    write_lines(story.folder, Relic, list(kept_relics(2) if relics is None else relics))
    write_lines(story.folder, Settled, [Settled(is_counted=is_counted, planted=2)])


def kept_relics(planted: int) -> list[Relic]:
    """The planted jobs that are to stay."""
    kinds = [("operate.brief", "failed"), ("operate.kept", "succeeded")]
    return [
        Relic(id=UUID(int=10 * place + number), queue=queue, state=state, has_attempt=True)
        for place, (queue, state) in enumerate(kinds)
        for number in range(planted)
    ]


def clean(story: Story) -> Report:
    """Check a run in which no promise was broken."""
    report = story.check()
    assert report.violations == ()
    return report


def broken(story: Story) -> set[str]:
    """Check a run, and return the rules that were broken."""
    return {violation.rule for violation in story.check().violations}
