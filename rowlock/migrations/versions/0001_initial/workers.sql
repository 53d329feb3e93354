-- One row each time a worker's process starts; it is the lease of all jobs that this worker runs. `lease` is the length
-- of a renewal. `state` is an operator's order: `quiet` claims no new jobs, `stopping` also ends when its jobs have ended.
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
    CONSTRAINT worker_pkey PRIMARY KEY (id),
    CONSTRAINT worker_state CHECK (state IN ('running', 'quiet', 'stopping', 'over')),
    CONSTRAINT worker_times_are_readable CHECK (
        greatest(started_at, expires_at) < '9999-12-31 00:00:00+00'
        AND started_at >= '0001-01-02 00:00:00+00'
        AND lease BETWEEN '0' AND '36500 days'
    )
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0.1, vacuum_truncate = false)
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
