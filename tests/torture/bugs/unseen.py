"""Bugs that broke promises unseen, until an independent harness found them: each undoes one mend."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.claiming import BESIDE_ITSELF
from tests.torture.bugs.kinds import SQL, Bug, Change, Pytest

_LEASES: Final = Pytest(file="tests/db/test_lost_leases.py")

BUGS: Final = (
    Bug(
        name="a lease lost while the worker registers",
        promise="a worker that loses its lease begins another one, whatever it does at that moment",
        changes=(
            Change(
                file="rowlock/worker/shift.py",
                old="        self.lease = lease\n        await self.orders.read(self.claiming)\n",
                new="        self.lease = lease\n        await self.orders.read(self.claiming)\n"
                "        lease.is_lost = False\n",
            ),
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
        changes=(
            Change(
                file=f"{SQL}claim.sql",
                old="WHERE id = $9::uuid AND expires_at > clock_timestamp()\n",
                new="WHERE id = $9::uuid\n",
            ),
        ),
        engine=_LEASES,
        rule="test_a_worker_whose_lease_has_run_out_claims_nothing_and_its_cursors_stay",
    ),
    Bug(
        name="a crash for a lease that was given up",
        promise="a worker that gave its lease up has not crashed: what it held never began",
        changes=(
            Change(
                file=f"{SQL}rescue.sql",
                old="worker.expires_at = '-infinity'\n",
                new="worker.expires_at > 'infinity'\n",
            ),
        ),
        engine=_LEASES,
        rule="test_a_worker_that_gave_its_lease_up_has_not_crashed",
    ),
)
