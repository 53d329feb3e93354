-- Begin a lease. $1 id   $2 hostname   $3 pid   $4 version   $5 queues   $6 tasks   $7 concurrency
-- $8 the state, which a new lease takes over from a lost one   $9 the lease
INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, state, lease, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp() + $9)
