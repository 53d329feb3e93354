"""Check that schedules follow their policies, `overlap` and `misfire`: docs/schedules.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowlock.torture.checks import rewound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence
    from rowlock.torture.facts import Deed
    from rowlock.torture.life import Life

OVERLAP: Final = "overlapping ticks"
MISFIRE: Final = "missed ticks"
ALONE: Final = "operate.alone"
"""The schedule with `overlap="skip"`."""
ON_TIME_SECONDS: Final = 60.0
"""The latest tick that is due fires within this time, whatever the policy."""
CLOCK_SECONDS: Final = 1.0
"""The accuracy of the times at which ticks fired."""


def overlaps(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """With `overlap="skip"`, a schedule makes no job while its last one waits, runs or is to be retried."""
    jobs = [tick.job for tick in evidence.ticks if tick.schedule == ALONE]
    lives = sorted(
        (evidence.kept[job] for job in jobs if job in evidence.kept and evidence.kept[job].steps),
        key=lambda life: life.steps[0].change.number,
    )
    last: Life | None = None
    for life in lives:
        evidence.looked[OVERLAP] += 1
        began = life.steps[0].change
        if last is not None:
            end = next((step.change for step in last.steps if step.kind == "finish"), None)
            if end is None or end.number > began.number:
                yield ALONE, f"it made job {life.id} at {began.at:.3f}, and job {last.id} had not finished"
        last = life


def misfires(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Missed ticks make one job with `latest`, one each with `all`, none with `skip`. A tick on time always fires."""
    fired: dict[str, set[float]] = {}
    for tick in evidence.ticks:
        fired.setdefault(tick.schedule, set()).add(tick.tick_at)
    for deed in evidence.deeds_of("miss"):
        is_kept = rewound.of_deed(deed, evidence) is None
        if is_kept and deed.outcome == "done" and deed.said["fired"] is not None:
            evidence.looked[MISFIRE] += 1
            evidence.looked[f"{MISFIRE}: {deed.about['policy']}"] += 1
            yield from _misfire(deed, fired.get(deed.about["schedule"], set()))


def _misfire(deed: Deed, fired: set[float]) -> Iterator[tuple[str, str]]:
    policy, period, since, until = deed.about["policy"], deed.about["period"], deed.said["since"], deed.said["until"]
    # One more tick may fall due before they fire.
    if any(_fits(deed, fired, end) for end in (until, max(until, deed.said["fired"]))):
        return
    names = ", ".join(f"{at:.0f}" for at in sorted(at for at in fired if since <= at <= until)) or "none"
    missed = int((until - since) // period) + 1
    yield deed.about["schedule"], f"with misfire={policy!r} the ticks {names} of {missed} missed ones fired"


def _fits(deed: Deed, fired: set[float], until: float) -> bool:
    """Whether the policy allows the ticks that fired, if the last missed one is the last before `until`."""
    policy, period, since = deed.about["policy"], float(deed.about["period"]), deed.said["since"]
    missed = [since + number * period for number in range(int((until - since) // period) + 1)]
    made = {at for at in fired if since <= at <= until}
    latest = {missed[-1]}
    is_on_time = until - missed[-1] <= ON_TIME_SECONDS + CLOCK_SECONDS
    is_certainly_late = deed.said["fired"] - missed[-1] > ON_TIME_SECONDS + CLOCK_SECONDS and not is_on_time
    allowed: list[set[float]] = {"all": [set(missed)], "latest": [latest], "skip": [set()]}[policy]
    if policy == "skip" and not is_certainly_late:
        allowed = [set(), latest]
    return made in allowed
