"""The checker: compare the processes' histories with the database's changes, and report each broken promise."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from rowlock.torture import cases, contained
from rowlock.torture.checks import (
    apis,
    atomicity,
    attempts,
    bulk,
    clock,
    executors,
    existence,
    keys,
    leases,
    leftovers,
    operators,
    order,
    policies,
    progress,
    releases,
    results,
    retention,
    rewound,
    statistics,
    stored,
    switches,
    ticks,
    times,
    transitions,
)
from rowlock.torture.evidence import Evidence
from rowlock.torture.gathering import gather
from rowlock.torture.life import Life, steps_of

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from rowlock.torture.audit import Change

MOST_KEPT: Final = 20
"""The most violations of a rule that are kept for the report; all are counted."""

OF_ONE_JOB: Final[tuple[tuple[str, Callable[[Life, Evidence], Iterator[str]]], ...]] = (
    ("lost", existence.lost),
    ("unfinished", existence.unfinished),
    ("unexpected", existence.unexpected),
    ("unjustified duplicates", attempts.duplicates),
    ("unjustified rescues", leases.rescues),
    ("claims without a lease", leases.unleased),
    ("crashes without a crash", leases.uncrashed),
    ("needless releases", releases.releases),
    ("overlaps", leases.overlaps),
    ("stale outcomes accepted", attempts.stale),
    ("false outcomes", attempts.outcomes),
    ("more than one final state", existence.final_states),
    ("illegal transitions", transitions.transitions),
    ("unique violations", keys.keyless),
    ("unique violations", keys.refused),
    ("unique violations", keys.raised),
    ("stale content", keys.contents),
    ("unfollowed", keys.unfollowed),
    ("cancelled jobs that started", operators.cancelled),
    (operators.UNHEARD, operators.unheard),
    ("starts without a claim", attempts.starts),
    ("starts past the limit", attempts.limits),
    ("too early", times.early),
    ("too late", times.late),
    ("too late", times.overdue),
    ("too late", times.outlasted),
    (stored.RULE, stored.stored),
    ("effects", existence.effects),
    ("late rescues", clock.rescued_late),
    ("lost", rewound.lost),
    ("overlaps", rewound.overlaps),
    (results.RULE, rewound.answers),
    ("inconsistencies", existence.consistency),
    (results.RULE, results.results),
    (results.RULE, results.answers),
    (switches.STARTS, switches.pauses),
    (progress.CHECKPOINTS, progress.checkpoints),
    (progress.PROGRESS, progress.progress),
    (executors.RULE, executors.processes),
    (executors.RULE, executors.crashes),
)
OF_ALL: Final[tuple[tuple[str, Callable[[Evidence], Iterator[tuple[str, str]]]], ...]] = (
    ("lapsed leases", leases.lapsed),
    ("unjustified quarantines", attempts.quarantines),
    ("starts past the limit", attempts.chances),
    ("unique violations", keys.unique),
    ("unique violations", keys.periods),
    ("half stored", atomicity.half_stored),
    ("out of order", order.out_of_order),
    ("schedule ticks", ticks.ticks),
    ("stops by the clock", clock.stoppages),
    ("leftovers", leftovers.leftovers),
    ("leftovers", leftovers.growth),
    ("inconsistencies", existence.whole_lines),
    (switches.LIMITS, switches.scales),
    (bulk.RULE, bulk.bulk),
    (bulk.AGAIN, bulk.again),
    (policies.OVERLAP, policies.overlaps),
    (policies.MISFIRE, policies.misfires),
    (statistics.RULE, statistics.statistics),
    (retention.RULE, retention.retention),
    (apis.RULE, apis.apis),
)
RULES: Final = tuple(dict.fromkeys(rule for rule, _ in (*OF_ONE_JOB, *OF_ALL)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken promise: the rule, the job (or process, or schedule), and the evidence."""

    rule: str
    subject: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.evidence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The report of a run: `counts` has the violations of each rule, `violations` the first ones of each.

    `looked` has the number of cases of each rule.
    """

    figures: Mapping[str, int | float]
    counts: Mapping[str, int]
    violations: tuple[Violation, ...]
    looked: Mapping[str, int]

    @property
    def is_clean(self) -> bool:
        """Whether no promise was broken."""
        return not any(self.counts.values())

    @property
    def unseen(self) -> list[cases.Case]:
        """The cases that the run did not contain, and so did not prove."""
        return list(cases.missing(self.looked, self.counts))

    def lines(self) -> list[str]:
        """Return the report line by line: the figures, the cases, each rule, then the violations."""
        figures = [f"{name} {value:,}" for name, value in self.figures.items()]
        looked = [f"looked at: {case} {count:,}" for case, count in self.looked.items() if count]
        unseen = [f"nothing to look at: {case.name} (made by {case.made_by})" for case in self.unseen]
        counts = [f"{rule} {count:,}" for rule, count in self.counts.items()]
        return figures + looked + unseen + counts + [str(violation) for violation in self.violations]


def check(folder: Path, *, periods: Mapping[str, float] | None = None) -> Report:
    """Check the folder of a run: the processes' histories, and the files of `write_audit`.

    `periods` names the schedules that may miss no tick, with the seconds between two ticks.
    """
    with _without_collector():
        evidence, changes = gather(folder, dict(periods or {}))
        figures: Counter[str] = Counter()
        findings = _Findings()
        for life in lives(evidence, changes):
            _count(life, evidence, figures)
            contained.count(life, evidence)
            keys.note_holds(life, evidence)
            attempts.note_rescues(life, evidence)
            atomicity.note_inserts(life, evidence)
            order.note_claims(life, evidence)
            clock.note_claims(life, evidence)
            is_rewound = rewound.window_of(life, evidence) is not None
            figures["jobs with an event in a rewound window"] += is_rewound
            statistics.note_ends(life, evidence)
            if life.is_tick or life.id in evidence.deeds_on:
                evidence.kept[life.id] = life
            for rule, contradictions in OF_ONE_JOB:
                if contradictions in (rewound.EXCUSED if is_rewound else rewound.ONLY):
                    continue
                for sentence in contradictions(life, evidence):
                    findings.add(rule, str(life.id), sentence)
        contained.count_all(evidence)
        for rule, contradictions_of_all in OF_ALL:
            for subject, sentence in contradictions_of_all(evidence):
                findings.add(rule, subject, sentence)
        figures["ticks"] = len(evidence.ticks)
        return Report(
            figures=dict(sorted(figures.items())),
            counts=findings.counts,
            violations=tuple(findings.kept),
            looked=dict(sorted(evidence.looked.items())),
        )


class _Findings:
    """The violations so far."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(RULES, 0)
        self.kept: list[Violation] = []

    def add(self, rule: str, subject: str, sentence: str) -> None:
        """Count a violation, and keep it if it is one of the first."""
        self.counts[rule] += 1
        if self.counts[rule] <= MOST_KEPT:
            self.kept.append(Violation(rule=rule, subject=subject, evidence=sentence))


def lives(evidence: Evidence, changes: Iterator[Change]) -> Iterator[Life]:
    """All jobs in the database or in the histories: first those with changes, then those without."""
    seen: set[UUID] = set()
    for job, group in groupby(changes, key=attrgetter("id")):
        seen.add(job)
        yield _life(job, list(group), evidence)
    known = chain(
        evidence.wanted, evidence.runs, evidence.last, evidence.recorded, evidence.effects, evidence.tick_jobs
    )
    for job in dict.fromkeys(known):
        if job not in seen:
            yield _life(job, [], evidence)


def _life(job: UUID, changes: list[Change], evidence: Evidence) -> Life:
    steps = steps_of(changes)
    return Life(
        id=job,
        wanted=evidence.wanted.get(job),
        answers=evidence.answers.get(job),
        is_tick=job in evidence.tick_jobs,
        steps=steps,
        runs=sorted(evidence.runs.get(job, ()), key=attrgetter("started")),
        operations=evidence.operations.get(job, []),
        recorded=evidence.recorded.get(job, []),
        effects=evidence.effects.get(job, []),
        last=evidence.last.get(job, []),
        changes=changes,
        claims=[step for step in steps if step.kind == "claim"],
    )


def _count(life: Life, evidence: Evidence, figures: Counter[str]) -> None:
    """Add one job to the figures."""
    figures["jobs asked for"] += life.wanted is not None
    if life.answers is not None:
        figures["jobs acknowledged"] += life.answers.stored > 0
        figures["jobs refused"] += bool(life.answers.existing and not life.answers.stored)
        if life.answers.unknown and not life.answers.stored:
            figures["jobs unknown"] += 1
            figures["jobs unknown and found stored"] += bool(life.changes)
    figures["jobs of schedules"] += life.is_tick
    if life.state is not None:
        figures[f"jobs {life.state}"] += 1
    figures["attempts claimed"] += len(life.claims)
    figures["attempts started"] += len(life.runs)
    for step in life.steps:
        figures["rescues"] += step.is_crash
    if len(life.claims) > 1:
        _count_duplicates(life, evidence, figures)


def _count_duplicates(life: Life, evidence: Evidence, figures: Counter[str]) -> None:
    """Add the causes of a job's further attempts to the figures, and its excused overlaps."""
    for step in life.steps:
        if step.change.number < life.claims[-1].change.number and step.kind in {"requeue", "retry"}:
            cause = "an operator" if step.kind == "retry" else attempts.cause(life, step) or "nothing"
            figures[f"duplicates justified by {cause}"] += 1
    for stale, fresh, seconds in leases.overlapping(life):
        if leases.is_excused(stale, fresh, evidence):
            longest = "longest justified overlap in milliseconds"
            figures["justified overlaps"] += 1
            figures[longest] = max(figures[longest], round(seconds * 1000))


@contextmanager
def _without_collector() -> Iterator[None]:
    """Turn the collector off: nothing here is a cycle, and there are millions of objects to traverse."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
