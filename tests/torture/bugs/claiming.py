"""Bugs of claiming and waking up."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import KILLS, Bug, Change, Constant, Pytest

BESIDE_ITSELF: Final = (
    Change(seam="hold", new='held = self._held[row["id"].bytes] = attempt'),
    Change(seam="end of an attempt", new='self._held.pop(attempt.claimed["id"].bytes, None)'),
    Change(seam="leave", new='self._held.pop(attempt.claimed["id"].bytes, None)'),
)
"""The slots start whatever was claimed, also if it runs there already."""

BUGS: Final = (
    Bug(
        name="notifications without a poll",
        promise="a job that falls due is started, also if no notification says so",
        changes=(
            Change(seam="next due", new="pause = 3600.0"),
            Change(seam="listening", new="return pause"),
        ),
        engine=Pytest(file="tests/db/test_worker_order.py"),
        rule="test_a_job_runs_at_about_its_time_and_not_at_the_next_poll",
    ),
    Bug(
        name="cursors that settle at once",
        promise="a job is found whose transaction commits late",
        changes=(
            Change(seam="settle", new="self._settled = self._newest = newest"),
            Constant(file="rowlock/worker/duties/runner.py", name="NET_EVERY", value="1e9"),
        ),
        engine=Pytest(file="tests/db/test_claims.py"),
        rule="test_no_committed_job_is_missed_and_none_is_claimed_twice",
    ),
    Bug(
        name="no scan behind the newest position",
        promise="a job whose transaction commits late is found without waiting for the net",
        changes=(Change(seam="rescan", new="return not is_lagging and not self._newest"),),
        engine=Pytest(file="tests/db/test_claims.py"),
        rule="test_nothing_is_missed_while_a_long_writing_transaction_is_open",
    ),
    Bug(
        name="no adopting",
        promise="the jobs of a claim whose answer was lost are done",
        changes=(Change(seam="adopting", new="if True:"),),
        engine=Pytest(file="tests/db/test_outages.py"),
        rule="test_jobs_of_a_claim_whose_answer_was_lost_run_without_waiting_for_the_lease",
    ),
    Bug(
        name="claims that do not write down what they take",
        promise="the jobs of a dead worker are found without a search of the whole table",
        changes=(Change(seam="held", old="WHERE counted.jobs > 0", new="WHERE false"),),
        engine=Pytest(file="tests/db/test_holdings.py"),
        rule="test_a_claim_writes_down_what_its_worker_holds_until_all_of_it_has_ended",
    ),
    Bug(
        name="rows of another server's outcomes removed",
        promise="jobs whose outcomes a server lost are found again by their worker",
        changes=(Change(seam="keep what is held"),),
        engine=Pytest(file="tests/db/test_holdings.py"),
        rule="test_after_a_reconnect_the_rows_stay_of_what_another_server_may_not_know_to_have_ended",
    ),
    Bug(
        name="claim without locks",
        promise="a job is claimed by one worker",
        changes=(
            Change(seam="candidate", old="job.ctid", new="job.id"),
            Change(seam="claim lock"),
            Change(seam="claimed", old="ctid", new="id"),
            Change(seam="unclaimed"),
        ),
        engine=KILLS,
        rule="starts without a claim",
    ),
    Bug(
        name="claims of a paused queue",
        promise="once a queue is paused, no claim takes a job of it",
        changes=(Change(seam="paused", old="IS NOT NULL", new="> now()"),),
        engine=KILLS,
        rule="starts while paused",
        needs=("starts while paused: enqueued after a drain",),
    ),
    Bug(
        name="claims of unknown tasks",
        promise="a job of a task that a worker does not know stays queued, for one that knows it",
        changes=(Change(seam="known tasks", new="IS NOT NULL AND cardinality($8::text[]) >= 0"),),
        engine=Pytest(file="tests/db/test_worker_order.py"),
        rule="test_a_job_of_an_unknown_task_stays_queued_and_untouched",
    ),
    Bug(
        name="limits that do not count what runs",
        promise="of a queue with a limit, no more jobs run at once in a worker",
        changes=(Change(seam="free slots", old="limit - self._of_limited[queue] for", new="limit for"),),
        engine=Pytest(file="tests/db/test_worker_order.py"),
        rule="test_a_limited_queue_runs_no_more_than_its_limit_while_others_go_on",
    ),
    Bug(
        name="enqueues that wake nobody",
        promise="a worker that sleeps hears of a job that is enqueued",
        changes=(Change(seam="wakeup", old="LIMIT 1", new="AND idle.worker IS NULL LIMIT 1"),),
        engine=Pytest(file="tests/db/test_worker_order.py"),
        rule="test_a_notification_wakes_an_idle_worker",
    ),
    Bug(
        name="the least urgent first",
        promise="of the due jobs of a queue, each claim takes the most urgent first",
        changes=(Constant(file="rowlock/queue/claim/claims.py", name="PRIORITIES", value="range(10)"),),
        engine=KILLS,
        rule="out of order",
        needs=("out of order: beside other priorities",),
    ),
    Bug(
        name="claims of expired jobs",
        promise="a job that has not started when it expires never runs",
        changes=(
            Change(seam="not expired", old="now()", new="'-infinity'"),
            Change(seam="overdue", old="<= now()", new="<= now() - interval '1 day'"),
            Change(seam="expired", new="if False:"),
            Change(seam="expiry timer", old="left", new="left + 3600"),
        ),
        engine=KILLS,
        rule="too late",
        needs=("too late",),
    ),
    Bug(
        name="claims of jobs that are not due",
        promise="a job starts no earlier than its delay, or its time, says",
        changes=(Change(seam="due", old="<= now()", new="< 'infinity'"),),
        engine=KILLS,
        rule="too early",
        needs=("too early: delayed jobs",),
    ),
)
