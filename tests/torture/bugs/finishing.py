"""Bugs of outcomes: fences, limits, effects."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import KILLS, Bug, Change, Pytest, Torture

_ANY_OUTCOME: Final = """\
FROM (
    SELECT outcome.id, outcome.attempt, $1::uuid AS worker, gone.timeout, gone.unique_key, gone.error, gone.tags,
           gone.metadata, gone.trace, coalesce(gone.run_at, now()) AS run_at,
           coalesce(gone.created_at, now()) AS created_at, coalesce(gone.max_attempts, 10) AS max_attempts,
           coalesce(gone.errors, 0) AS errors, coalesce(gone.crashes, 0::smallint) AS crashes,
           coalesce(gone.priority, 5::smallint) AS priority, coalesce(gone.queue, 'default') AS queue,
           coalesce(gone.task, 'torture.quick') AS task, coalesce(gone.args_version, 1::smallint) AS args_version,
           coalesce(gone.args, '{}') AS args
      FROM outcome
      LEFT JOIN gone ON gone.id = outcome.id
) AS gone"""
"""The attempts whose outcomes were reported, whether they were still running or not."""

BUGS: Final = (
    Bug(
        name="success without a fence",
        promise="the outcome of an attempt that has lost its job is refused",
        changes=(Change(seam="fence", new="WHERE id = ANY($2::uuid[]) AND $1::uuid IS NOT NULL"),),
        engine=Pytest(file="tests/db/test_lease.py"),
        rule="test_what_a_stale_worker_reports_is_refused_and_counted",
    ),
    Bug(
        name="fence without the attempt",
        promise="an outcome is that of the attempt that is running, not of an earlier one of the same worker",
        changes=(Change(seam="fence", new="WHERE id = ANY($2::uuid[]) AND worker = $1"),),
        engine=Pytest(file="tests/db/test_statements.py"),
        rule="test_an_outcome_of_another_attempt_is_refused",
    ),
    Bug(
        name="archived whatever the fence says",
        promise="a job has one final state",
        changes=(Change(seam="archived", new=_ANY_OUTCOME),),
        engine=Torture(faults="terminate,cut,freeze", times=10),
        rule="more than one final state",
        needs=("stale outcomes accepted: handlers that ended after a rescue",),
    ),
    Bug(
        name="outcomes dropped with the connection",
        promise="an outcome is recorded, however often the connection is lost",
        changes=(Change(seam="finish delayed", new="return"),),
        engine=Pytest(file="tests/db/test_outages.py"),
        rule="test_connections_killed_in_the_middle_of_the_work_cost_no_job_and_no_second_run",
    ),
    Bug(
        name="attempts without a limit",
        promise="a job fails for good after max_attempts errors",
        changes=(Change(seam="max attempts", new="if not may_retry:"),),
        engine=KILLS,
        rule="starts past the limit",
    ),
    Bug(
        name="effects committed before the success",
        promise="what a handler writes in job.transaction() is committed with the success of its job, or not at all",
        changes=(
            Change(
                seam="commit",
                new="await transaction.commit()\nawait asyncio.sleep(1)\nself._attempt.result = self._result",
            ),
        ),
        engine=Torture(faults="kill", times=12),
        rule="effects",
        needs=("effects: after several attempts",),
    ),
    Bug(
        name="error texts as they are",
        promise="whatever text an error has, its outcome is recorded",
        changes=(
            Change(seam="storable text", old='and "\\0" not in text'),
            Change(seam="not storable", old="asyncpg.DataError,"),
        ),
        engine=KILLS,
        rule="lost",
    ),
    Bug(
        name="retries without a backoff",
        promise="a job that failed is tried again after the delay that its backoff says",
        changes=(Change(seam="backoff", old="delay()", new="timedelta(0)"),),
        engine=Pytest(file="tests/db/test_failures.py"),
        rule="test_a_list_or_a_function_says_when",
    ),
    Bug(
        name="a snooze counts as an error",
        promise="what is recorded of an attempt is what its handler did: a snooze is no error",
        changes=(Change(seam="snooze", old='outcome="snoozed", counts=False', new='outcome="error", counts=True'),),
        engine=KILLS,
        rule="false outcomes",
    ),
    Bug(
        name="a release counts as an error",
        promise="a job that a stopping worker gives back has not used up an attempt",
        changes=(Change(seam="interrupted", old="counts=False", new="counts=True"),),
        engine=Pytest(file="tests/acceptance/test_crashes.py"),
        rule="test_a_stopped_worker_gives_its_job_back_without_using_up_an_attempt",
    ),
    Bug(
        name="attempts without a timeout",
        promise="an attempt ends at its timeout",
        changes=(Change(seam="timeout timer", old="spent", new="spent + 3600"),),
        engine=Pytest(file="tests/db/test_worker.py"),
        rule="test_an_attempt_ends_at_its_timeout",
    ),
    Bug(
        name="retries past the deadline",
        promise="after its deadline no attempt of a job begins",
        changes=(Change(seam="deadline of a retry", old="deadline", new="NULL"),),
        engine=Pytest(file="tests/db/test_limits_in_time.py"),
        rule="test_the_deadline_cuts_the_attempt_and_ends_the_retries",
    ),
    Bug(
        name="a stale attempt commits its transaction",
        promise="an attempt that has lost its job cannot commit what it writes in job.transaction()",
        changes=(Change(seam="fence of transactions", new="return len(rows) < 2"),),
        engine=Pytest(file="tests/db/test_job_transaction.py"),
        rule="test_a_stale_attempt_cannot_commit",
    ),
    Bug(
        name="the view shows expired jobs as cancelled",
        promise="people see each job in the state in which its last change left it",
        changes=(
            Change(
                seam="finished state", old="state,", new="CASE state WHEN 'expired' THEN 'cancelled' ELSE state END,"
            ),
        ),
        engine=KILLS,
        rule="inconsistencies",
    ),
)
