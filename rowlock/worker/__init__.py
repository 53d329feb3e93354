"""Run jobs: claim them, perform them, keep their lease, and do the duties that all workers share."""
