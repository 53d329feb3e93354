"""Bugs that broke promises unseen, until an independent harness found them: each undoes one mend."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.claiming import BESIDE_ITSELF
from tests.torture.bugs.kinds import Bug, Change, Pytest

_CLOCK: Final = Pytest(file="tests/db/test_clock.py")
_LEASES: Final = Pytest(file="tests/db/test_lost_leases.py")

BUGS: Final = (
    Bug(
        name="a lease lost while the worker registers",
        promise="a worker that loses its lease begins another one, whatever it does at that moment",
        changes=(
            Change(seam="registered", new="await self.orders.read(self.links.claim)\nself.lease.is_lost = False"),
        ),
        engine=_LEASES,
        rule="test_a_lease_lost_while_the_worker_registers_is_followed_by_another",
    ),
    Bug(
        name="a claim of what runs here already",
        promise="a job does not start beside itself in a worker, also if the database has lost an earlier claim",
        changes=BESIDE_ITSELF,
        engine=Pytest(file="tests/db/test_rewound.py"),
        rule="test_a_job_that_is_claimed_while_it_runs_here_does_not_start_beside_itself",
    ),
    Bug(
        name="claims after the lease",
        promise="a worker whose lease has run out claims nothing",
        changes=(Change(seam="leased", old="AND expires_at > clock_timestamp()"),),
        engine=_LEASES,
        rule="test_a_worker_whose_lease_has_run_out_claims_nothing_and_its_cursors_stay",
    ),
    Bug(
        name="a crash for a lease that was given up",
        promise="a worker that gave its lease up has not crashed: what it held never began",
        changes=(Change(seam="lease given up", old="= '-infinity'", new="> 'infinity'"),),
        engine=_LEASES,
        rule="test_a_worker_that_gave_its_lease_up_has_not_crashed",
    ),
    Bug(
        name="partitions by the session's time zone",
        promise="a day of the archive begins at midnight UTC, whatever the session's settings are",
        changes=(Change(seam="time zone", old="SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD'"),),
        engine=Pytest(file="tests/db/test_session_settings.py"),
        rule="test_a_day_of_the_archive_begins_at_midnight_utc",
    ),
    Bug(
        name="a duplicate by an old snapshot",
        promise="a key until the start is decided by what is true now: no change is left without a run that follows it",
        changes=(Change(seam="old snapshot", new="IF false THEN"),),
        engine=Pytest(file="tests/db/test_old_snapshots.py"),
        rule="test_a_key_until_the_start_is_not_refused_for_a_holder_that_started_since",
    ),
    Bug(
        name="a key held by a job that can never start",
        promise="a job whose time is over keeps no other from being stored",
        changes=(Change(seam="holder is over", new="IF false THEN"),),
        engine=Pytest(file="tests/db/test_unique_holders.py"),
        rule="test_a_waiting_job_whose_time_is_over_holds_no_key_though_no_upkeep_has_ended_it",
    ),
    Bug(
        name="duties wait for a clock that went back",
        promise="upkeep goes on when the server's clock is set back",
        changes=(Change(seam="due duty", old="OR set_at > clock_timestamp()"),),
        engine=_CLOCK,
        rule="test_a_duty_that_was_set_in_the_future_is_due",
    ),
    Bug(
        name="both outcomes of an attempt in one statement",
        promise="a job that the database hands out again, as it was before, ends once",
        changes=(Change(seam="one outcome each", new="if False:"),),
        engine=Pytest(file="tests/db/test_rewound.py"),
        rule="test_a_job_that_runs_again_before_its_first_outcome_is_recorded_ends_once",
    ),
    Bug(
        name="acts that stop at a clock that went back",
        promise="an act on many means all that is there, also what came in before the server's clock was set back",
        changes=(Change(seam="last end", new="NULL::timestamptz"),),
        engine=_CLOCK,
        rule="test_acts_on_many_mean_what_came_in_before_the_clock_went_back",
    ),
    Bug(
        name="leases from a clock that went back",
        promise="a dead worker's jobs are rescued when the server's clock is set back",
        changes=(
            Change(
                seam="lease cut",
                old="> clock_timestamp() + lease",
                new="> clock_timestamp() + lease + interval '1 day'",
            ),
        ),
        engine=_CLOCK,
        rule="test_a_dead_worker_s_lease_of_the_future_is_cut_and_its_job_rescued",
    ),
    Bug(
        name="cursors ahead of a clock that went back",
        promise="jobs that are enqueued after the server's clock went back are claimed by the next look",
        changes=(Change(seam="clock set back"),),
        engine=_CLOCK,
        rule="test_jobs_that_come_in_a_step_back_are_claimed_by_the_next_look",
    ),
    Bug(
        name="a wait that ends with the server",
        promise="who waits for a result goes on waiting while the database is away",
        changes=(Change(seam="outage while waiting", old="not is_away", new="is_away"),),
        engine=Pytest(file="tests/db/test_waiting_for_results.py"),
        rule="test_a_wait_for_a_result_outlives_an_outage_of_the_database",
    ),
    Bug(
        name="the default partition keeps for ever",
        promise="retention removes what is past its time, wherever it lies",
        changes=(Change(seam="default partition", new="SELECT 0 * length($1::text) * $2::integer AS removed"),),
        engine=Pytest(file="tests/db/test_retention.py"),
        rule="test_a_day_with_too_many_rows_to_move_is_said_to_be_overdue_and_goes_from_the_default_partition",
    ),
    Bug(
        name="enqueues notify although nobody listens",
        promise="where no worker listens, a transaction that enqueues can be prepared",
        changes=(Change(seam="wakeup", new="SELECT pg_notify('rowlock.wakeup', $2::text)"),),
        engine=Pytest(file="tests/db/test_prepared_transactions.py"),
        rule="test_a_transaction_that_enqueues_can_be_prepared_where_no_worker_listens",
    ),
    Bug(
        name="no look for what another server has lost",
        promise="a job whose outcome is lost with a failover runs again",
        changes=(
            Change(seam="look at another server"),
            Change(seam="look after a failed claim"),
        ),
        engine=Pytest(file="tests/db/test_rewound.py"),
        rule="test_a_job_whose_outcome_the_database_has_lost_runs_again",
    ),
    Bug(
        name="jobs held behind their stopped attempt",
        promise="a worker holds no job that it cannot start",
        changes=(Change(seam="blocked", new='self.doubled.add(row["id"])'),),
        engine=_LEASES,
        rule="test_what_an_attempt_of_a_lost_lease_blocks_is_given_back_and_runs_elsewhere",
    ),
    Bug(
        name="a wait that outlasts its timeout",
        promise="a wait for a result ends with its timeout, also if the database does not answer",
        changes=(Change(seam="wait limit", old="limit", new="None"),),
        engine=Pytest(file="tests/db/test_waiting_for_results.py"),
        rule="test_a_wait_ends_in_time_although_the_database_does_not_answer",
    ),
)
