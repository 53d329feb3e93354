"""Run jobs: what claims them, performs them, keeps their lease, and does the duties that all workers share."""
