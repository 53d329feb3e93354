"""Bugs of leases, rescues, and what a worker does without its lease."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import FREEZES, HOLES, KILLS, Bug, Change, Constant, Pytest, Torture

BUGS: Final = (
    Bug(
        name="rescue by elapsed time",
        promise="a job is taken from its worker only when the lease has run out, however long the job takes",
        changes=(
            Change(
                seam="expired leases",
                new="SELECT slow.worker AS id FROM rowlock.job AS slow\n"
                "     WHERE slow.state = 'running' AND slow.started_at < now() - interval '3 seconds'",
            ),
        ),
        engine=KILLS,
        rule="unjustified rescues",
    ),
    Bug(
        name="lease by the worker's clock",
        promise="leases count by the database's clock, whatever the machines' clocks say",
        changes=(
            Change(seam="renewed", old="clock_timestamp()", new="to_timestamp($5::float8)"),
            Change(seam="renewal", old="resident_bytes()", new="resident_bytes(), time.time()"),
        ),
        engine=KILLS,
        rule="unjustified rescues",
        needs=("unjustified rescues: processes whose clock is behind",),
    ),
    Bug(
        name="rescue takes the attempt back",
        promise="the numbers of attempts only go up: they are the fence",
        changes=(Change(seam="rescued", old="started_at = NULL", new="started_at = NULL, attempt = attempt - 1"),),
        engine=KILLS,
        rule="illegal transitions",
        needs=("unjustified rescues",),
    ),
    Bug(
        name="handlers outlive the lease",
        promise="a worker that has lost its lease stops its handlers",
        changes=(Change(seam="handlers of a lost lease"),),
        engine=HOLES,
        rule="overlaps",
        needs=("overlaps: handlers that had long to go when another attempt began",),
    ),
    Bug(
        name="handlers stopped after the lease",
        promise="a worker that cannot renew its lease stops its handlers before the lease runs out, not after",
        changes=(Constant(file="rowlock/worker/vitals/lease.py", name="MARGIN", value="-1.5"),),
        engine=Pytest(file="tests/db/test_links.py"),
        rule="test_a_worker_behind_a_link_that_swallows_all_stops_its_handlers_before_another_one_has_their_jobs",
    ),
    Bug(
        name="no quarantine",
        promise="a job that takes its workers down is set aside",
        changes=(Change(seam="crashes left", new="WHEN true THEN false"),),
        engine=Torture(faults="poison", times=2),
        rule="starts past the limit",
        needs=("unjustified quarantines",),
    ),
    Bug(
        name="jobs start after the lease",
        promise="no job begins in a worker whose lease has run out",
        changes=(Change(seam="lease at start", new="if False:"),),
        engine=Pytest(file="tests/db/test_links.py"),
        rule="test_nothing_begins_in_a_worker_that_has_slept_past_the_end_of_its_lease",
    ),
    Bug(
        name="jobs that waited inside start after the lease",
        promise="a job that has waited for a thread, a process or its batch begins only while its lease holds",
        changes=(Change(seam="lease after waiting", new="if self.stop is None:"),),
        engine=Pytest(file="tests/db/test_waiting_inside.py"),
        rule="test_what_waits_inside_does_not_begin_once_the_lease_is_over",
    ),
    Bug(
        name="cancelled calls wait for dead links",
        promise="a handler that has to stop ends before its lease does, whatever it waits for",
        changes=(Change(seam="cancelled transaction", new="except ZeroDivisionError:"),),
        engine=Pytest(file="tests/db/test_links.py"),
        rule="test_a_call_over_a_link_that_swallows_all_ends_at_once_when_it_is_cancelled",
    ),
    Bug(
        name="lapsed leases renewed",
        promise="a lease that has run out is not renewed: others may have the jobs",
        changes=(Change(seam="lapsed"),),
        engine=FREEZES,
        rule="lapsed leases",
        needs=("lapsed leases: ran out in a process that lived on",),
    ),
    Bug(
        name="crashes that nobody counts",
        promise="a job runs again only for a cause that is recorded and counted",
        changes=(Change(seam="counted crash", old="THEN 1", new="THEN 0"),),
        engine=KILLS,
        rule="unjustified duplicates",
        needs=("unjustified duplicates: recorded as crashes",),
    ),
    Bug(
        name="set aside beside others",
        promise="good jobs beside one that takes its worker down are not set aside",
        changes=(
            Change(seam="alone", new="LIMIT 1) IS NOT DISTINCT FROM job.id OR true"),
            Change(seam="crashes left", new="WHEN $1 < 0 THEN false"),
        ),
        engine=KILLS,
        rule="unjustified quarantines",
        needs=("unjustified quarantines",),
    ),
    Bug(
        name="one rescue heeds no outage",
        promise="nobody rescues for four seconds after an outage: the workers come back, and release what they held",
        changes=(Change(seam="outage", old="name = 'rescue'", new="name = 'rescue' AND NOT $3::boolean"),),
        engine=Pytest(file="tests/db/test_lost_leases.py"),
        rule="test_nothing_is_rescued_for_four_seconds_after_an_outage_whoever_asks",
    ),
    Bug(
        name="outages begin when they are noticed",
        promise="an outage lasts from when the first statement that failed was sent",
        changes=(Change(seam="outage begins", old="sent_at", new="time.monotonic()"),),
        engine=Pytest(file="tests/db/test_lost_leases.py"),
        rule="test_an_outage_lasts_from_when_the_first_statement_that_failed_was_sent",
    ),
    Bug(
        name="a close that a cancel ends",
        promise="whatever cancels a worker's close, its lease stops, and its handlers before its lifespans close",
        changes=(
            Change(seam="close", new="except ZeroDivisionError:\n    raise\nelse:"),
            Change(seam="end of a close", new="await self._end()"),
        ),
        engine=Pytest(file="tests/db/test_interrupted_closes.py"),
        rule="test_a_close_that_is_cancelled_again_and_again_stops_the_lease_and_gives_the_job_back",
    ),
)
