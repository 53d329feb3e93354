"""Bugs of what operators do, and of schedules."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import KILLS, SCHEMA, Bug, Change, Pytest

BUGS: Final = (
    Bug(
        name="cancel ends running jobs itself",
        promise="a running job's end is told by its worker: a cancel only asks for it",
        changes=(
            Change(
                file="rowlock/queue/finish/sql/cancel.sql",
                old="     WHERE id = ANY(ARRAY(SELECT target.id FROM target WHERE target.state <> 'running'))\n",
                new="     WHERE id = ANY(ARRAY(SELECT target.id FROM target))\n",
            ),
        ),
        engine=KILLS,
        rule="stale outcomes accepted",
    ),
    Bug(
        name="cancel that does nothing",
        promise="a waiting job whose cancel is acknowledged never starts",
        changes=(
            Change(
                file="rowlock/queue/finish/sql/cancel.sql",
                old="     WHERE id = ANY(ARRAY(SELECT target.id FROM target WHERE target.state <> 'running'))\n",
                new="     WHERE id = ANY(ARRAY(SELECT target.id FROM target WHERE target.state = 'blocked'))\n",
            ),
            Change(
                file="rowlock/queue/finish/sql/cancel.sql",
                old="SELECT id, 'cancelled' AS answer, NULL AS told FROM gone\n",
                new="SELECT id, 'cancelled' AS answer, NULL AS told FROM target WHERE state <> 'running'\n",
            ),
        ),
        engine=KILLS,
        rule="cancelled jobs that started",
    ),
    Bug(
        name="ticks fired without claiming them",
        promise="each tick of a schedule makes one job",
        changes=(
            Change(
                file=f"{SCHEMA}schedules.sql",
                old="    CONSTRAINT schedule_tick_pkey PRIMARY KEY (schedule, tick_at),\n",
                new="",
            ),
            Change(
                file="rowlock/worker/sql/fire_ticks.sql",
                old="s.next_run_at = $2::timestamptz",
                new="$2::timestamptz IS NOT NULL",
            ),
            Change(
                file="rowlock/worker/sql/fire_ticks.sql",
                old="s.last_job_id IS NOT DISTINCT FROM $4::uuid",
                new="($4::uuid IS NULL OR true)",
            ),
            Change(file="rowlock/worker/sql/fire_ticks.sql", old="       FOR NO KEY UPDATE OF s SKIP LOCKED\n", new=""),
        ),
        engine=KILLS,
        rule="schedule ticks",
    ),
    Bug(
        name="a tick that has fired fires again",
        promise="a tick makes at most one job, also if its schedule is set back",
        changes=(
            Change(
                file=f"{SCHEMA}schedules.sql",
                old="    CONSTRAINT schedule_tick_pkey PRIMARY KEY (schedule, tick_at),\n",
                new="",
            ),
        ),
        engine=Pytest(file="tests/db/test_schedules.py"),
        rule="test_tick_that_has_fired_does_not_again_even_if_somebody_sets_the_clock_of_the_schedule_back",
    ),
    Bug(
        name="ticks in a queue that nobody serves",
        promise="the job of a tick goes to the queue of its schedule, or else of its task, and runs there",
        changes=(
            Change(
                file="rowlock/worker/sql/fire_ticks.sql",
                old="coalesce(s.queue, known.queue, 'default') AS queue",
                new="coalesce(s.queue, s.name, known.queue) AS queue",
            ),
        ),
        engine=KILLS,
        rule="unfinished",
    ),
    Bug(
        name="one broken schedule stops all",
        promise="a schedule that does not fire keeps no other from firing",
        changes=(
            Change(
                file="rowlock/worker/ticker.py",
                old="            except Exception as error:  # no error",
                new="            except InvalidOption as error:  # no error",
            ),
            Change(
                file="rowlock/worker/ticker.py",
                old="from rowlock.errors import ConfigurationError, RowlockError",
                new="from rowlock.errors import ConfigurationError, InvalidOption, RowlockError",
            ),
        ),
        engine=Pytest(file="tests/db/test_schedules.py"),
        rule="test_schedule_whose_job_the_database_refuses_keeps_no_other_from_firing",
    ),
    Bug(
        name="retries of succeeded jobs",
        promise="a job that succeeded does not run again: an operator can only run it as a new one",
        changes=(
            Change(
                file="rowlock/queue/operate/jobs.py",
                old='            if rows and rows[0]["state"] in _RETRYABLE:\n',
                new="            if rows:\n",
            ),
            Change(
                file="rowlock/queue/operate/sql/retry.sql",
                old="state IN ('failed', 'cancelled', 'expired')\n",
                new="state IN ('failed', 'cancelled', 'expired', 'succeeded')\n",
            ),
        ),
        engine=Pytest(file="tests/db/test_operators.py"),
        rule="test_a_job_that_succeeded_or_is_alive_cannot_be_retried",
    ),
    Bug(
        name="a day of the archive goes too early",
        promise="nothing is removed from the archive before its time",
        changes=(
            Change(
                file=f"{SCHEMA}retention.sql",
                old="               (day + CASE archive WHEN 'finished_job' THEN 1 ELSE 2 END)::timestamp",
                new="               (day + CASE archive WHEN 'finished_job' THEN 0 ELSE 1 END)::timestamp",
            ),
            Change(
                file=f"{SCHEMA}retention.sql",
                old="rowlock.past_retention((day + 1)::timestamp AT TIME ZONE 'UTC', clock_timestamp())",
                new="rowlock.past_retention(day::timestamp AT TIME ZONE 'UTC', clock_timestamp())",
            ),
        ),
        engine=Pytest(file="tests/db/test_retention.py"),
        rule="test_nothing_goes_a_minute_before_its_time",
    ),
    Bug(
        name="attempts of live jobs are removed",
        promise="a live job and what is known of its attempts are never removed",
        changes=(
            Change(
                file=f"{SCHEMA}retention.sql",
                old="               'EXISTS (SELECT FROM rowlock.job WHERE job.id = job_id) OR EXISTS ('\n",
                new="               'EXISTS ('\n",
            ),
        ),
        engine=Pytest(file="tests/db/test_retention.py"),
        rule="test_a_live_job_is_never_touched_and_neither_are_its_attempts",
    ),
)
