"""Running jobs: attempts, slots, the lease, and the upkeep that every worker shares. No SQL, no HTTP."""
