-- Begin a lease, which takes over the orders of the lost one before it: see the function.
--
-- $1 id   $2 hostname   $3 pid   $4 version   $5 queues   $6 tasks   $7 concurrency   $8 the state   $9 the lease
-- $10 the ids of the leases that it follows uuid[]
--
-- Returns whether the lease has begun. Index: worker_pkey. Locks: the rows of the leases that it follows.
SELECT rowlock.begin_lease($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) AS has_begun
