"""Bugs of claiming and waking up."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import QUIET, SQL, Bug, Change, Pytest, Torture

BUGS: Final = (
    Bug(
        name="notifications without a poll",
        promise="a job that falls due is started, also if no notification says so",
        changes=(
            Change(
                file="rowlock/worker/doze.py",
                old="            due = await self._claims.until_next()\n",
                new="            due, pause = None, 3600.0\n",
            ),
            Change(
                file="rowlock/worker/doze.py",
                old="            pause = min(pause, self._ear.due_in())\n",
                new="            pass\n",
            ),
        ),
        engine=Torture(faults="delay"),
        rule="lost",
    ),
    Bug(
        name="cursors that settle at once",
        promise="a job is found whose transaction commits late",
        changes=(
            Change(
                file="rowlock/queue/cursors.py",
                old="            self._newest = self._untagged = newest\n",
                new="            self._settled = self._newest = newest\n",
            ),
            Change(file="rowlock/worker/upkeep.py", old="NET_EVERY: Final = 60.0", new="NET_EVERY: Final = 1e9"),
        ),
        engine=Torture(faults="pin"),
        rule="lost",
    ),
    Bug(
        name="no scan behind the newest position",
        promise="a job whose transaction commits late is found without waiting for the net",
        changes=(
            Change(
                file="rowlock/queue/cursors.py",
                old="        return not is_lagging or now >= self._rescan_at\n",
                new="        return not is_lagging and not self._newest\n",
            ),
        ),
        engine=Pytest(file="tests/db/test_claims.py"),
        rule="test_nothing_is_missed_while_a_long_writing_transaction_is_open",
    ),
    Bug(
        name="no adopting",
        promise="the jobs of a claim whose answer was lost are done",
        changes=(
            Change(
                file="rowlock/worker/main_loop.py",
                old="        if self._loop.time() < self._adopt_at:\n            return\n",
                new="        if self._loop:\n            return\n",
            ),
        ),
        engine=Pytest(file="tests/db/test_lease.py"),
        rule="test_jobs_of_a_claim_whose_answer_was_lost_run_without_waiting_for_the_lease",
    ),
    Bug(
        name="claim without locks",
        promise="a job is claimed by one worker",
        changes=(
            Change(file=f"{SQL}claim.sql", old="SELECT job.ctid AS tid", new="SELECT job.id AS tid"),
            Change(
                file=f"{SQL}claim.sql",
                old="                     FOR NO KEY UPDATE SKIP LOCKED\n",
                new="",
            ),
            Change(
                file=f"{SQL}claim.sql",
                old="     WHERE ctid = ANY(ARRAY(SELECT tid FROM candidate))\n       AND worker IS NULL\n",
                new="     WHERE id = ANY(ARRAY(SELECT tid FROM candidate))\n",
            ),
        ),
        engine=QUIET,
        rule="illegal transitions",
    ),
)
