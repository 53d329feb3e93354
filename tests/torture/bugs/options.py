"""Bugs that store a job otherwise than its caller asked for, or let it wait too long."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import KILLS, Bug, Change, Torture

_CALM: Final = Torture(faults="stop", times=1, minutes=0.25, rate=200)

BUGS: Final = (
    Bug(
        name="many jobs lose their priority",
        promise="a job has the priority that its call asked for, by each way to enqueue",
        changes=(Change(seam="plain columns", old="options.priority", new="5"),),
        engine=_CALM,
        rule="stored otherwise",
    ),
    Bug(
        name="many jobs lose their timeout",
        promise="a job has the timeout that its call asked for, by each way to enqueue",
        changes=(Change(seam="timed columns", old="options.timeout", new="None"),),
        engine=_CALM,
        rule="stored otherwise",
        needs=("stored otherwise: timeouts",),
    ),
    Bug(
        name="a time that is given is ignored",
        promise="a job is due at the time that its call gave",
        changes=(Change(seam="due at", new="given = options.delay"),),
        engine=_CALM,
        rule="stored otherwise",
        needs=("stored otherwise: times that were given",),
    ),
    Bug(
        name="a replaced job keeps its priority",
        promise="a replaced job has the options of the later call",
        changes=(Change(seam="replaced priority", old="enqueue.priority", new="j.priority"),),
        engine=_CALM,
        rule="stored otherwise",
        needs=("stored otherwise: replaced jobs",),
    ),
    Bug(
        name="a replaced job keeps its time",
        promise="a replaced job is due when the later call says",
        changes=(Change(seam="replaced time", new="j.run_at"),),
        engine=_CALM,
        rule="stored otherwise",
        needs=("stored otherwise: replaced jobs",),
    ),
    Bug(
        name="HTTP requests lose their priority",
        promise="a job has the options that its HTTP request asked for",
        changes=(Change(seam="request options", old="in NAMES", new='in NAMES - {"priority"}'),),
        engine=_CALM,
        rule="stored otherwise",
        needs=("stored otherwise: over HTTP",),
    ),
    Bug(
        name="delays three times as long",
        promise="a delayed job is due when its delay is over",
        changes=(Change(seam="due at", old="options.delay if", new="options.delay and 3 * options.delay if"),),
        engine=_CALM,
        rule="too late",
    ),
    Bug(
        name="backoffs five times as long",
        promise="a job that failed waits for its backoff, and no longer",
        changes=(Change(seam="delay", old="+", new="+ 5 *"),),
        engine=_CALM,
        rule="too late",
        needs=("too late: waits between two attempts",),
    ),
    Bug(
        name="snoozes ten times as long",
        promise="a job that snoozes waits as long as its handler said",
        changes=(Change(seam="snooze", old="delay=delay", new="delay=10 * delay"),),
        engine=_CALM,
        rule="too late",
        needs=("too late: waits between two attempts",),
    ),
    Bug(
        name="rescued jobs wait",
        promise="a rescued job is due at once",
        changes=(Change(seam="rescued", old="clock_timestamp()", new="clock_timestamp() + interval '5 s'"),),
        engine=KILLS,
        rule="too late",
        needs=("unjustified rescues",),
    ),
)
