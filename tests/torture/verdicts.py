"""Judges what the harness said of a bug: caught by its own check, missed, or without an effect. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from tests.torture.bugs import Bug, Pytest
from tests.torture.looking import Look

LONGEST_LINE: Final = 130


class Verdict(StrEnum):
    """What became of a bug."""

    CAUGHT = "caught"
    MISSED = "MISSED"
    NO_EFFECT = "NO EFFECT"
    FALSE_ALARM = "FALSE ALARM"
    DID_NOT_RUN = "DID NOT RUN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the looks at one bug come to. `why` is the first line that says so, `also` what else was complained of."""

    bug: Bug
    verdict: Verdict
    why: str
    also: tuple[str, ...]
    tries: int
    seconds: float

    @property
    def is_caught(self) -> bool:
        """Whether its own check has found the bug."""
        return self.verdict is Verdict.CAUGHT


def judge(bug: Bug, look: Look, control: Look) -> Verdict:
    """Judge one look at a bug. `control` is a look at the unbroken tree, by the same engine.

    A bug is caught only by its own rule, and if that rule has nothing to say of the unbroken tree. A run that did not
    contain the cases that the bug needs has shown nothing.
    """
    if not (look.has_run and control.has_run):
        return Verdict.DID_NOT_RUN
    if bug.rule in look.complaints:
        return Verdict.FALSE_ALARM if bug.rule in control.complaints else Verdict.CAUGHT
    return Verdict.NO_EFFECT if lacking(bug, look) else Verdict.MISSED


def lacking(bug: Bug, look: Look) -> list[str]:
    """The cases that the bug needs and that the run did not contain."""
    return [need for need in bug.needs if not look.looked.get(need)]


def result(bug: Bug, looks: list[Look], control: Look) -> Result:
    """What these looks at a bug, one after the other, come to: the last one counts."""
    last = looks[-1]
    verdict = judge(bug, last, control)
    also = tuple(rule for rule in last.complaints if rule != bug.rule)
    match verdict:
        case Verdict.CAUGHT:
            why = last.complaints[bug.rule]
        case Verdict.FALSE_ALARM:
            why = f"of the unbroken tree it says: {control.complaints[bug.rule]}"
        case Verdict.NO_EFFECT:
            why = f"nothing to look at: {', '.join(lacking(bug, last))}"
        case Verdict.MISSED:
            why = f"{bug.rule} has nothing to say"
        case Verdict.DID_NOT_RUN:
            why = (last if not last.has_run else control).output.strip()[-LONGEST_LINE:]
        case _:
            assert_never(verdict)
    seconds = sum(look.seconds for look in looks)
    return Result(bug=bug, verdict=verdict, why=why, also=also, tries=len(looks), seconds=seconds)


def row(one: Result) -> str:
    """A result in one line, for who watches."""
    return f"{one.verdict:11} {one.seconds:4.0f} s  {one.bug.name}: {_short(one.why)}"


def table(results: Iterable[Result]) -> Iterator[str]:
    """Give the table of a pass, in Markdown."""
    yield "| Bug | breaks the promise that | looked for by | caught by | also | tries | seconds |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for one in results:
        found = one.bug.rule if one.is_caught else f"{one.verdict}: {_short(one.why)}"
        cells = (
            one.bug.name,
            one.bug.promise,
            str(one.bug.engine),
            found,
            ", ".join(one.also) or "-",
            str(one.tries),
            f"{one.seconds:.0f}",
        )
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def page(bugs: Iterable[Bug]) -> Iterator[str]:
    """Give the table of docs/guarantees.md."""
    yield "| Bug | breaks the promise that | caught by |"
    yield "|---|---|---|"
    for bug in bugs:
        rule = f"`{bug.rule}`" if isinstance(bug.engine, Pytest) else bug.rule
        yield f"| {bug.name} | {bug.promise} | {rule} |"


def _short(text: str) -> str:
    return " ".join(text.split())[:LONGEST_LINE]
