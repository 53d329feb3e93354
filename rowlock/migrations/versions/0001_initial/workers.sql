-- One row each time a worker's process starts; it is the lease of all jobs that this worker runs. `lease` is the length
-- of a renewal. `state` is an operator's order: `quiet` claims no new jobs, `stopping` also ends when its jobs have ended.
-- `followed_by` is the id of the process's next lease, once this one is lost: its orders go on there.
CREATE TABLE rowlock.worker (
    id            uuid NOT NULL,
    hostname      text NOT NULL,
    pid           integer NOT NULL,
    version       text NOT NULL,
    queues        text[] NOT NULL,
    tasks         text[] NOT NULL,
    concurrency   integer NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease         interval NOT NULL DEFAULT '15 seconds',
    expires_at    timestamptz NOT NULL,
    loop_delay_ms integer NOT NULL DEFAULT 0,
    memory_bytes  bigint,
    state         text NOT NULL DEFAULT 'running',
    followed_by   uuid,
    CONSTRAINT worker_pkey PRIMARY KEY (id),
    CONSTRAINT worker_state CHECK (state IN ('running', 'quiet', 'stopping')),
    CONSTRAINT worker_times_are_readable CHECK (
        greatest(started_at, expires_at) < '9999-12-31 00:00:00+00'
        AND started_at >= '0001-01-02 00:00:00+00'
        AND lease BETWEEN '0' AND '36500 days'
    )
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0.1, vacuum_truncate = false)
--;
-- Begin a lease. It follows the process's lost lease, takes over the orders of that row, and ends them there: the row of a
-- lease that is followed takes no order. `follows`: the ids of the lost lease, and of leases after it whose beginning was
-- not answered. `concurrency` and `state` hold if those rows are gone.
-- Returns whether the lease has begun. It does not if another lease has followed: then this call is late, and its
-- caller has tried again meanwhile, or is gone.
-- The rows are read again after they are locked, because another call for the same process may have held them.
CREATE FUNCTION rowlock.begin_lease(
    id uuid, hostname text, pid integer, version text, queues text[], tasks text[], concurrency integer, state text,
    lease interval, follows uuid[]
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    newest rowlock.worker;
BEGIN
    PERFORM FROM rowlock.worker AS w WHERE w.id = ANY(begin_lease.follows) ORDER BY w.id FOR UPDATE;
    SELECT w.* INTO newest FROM rowlock.worker AS w WHERE w.id = ANY(begin_lease.follows) ORDER BY w.id DESC LIMIT 1;
    IF newest.followed_by IS NOT NULL AND NOT newest.followed_by = ANY(begin_lease.follows) THEN
        RETURN false;
    END IF;
    UPDATE rowlock.worker AS w SET followed_by = begin_lease.id WHERE w.id = ANY(begin_lease.follows);
    INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, state, lease, expires_at)
    VALUES (begin_lease.id, begin_lease.hostname, begin_lease.pid, begin_lease.version, begin_lease.queues,
            begin_lease.tasks, coalesce(newest.concurrency, begin_lease.concurrency),
            coalesce(newest.state, begin_lease.state), begin_lease.lease, clock_timestamp() + begin_lease.lease);
    RETURN true;
END
$$
--;
-- Sleeping workers by queue: an enqueue notifies only if there is one. Lost in a crash of the server; the workers
-- reconnect then, and insert their row again.
CREATE UNLOGGED TABLE rowlock.idle_worker (
    queue  text COLLATE "C" NOT NULL,
    worker uuid NOT NULL,
    CONSTRAINT idle_worker_pkey PRIMARY KEY (queue, worker)
) WITH (autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0.1, vacuum_truncate = false)
--;
-- Periodic upkeep. A worker claims a due duty like a job, whichever comes first: there is no leader.
-- `set_at` is when next_run_at was set. If that is in the future, the server's clock has gone back, and the duty is due.
-- `held_at` is when a worker last found the database back after an outage: for four seconds no worker rescues (rescue.sql).
CREATE TABLE rowlock.duty (
    name        text COLLATE "C" NOT NULL,
    every       interval NOT NULL,
    next_run_at timestamptz NOT NULL DEFAULT '-infinity',
    set_at      timestamptz NOT NULL DEFAULT '-infinity',
    held_at     timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT duty_pkey PRIMARY KEY (name)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0.1, vacuum_truncate = false)
--;
INSERT INTO rowlock.duty (name, every) VALUES ('rescue', '1 second'), ('overdue', '1 second'), ('suspects', '1 second'),
    ('orphans', '1 minute'), ('keys', '1 minute'), ('partitions', '1 hour'), ('ticks', '1 hour'),
    ('unclaimed', '1 minute')
