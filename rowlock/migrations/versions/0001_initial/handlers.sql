-- What running handlers say of their jobs, apart from the hot row of the job: how far they are, and where to go on.
-- Kept over the attempts. `attempt` and `updated_at` are those of the progress, or of the first checkpoint before any.
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
-- Who waits for the end of which job: a finish notifies only if somebody does. Lost in a crash of the server; those who
-- wait poll besides, and write it again.
CREATE UNLOGGED TABLE rowlock.waiter (
    job_id     uuid NOT NULL,
    listener   uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT waiter_pkey PRIMARY KEY (job_id, listener)
) WITH (autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0.1, vacuum_truncate = false)
--;
INSERT INTO rowlock.duty (name, every) VALUES ('results', '1 minute'), ('waiters', '1 minute'), ('progress', '1 hour')
