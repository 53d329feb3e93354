"""Check that checkpoints survive, and that progress belongs to the attempt that reported it: docs/progress.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowlock.torture.evidence import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.history import Note
    from rowlock.torture.life import Life

CHECKPOINTS: Final = "checkpoints"
PROGRESS: Final = "progress"
WRITE_SECONDS: Final = 3.0
"""The last report is written before the attempt's end, unless something prevents the worker."""


def checkpoints(life: Life, evidence: Evidence) -> Iterator[str]:
    """An attempt finds the last saved checkpoint, or one whose save had no answer. A stale attempt saves nothing.

    A process that freezes after its save logs the save late: a newer attempt's save is the later one. The same goes
    for one that freezes after it has found a checkpoint: a newer attempt may have saved since.
    """
    saved, saved_by, open_ones = "", 0, list[str]()
    newest = 0
    for note in evidence.notes.get(life.id, ()):
        match note.what:
            case "found":
                evidence.looked[CHECKPOINTS] += 1
                evidence.looked[f"{CHECKPOINTS}: found by a later attempt"] += bool(note.value)
                if note.value != saved and note.value not in open_ones and note.attempt >= saved_by:
                    yield f"attempt {note.attempt} found the checkpoint {note.value!r}, and {saved!r} was saved last"
                saved, open_ones = note.value, [one for one in open_ones if one != note.value]
                saved_by = max(saved_by, note.attempt)
                newest = max(newest, note.attempt)
            case "saving":
                open_ones.append(note.value)
            case "saved":
                if note.attempt < newest and _began_late(note, newest, life, evidence):
                    yield f"attempt {note.attempt} saved a checkpoint when attempt {newest} had begun"
                if note.attempt >= saved_by:
                    saved, saved_by = note.value, note.attempt
                open_ones = [one for one in open_ones if one != note.value]
            case "stale":
                evidence.looked[f"{CHECKPOINTS}: refused to a stale attempt"] += 1
                open_ones = [one for one in open_ones if one != note.value]
            case _:
                pass


def _began_late(note: Note, newest: int, life: Life, evidence: Evidence) -> bool:
    """Whether a save began after the newer attempt had started: it cannot have been stored before that."""
    started = min((run.started for run in life.runs_of(newest)), default=note.at)
    return any(one.what == "saving" and one.value == note.value and one.at > started for one in evidence.notes[life.id])


def progress(life: Life, evidence: Evidence) -> Iterator[str]:
    """The last progress is one that an attempt reported, under its number, and never replaces a newer attempt's."""
    told = [note for note in evidence.notes.get(life.id, ()) if note.what == "told"]
    shown = evidence.closing.progress_of.get(life.id)
    if not told:
        return
    evidence.looked[PROGRESS] += 1
    evidence.looked[f"{PROGRESS}: several attempts told some"] += len({note.attempt for note in told}) > 1
    if shown is not None:
        who = next((note for note in told if note.value == shown.message), None)
        if who is None:
            yield f"its progress is {shown.message!r}, which no attempt reported"
            return
        if who.attempt != shown.attempt:
            said = f"is shown as of attempt {shown.attempt}, and attempt {who.attempt} reported it"
            yield f"its progress {shown.message!r} {said}"
    last = max(told, key=lambda note: (note.attempt, note.at))
    run = next((run for run in life.runs if run.run == last.run), None)
    if run is None or run.how is None or run.how == "stopped":
        return
    until = run.ended + WRITE_SECONDS * SECOND
    could_write = evidence.is_calm(run.pid, run.started, until) and evidence.death(run.pid, run.started) > until
    could_write &= not any(life.id in said.unwritten for said in evidence.said.values())
    if could_write and (shown is None or shown.message != last.value):
        yield f"attempt {last.attempt} reported {last.value!r} last, and {shown.message if shown else None!r} is shown"
