"""Bugs of outcomes: fences, limits, effects."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import KILLS, SCHEMA, Bug, Change, Pytest, Torture

_FENCE: Final = "     WHERE {{own_attempts}}\n"

BUGS: Final = (
    Bug(
        name="success without a fence",
        promise="the outcome of an attempt that has lost its job is refused",
        changes=(
            Change(
                file="rowlock/queue/finish/sql/succeed.sql",
                old=_FENCE,
                new="     WHERE id = ANY($2::uuid[]) AND $1::uuid IS NOT NULL\n",
            ),
        ),
        engine=Pytest(file="tests/db/test_lease.py"),
        rule="test_what_a_stale_worker_reports_is_refused_and_counted",
    ),
    Bug(
        name="fence without the attempt",
        promise="an outcome is that of the attempt that is running, not of an earlier one of the same worker",
        changes=(
            Change(
                file="rowlock/queue/finish/sql/succeed.sql",
                old=_FENCE,
                new="     WHERE id = ANY($2::uuid[]) AND worker = $1\n",
            ),
        ),
        engine=Pytest(file="tests/db/test_statements.py"),
        rule="test_an_outcome_of_another_attempt_is_refused",
    ),
    Bug(
        name="archived whatever the fence says",
        promise="a job has one final state",
        changes=(
            Change(
                file="rowlock/queue/finish/sql/succeed.sql",
                old="""\
    SELECT {{archived_columns}},
           statement_timestamp() - outcome.elapsed * interval '1 second', statement_timestamp(), worker,
           errors, crashes, 'succeeded', error, outcome.result
      FROM gone
      JOIN outcome USING (id, attempt)
""",
                new="""\
    SELECT outcome.id, coalesce(gone.run_at, now()), outcome.attempt, coalesce(gone.args_version, 1::smallint),
           coalesce(gone.args, '{}'), coalesce(gone.created_at, now()), gone.timeout, coalesce(gone.max_attempts, 10),
           coalesce(gone.priority, 5::smallint), coalesce(gone.queue, 'default'),
           coalesce(gone.task, 'torture.quick'), gone.unique_key, gone.tags, gone.metadata, gone.trace, now(),
           statement_timestamp(), $1, coalesce(gone.errors, 0), coalesce(gone.crashes, 0::smallint), 'succeeded',
           gone.error, outcome.result
      FROM outcome
      LEFT JOIN gone ON outcome.id = gone.id
""",
            ),
        ),
        engine=Torture(faults="terminate,cut,freeze", times=10),
        rule="more than one final state",
        needs=("stale outcomes accepted: handlers that ended after a rescue",),
    ),
    Bug(
        name="outcomes dropped with the connection",
        promise="an outcome is recorded, however often the connection is lost",
        changes=(
            Change(
                file="rowlock/queue/finish/finishes.py",
                old='                log.warning("finish_delayed", jobs=len(batch), error=type(error).__name__)\n',
                new='                log.warning("finish_delayed", jobs=len(batch), error=type(error).__name__)\n'
                "                return\n",
            ),
        ),
        engine=Pytest(file="tests/db/test_lease.py"),
        rule="test_connections_killed_in_the_middle_of_the_work_cost_no_job_and_no_second_run",
    ),
    Bug(
        name="attempts without a limit",
        promise="a job fails for good after max_attempts errors",
        changes=(
            Change(
                file="rowlock/queue/jobs/lifecycle.py",
                old="    if errors + 1 >= max_attempts or not may_retry:\n",
                new="    if not may_retry:\n",
            ),
        ),
        engine=KILLS,
        rule="starts past the limit",
    ),
    Bug(
        name="effects committed before the success",
        promise="what a handler writes in job.transaction() is committed with the success of its job, or not at all",
        changes=(
            Change(
                file="rowlock/worker/attempt/runtime.py",
                old="                await self._commit(transaction)\n",
                new="                await transaction.commit()\n                await asyncio.sleep(1)\n"
                "                self._attempt.result = self._result\n",
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
            Change(
                file="rowlock/queue/jobs/results.py",
                old=""" and text.isascii() and "\\0" not in text:""",
                new=""" and text.isascii():""",
            ),
            Change(file="rowlock/queue/finish/finishes.py", old="    asyncpg.DataError,\n", new=""),
        ),
        engine=KILLS,
        rule="lost",
    ),
    Bug(
        name="retries without a backoff",
        promise="a job that failed is tried again after the delay that its backoff says",
        changes=(
            Change(
                file="rowlock/queue/jobs/lifecycle.py",
                old="    return Again(delay=delay(), outcome=outcome, counts=True)\n",
                new="    return Again(delay=timedelta(0), outcome=outcome, counts=True)\n",
            ),
        ),
        engine=Pytest(file="tests/db/test_failures.py"),
        rule="test_a_list_or_a_function_says_when",
    ),
    Bug(
        name="a snooze counts as an error",
        promise="what is recorded of an attempt is what its handler did: a snooze is no error",
        changes=(
            Change(
                file="rowlock/queue/jobs/lifecycle.py",
                old='            return Again(delay=delay, outcome="snoozed", counts=False)\n',
                new='            return Again(delay=delay, outcome="error", counts=True)\n',
            ),
        ),
        engine=KILLS,
        rule="false outcomes",
    ),
    Bug(
        name="a release counts as an error",
        promise="a job that a stopping worker gives back has not used up an attempt",
        changes=(
            Change(
                file="rowlock/queue/jobs/lifecycle.py",
                old='INTERRUPTED: Final = Again(delay=timedelta(0), outcome="released", counts=False)\n',
                new='INTERRUPTED: Final = Again(delay=timedelta(0), outcome="released", counts=True)\n',
            ),
        ),
        engine=Pytest(file="tests/acceptance/test_crashes.py"),
        rule="test_a_stopped_worker_gives_its_job_back_without_using_up_an_attempt",
    ),
    Bug(
        name="attempts without a timeout",
        promise="an attempt ends at its timeout",
        changes=(
            Change(
                file="rowlock/worker/timeouts.py",
                old="    deadline = asyncio.timeout(limit.total_seconds() - spent)\n",
                new="    deadline = asyncio.timeout(limit.total_seconds() - spent + 3600)\n",
            ),
        ),
        engine=Pytest(file="tests/db/test_worker.py"),
        rule="test_an_attempt_ends_at_its_timeout",
    ),
    Bug(
        name="retries past the deadline",
        promise="after its deadline no attempt of a job begins",
        changes=(
            Change(
                file="rowlock/queue/finish/sql/again.sql",
                old="                          ELSE deadline END,\n",
                new="                          ELSE NULL END,\n",
            ),
        ),
        engine=Pytest(file="tests/db/test_limits_in_time.py"),
        rule="test_the_deadline_cuts_the_attempt_and_ends_the_retries",
    ),
    Bug(
        name="a stale attempt commits its transaction",
        promise="an attempt that has lost its job cannot commit what it writes in job.transaction()",
        changes=(
            Change(
                file="rowlock/queue/finish/transaction.py",
                old="    return all(row[0] is None for row in rows)\n",
                new="    return len(rows) < 2\n",
            ),
        ),
        engine=Pytest(file="tests/db/test_job_transaction.py"),
        rule="test_a_stale_attempt_cannot_commit",
    ),
    Bug(
        name="the view shows expired jobs as cancelled",
        promise="people see each job in the state in which its last change left it",
        changes=(
            Change(
                file=f"{SCHEMA}jobs.sql",
                old="SELECT id, state, queue, task, ",
                new="SELECT id, CASE state WHEN 'expired' THEN 'cancelled' ELSE state END, queue, task, ",
            ),
        ),
        engine=KILLS,
        rule="inconsistencies",
    ),
)
