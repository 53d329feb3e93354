-- Begin a lease. It takes over the orders of the lost lease before it, which is `over` from now on: it takes no order.
--
-- $1 id   $2 hostname   $3 pid   $4 version   $5 queues   $6 tasks   $7 concurrency   $8 the state   $9 the lease
-- $10 the ids of the lost lease, and of leases after it whose beginning was not answered uuid[]
--
-- $7 and $8 hold unless one of those rows is still there. Of two, the later one has the orders: ids sort by time.
-- Index: worker_pkey. Locks: those rows.
WITH before AS MATERIALIZED (
    SELECT id, concurrency, state FROM rowlock.worker WHERE id = ANY($10::uuid[]) AND state <> 'over' FOR UPDATE
), ended AS (
    UPDATE rowlock.worker SET state = 'over' WHERE id = ANY(ARRAY(SELECT before.id FROM before))
), given AS (
    SELECT concurrency, state FROM before ORDER BY id DESC LIMIT 1
)
INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, state, lease, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, coalesce((SELECT given.concurrency FROM given), $7),
        coalesce((SELECT given.state FROM given), $8), $9, clock_timestamp() + $9)
