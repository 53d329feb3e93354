"""Bugs of cancels, of keys of ended jobs, of filters, timeouts and crashes: what goes on, or stays, for too long."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import Bug, Change, Pytest, Torture

_CALM: Final = Torture(faults="stop", times=1, minutes=0.25, rate=200)
_OVERTIME: Final = Torture(faults="stop", times=1, minutes=0.4, rate=200)
_POISON: Final = Torture(faults="poison", times=12, minutes=0.4, rate=200)

BUGS: Final = (
    Bug(
        name="cancels that running jobs are not told",
        promise="a running job whose cancel was requested is stopped",
        changes=(
            Change(seam="cancel requests", old="worker = $1::uuid", new="worker IS NULL AND $1::uuid IS NOT NULL"),
        ),
        engine=_OVERTIME,
        rule="cancels not heard",
        needs=("cancels not heard: handlers that had long to go",),
    ),
    Bug(
        name="a key kept at the expiry",
        promise="a job that has expired holds no key",
        changes=(Change(seam="key of an expired job", new="AND false"),),
        engine=_CALM,
        rule="unique violations",
        needs=("unique violations: keys of jobs that expired",),
    ),
    Bug(
        name="a key kept at the cancel",
        promise="a job that was cancelled while it waited holds no key",
        changes=(Change(seam="key of a cancelled job", new="AND false"),),
        engine=_CALM,
        rule="unique violations",
        needs=("unique violations: keys of jobs that were cancelled while they waited",),
    ),
    Bug(
        name="a key kept at the failure",
        promise="a job that has failed holds no key",
        changes=(Change(seam="key of a failed job", new="DELETE FROM rowlock.unique_key WHERE false"),),
        engine=_CALM,
        rule="unique violations",
        needs=("unique violations: keys of jobs that failed",),
    ),
    Bug(
        name="a retry that takes no key",
        promise="a job that is put back holds its key again, or is refused",
        changes=(Change(seam="held keys", new="WHERE false"),),
        engine=Pytest(file="tests/db/test_operators.py"),
        rule="test_a_retried_job_takes_its_unique_key_again_or_is_refused",
    ),
    Bug(
        name="duplicates that are to raise return",
        promise="a duplicate raises if its call asked for that",
        changes=(Change(seam="duplicate"),),
        engine=Pytest(file="tests/db/test_unique_rules.py"),
        rule="test_a_duplicate_that_is_to_be_an_error_stores_nothing_and_leaves_the_transaction_usable",
    ),
    Bug(
        name="a filter that ignores the task",
        promise="an act on many jobs changes those of the task that its filter names",
        changes=(Change(seam="filter", old="self.task", new="None"),),
        engine=_OVERTIME,
        rule="acts on many jobs",
        needs=("acts on many jobs: by task",),
    ),
    Bug(
        name="a filter that ignores the age",
        promise="an act on many jobs changes those that are as old as its filter says",
        changes=(Change(seam="filter", old='_age("older_than", self.older_than)', new="None"),),
        engine=_OVERTIME,
        rule="acts on many jobs",
        needs=("acts on many jobs: by age",),
    ),
    Bug(
        name="a filter that ignores the arguments",
        promise="an act on many jobs changes those with the arguments that its filter names",
        changes=(Change(seam="filter", old="self.args is None", new="True"),),
        engine=_OVERTIME,
        rule="acts on many jobs",
        needs=("acts on many jobs: by args",),
    ),
    Bug(
        name="errors recorded as timeouts",
        promise="an attempt is recorded as it ended",
        changes=(Change(seam="error", new='outcome = "timeout"'),),
        engine=_CALM,
        rule="false outcomes",
        needs=("false outcomes: timeouts",),
    ),
    Bug(
        name="timeouts that stop nothing",
        promise="an attempt is stopped at its timeout",
        changes=(Change(seam="timeout", new="limit = None"),),
        engine=_OVERTIME,
        rule="too late",
        needs=("too late: handlers with a timeout",),
    ),
    Bug(
        name="deadlines that stop nothing",
        promise="an attempt is stopped at its job's deadline",
        changes=(Change(seam="deadline", new="if True:"),),
        engine=_OVERTIME,
        rule="too late",
        needs=("too late: handlers with a deadline",),
    ),
    Bug(
        name="one crash too many",
        promise="a job that was alone at its third crash is set aside",
        changes=(Change(seam="crashes left", old="crashes + 1", new="crashes"),),
        engine=_POISON,
        rule="starts past the limit",
        needs=("starts past the limit: crashes alone",),
    ),
)
