"""Bugs of enqueues and unique keys."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import KILLS, Bug, Change, Pytest

BUGS: Final = (
    Bug(
        name="lost connection acknowledged",
        promise="a job whose enqueue is acknowledged is there",
        changes=(Change(seam="unknown enqueue", new="return given, {}"),),
        engine=Pytest(file="tests/db/test_enqueue_lost.py"),
        rule="test_an_enqueue_whose_answer_was_lost_is_safe_to_do_again_at_any_time",
    ),
    Bug(
        name="enqueued again under new ids",
        promise="an enqueue whose answer was lost is not repeated in a way that can double its jobs",
        changes=(
            Change(
                seam="unknown enqueue",
                new="import rowlock.queue.jobs.identifiers as new\n"
                "given = [NewJob(new.uuid7(), one.task, one.args, one.options, one.unique_key)"
                " for one in given]",
            ),
        ),
        engine=Pytest(file="tests/db/test_enqueue_lost.py"),
        rule="test_an_enqueue_whose_answer_was_lost_is_safe_to_do_again_at_any_time",
    ),
    Bug(
        name="again does not see finished jobs",
        promise="an enqueue that is done again stores only what is missing, also if it has finished by then",
        changes=(Change(seam="finished meanwhile", new="return set()"),),
        engine=Pytest(file="tests/db/test_enqueue_lost.py"),
        rule="test_a_job_that_finishes_while_it_is_enqueued_again_is_not_stored_again",
    ),
    Bug(
        name="enqueue beside the caller's transaction",
        promise="a job of a transaction that is rolled back does not exist",
        changes=(Change(seam="caller's transaction", old="connection", new="None"),),
        engine=KILLS,
        rule="unexpected",
    ),
    Bug(
        name="unique key by SELECT and INSERT",
        promise="of all writers at the same time, one gets the key",
        changes=(
            Change(seam="unique key"),
            Change(
                seam="take key",
                new="SELECT take_key.key, take_key.job_id, take_key.until_start, clock_timestamp() + take_key.period\n"
                "WHERE NOT EXISTS (SELECT FROM rowlock.unique_key AS k WHERE k.key = take_key.key)",
            ),
        ),
        engine=Pytest(file="tests/db/test_unique_races.py"),
        rule="test_of_forty_connections_a_third_of_which_roll_back_one_job_has_the_key",
    ),
    Bug(
        name="key freed while its job waits for its next attempt",
        promise="a job holds its unique key until it has finished",
        changes=(
            Change(
                seam="again",
                new="), freed AS (\n    DELETE FROM rowlock.unique_key WHERE job_id = ANY($2::uuid[])\n), told AS (",
            ),
        ),
        engine=KILLS,
        rule="unique violations",
        needs=("unique violations: keys of jobs that waited for their next attempt",),
    ),
    Bug(
        name="a finish frees a key for a period",
        promise="a key for a period is held until the period is over, also if its job has finished",
        changes=(Change(seam="key for a period"),),
        engine=Pytest(file="tests/db/test_unique_holders.py"),
        rule="test_a_key_for_a_period_outlives_its_job_and_ends_with_the_period",
    ),
    Bug(
        name="replaces a running job",
        promise="a duplicate replaces a job only while it waits",
        changes=(Change(seam="replaceable", old="AND j.state IN ('queued', 'blocked')"),),
        engine=Pytest(file="tests/db/test_unique_rules.py"),
        rule="test_a_running_job_is_not_replaced",
    ),
    Bug(
        name="an HTTP request twice with one key",
        promise="requests with the same Idempotency-Key make one job",
        changes=(Change(seam="answer key"),),
        engine=Pytest(file="tests/api/test_idempotency.py"),
        rule="test_simultaneous_requests_with_one_key_are_one_job_and_one_answer",
    ),
    Bug(
        name="many jobs in two commits",
        promise="of many jobs in one call all are stored, or none",
        changes=(
            Change(
                seam="copy",
                new="given = list(jobs)\n"
                "first, held = await self._enqueue_by_copy(given[: len(given) // 2])\n"
                "last, held_too = await self._enqueue_by_copy(given[len(given) // 2 :])\n"
                "return first + last, held | held_too",
            ),
        ),
        engine=KILLS,
        rule="half stored",
        needs=("half stored",),
    ),
)
