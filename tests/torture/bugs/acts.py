"""Bugs of acts on many jobs, of switches that operators turn, and of the API."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import MIXED, Bug, Change, Pytest

BUGS: Final = (
    Bug(
        name="drains that do not wait",
        promise="a drained queue has nothing that runs when the drain is done",
        changes=(Change(seam="drained", new="if not under_way:"),),
        engine=MIXED,
        rule="starts while paused",
        needs=("starts while paused: drained while it ran",),
    ),
    Bug(
        name="one job more than a scale",
        promise="a worker runs no more jobs of a queue than an operator has said",
        changes=(Change(seam="scale", old='row["queue_concurrency"] for', new='row["queue_concurrency"] + 1 for'),),
        engine=MIXED,
        rule="starts past a scale",
        needs=("starts past a scale: as many as there may be",),
    ),
    Bug(
        name="cancel_many leaves running jobs out",
        promise="an act on many jobs is done to all that its filter means",
        changes=(Change(seam="cancellable", old="_LIVE", new='["queued"]'),),
        engine=MIXED,
        rule="acts on many jobs",
        needs=("acts on many jobs: cancels of jobs that ran",),
    ),
    Bug(
        name="retry_many leaves one of each batch out",
        promise="a retry of many puts all of them back",
        changes=(Change(seam="retry many", old="in rows", new="in rows[1:]"),),
        engine=MIXED,
        rule="acts on many jobs",
        needs=("acts on many jobs: dead letters to put back",),
    ),
    Bug(
        name="a dry run that does it",
        promise="a dry run changes nothing",
        changes=(Change(seam="dry run", old="dry_run or"),),
        engine=MIXED,
        rule="acts on many jobs",
        needs=("acts on many jobs: a dry run",),
    ),
    Bug(
        name="run again with another priority",
        promise="a job that is run again is like the first one",
        changes=(Change(seam="run again", old="job.priority", new="5"),),
        engine=MIXED,
        rule="jobs run again",
        needs=("jobs run again",),
    ),
    Bug(
        name="retention the other way round",
        promise="what a queue keeps for longer stays, and what is past its time goes",
        changes=(Change(seam="exceptions", old="is_past", new="NOT is_past"),),
        engine=MIXED,
        rule="retention",
        needs=("retention",),
    ),
    Bug(
        name="an Idempotency-Key for each API",
        promise="an Idempotency-Key is the same at each process of the API",
        changes=(Change(seam="idempotency key", old="call.access.by", new="str(call.request.url.port)"),),
        engine=MIXED,
        rule="answers of the APIs",
        needs=("answers of the APIs: an Idempotency-Key at each",),
    ),
    Bug(
        name="tags that begin alike",
        promise="an act on many jobs is done to no others than its filter means",
        changes=(
            Change(
                seam="tag",
                old="$11::text::jsonb ->> 'tag' = ANY(tags))",
                new="EXISTS (SELECT FROM unnest(tags) AS one (tag) "
                "WHERE starts_with(one.tag, $11::text::jsonb ->> 'tag')))",
            ),
        ),
        engine=MIXED,
        rule="acts on many jobs",
        needs=("acts on many jobs: cancels of jobs that ran",),
    ),
    Bug(
        name="discard_many counts one of each batch",
        promise="an act on many jobs says how many it changed",
        changes=(Change(seam="discarded", new="SELECT id FROM done LIMIT 1"),),
        engine=Pytest(file="tests/db/test_operators.py"),
        rule="test_many_dead_letters_are_discarded",
    ),
    Bug(
        name="a reschedule that keeps a time that is over",
        promise="a job that comes into another lane is found there, wherever the cursors are",
        changes=(Change(seam="rescheduled", old="), clock_timestamp()", new=")"),),
        engine=Pytest(file="tests/db/test_rescheduling.py"),
        rule="test_a_job_that_was_due_long_before_it_came_into_a_lane_is_found_there",
    ),
    Bug(
        name="a deletion that leaves the attempts",
        promise="nothing of a job that was deleted is left",
        changes=(Change(seam="traces", old='("delete_attempts", traces["attempts"]),'),),
        engine=Pytest(file="tests/db/test_deleting.py"),
        rule="test_nothing_of_a_deleted_job_is_left",
    ),
)
