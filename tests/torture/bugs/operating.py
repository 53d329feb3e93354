"""Bugs of what operators do, and of schedules."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import KILLS, Bug, Change, Pytest

BUGS: Final = (
    Bug(
        name="cancel ends running jobs itself",
        promise="a running job's end is told by its worker: a cancel only asks for it",
        changes=(Change(seam="cancel at once", old="WHERE target.state <> 'running'"),),
        engine=KILLS,
        rule="stale outcomes accepted",
    ),
    Bug(
        name="cancel that does nothing",
        promise="a waiting job whose cancel is acknowledged never starts",
        changes=(
            Change(seam="cancel at once", old="<> 'running'", new="= 'blocked'"),
            Change(seam="cancelled", old="gone", new="target WHERE state <> 'running'"),
        ),
        engine=KILLS,
        rule="cancelled jobs that started",
    ),
    Bug(
        name="ticks fired without claiming them",
        promise="each tick of a schedule makes one job",
        changes=(
            Change(seam="tick key"),
            Change(seam="tick", new="AND $2::timestamptz IS NOT NULL"),
            Change(seam="last job", new="AND ($4::uuid IS NULL OR true)"),
            Change(seam="schedule lock"),
        ),
        engine=KILLS,
        rule="schedule ticks",
    ),
    Bug(
        name="a tick that has fired fires again",
        promise="a tick makes at most one job, also if its schedule is set back",
        changes=(Change(seam="tick key"),),
        engine=Pytest(file="tests/db/test_ticks.py"),
        rule="test_tick_that_has_fired_does_not_again_even_if_somebody_sets_the_clock_of_the_schedule_back",
    ),
    Bug(
        name="ticks in a queue that nobody serves",
        promise="the job of a tick goes to the queue of its schedule, or else of its task, and runs there",
        changes=(Change(seam="queue of a tick", old="s.queue,", new="s.queue, s.name,"),),
        engine=KILLS,
        rule="unfinished",
    ),
    Bug(
        name="one broken schedule stops all",
        promise="a schedule that does not fire keeps no other from firing",
        changes=(Change(seam="broken tick", new="except ZeroDivisionError as error:"),),
        engine=Pytest(file="tests/db/test_ticks.py"),
        rule="test_schedule_whose_job_the_database_refuses_keeps_no_other_from_firing",
    ),
    Bug(
        name="retries of succeeded jobs",
        promise="a job that succeeded does not run again: an operator can only run it as a new one",
        changes=(
            Change(seam="retryable", new="if rows:"),
            Change(seam="retried", old="'failed'", new="'failed', 'succeeded'"),
        ),
        engine=Pytest(file="tests/db/test_operators.py"),
        rule="test_a_job_that_succeeded_or_is_alive_cannot_be_retried",
    ),
    Bug(
        name="a day of the archive goes too early",
        promise="nothing is removed from the archive before its time",
        changes=(
            Change(seam="last day", old="1 ELSE 2", new="0 ELSE 1"),
            Change(seam="past retention", old="day + 1", new="day"),
        ),
        engine=Pytest(file="tests/db/test_retention.py"),
        rule="test_nothing_goes_a_minute_before_its_time",
    ),
    Bug(
        name="attempts of live jobs are removed",
        promise="a live job and what is known of its attempts are never removed",
        changes=(Change(seam="live jobs", old="EXISTS (SELECT FROM rowlock.job WHERE job.id = job_id) OR"),),
        engine=Pytest(file="tests/db/test_retention.py"),
        rule="test_a_live_job_is_never_touched_and_neither_are_its_attempts",
    ),
)
