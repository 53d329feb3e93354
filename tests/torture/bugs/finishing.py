"""Bugs of outcomes: fences, limits, effects."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import QUIET, SQL, Bug, Change, Pytest, Torture

_FENCE: Final = """\
       AND worker = $1
       AND CASE WHEN (id, attempt) IN (SELECT outcome.id, outcome.attempt FROM outcome) THEN true ELSE false END
"""

BUGS: Final = (
    Bug(
        name="success without a fence",
        promise="the outcome of an attempt that has lost its job is refused",
        changes=(Change(file=f"{SQL}succeed.sql", old=_FENCE, new="       AND $1::uuid IS NOT NULL\n"),),
        engine=Pytest(file="tests/db/test_lease.py"),
        rule="test_what_a_stale_worker_reports_is_refused_and_counted",
    ),
    Bug(
        name="fence without the attempt",
        promise="an outcome is that of the attempt that is running, not of an earlier one of the same worker",
        changes=(
            Change(
                file=f"{SQL}succeed.sql",
                old="       AND CASE WHEN (id, attempt) IN (SELECT outcome.id, outcome.attempt FROM outcome) "
                "THEN true ELSE false END\n",
                new="",
            ),
        ),
        engine=Pytest(file="tests/db/test_lifecycle_machine.py"),
        rule="test_whatever_happens_the_tables_say_what_the_documentation_says",
    ),
    Bug(
        name="archived whatever the fence says",
        promise="a job has one final state",
        changes=(
            Change(
                file=f"{SQL}succeed.sql",
                old="""\
    SELECT gone.id, gone.run_at, gone.created_at, statement_timestamp() - outcome.elapsed * interval '1 second',
           statement_timestamp(), gone.worker,
           gone.timeout, gone.attempt, gone.max_attempts, gone.errors, gone.crashes, gone.priority, 'succeeded',
           gone.queue, gone.task, gone.args_version, gone.unique_key, gone.error, gone.args, outcome.result,
           gone.tags, gone.trace
      FROM gone
      JOIN outcome ON outcome.id = gone.id
""",
                new="""\
    SELECT outcome.id, coalesce(gone.run_at, now()), coalesce(gone.created_at, now()), now(), statement_timestamp(), $1,
           gone.timeout, outcome.attempt, coalesce(gone.max_attempts, 10), coalesce(gone.errors, 0),
           coalesce(gone.crashes, 0::smallint), coalesce(gone.priority, 5::smallint), 'succeeded',
           coalesce(gone.queue, 'default'), coalesce(gone.task, 'torture.quick'),
           coalesce(gone.args_version, 1::smallint), gone.unique_key, gone.error,
           coalesce(gone.args, '{}'), outcome.result, gone.tags, gone.trace
      FROM outcome
      LEFT JOIN gone ON outcome.id = gone.id
""",
            ),
        ),
        engine=Torture(faults="terminate,cut,freeze", times=10),
        rule="more than one final state",
    ),
    Bug(
        name="outcomes dropped with the connection",
        promise="an outcome is recorded, however often the connection is lost",
        changes=(
            Change(
                file="rowlock/queue/finishes.py",
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
                file="rowlock/queue/lifecycle.py",
                old="    if errors + 1 >= max_attempts or not may_retry:\n",
                new="    if not may_retry:\n",
            ),
        ),
        engine=QUIET,
        rule="starts past the limit",
    ),
    Bug(
        name="effects committed before the success",
        promise="what a handler writes in job.transaction() is committed with the success of its job, or not at all",
        changes=(
            Change(
                file="rowlock/worker/runtime.py",
                old="                await self._commit(transaction)\n",
                new="                await transaction.commit()\n                self._attempt.result = self._result\n",
            ),
        ),
        engine=Torture(faults="kill,delay", times=8, rate=1000),
        rule="effects",
    ),
    Bug(
        name="error texts as they are",
        promise="whatever text an error has, its outcome is recorded",
        changes=(
            Change(
                file="rowlock/queue/results.py",
                old=""" and text.isascii() and "\\0" not in text:""",
                new=""" and text.isascii():""",
            ),
            Change(file="rowlock/queue/finishes.py", old="    asyncpg.DataError,\n", new=""),
        ),
        engine=QUIET,
        rule="lost",
    ),
)
