-- Progress and checkpoints that running handlers report, apart from the hot row of the job.
-- Kept across attempts. `attempt` and `updated_at` are those of the progress, or of the first checkpoint before any.
CREATE TABLE rowlock.progress (
    job_id     uuid NOT NULL,
    attempt    integer NOT NULL,
    fraction   double precision,
    message    text,
    checkpoint jsonb,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT progress_pkey PRIMARY KEY (job_id),
    CONSTRAINT progress_fraction_0_to_1 CHECK (fraction BETWEEN 0 AND 1),
    CONSTRAINT progress_times_are_readable CHECK (
        updated_at < '9999-12-31 00:00:00+00'
        AND updated_at >= '0001-01-02 00:00:00+00'
    )
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, vacuum_truncate = false)
--;
-- Clients that wait for a job's end: a finish notifies only if there is one. Lost in a crash of the server; waiting
-- clients also poll, and insert their row again.
CREATE UNLOGGED TABLE rowlock.waiter (
    job_id     uuid NOT NULL,
    listener   uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT waiter_pkey PRIMARY KEY (job_id, listener)
) WITH (autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0.1, vacuum_truncate = false)
--;
INSERT INTO rowlock.duty (name, every) VALUES ('results', '1 minute'), ('waiters', '1 minute'), ('progress', '1 hour')
