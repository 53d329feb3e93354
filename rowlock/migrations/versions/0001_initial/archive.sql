-- One row a finished job, a partition a day (UTC): retention empties partitions and never deletes rows. A single row
-- leaves only when its job is retried (retry.sql), and changes only when it is discarded. Partitions have no primary key:
-- REPLICA IDENTITY FULL lets a publication replicate these changes. It costs nothing without logical decoding.
CREATE TABLE rowlock.finished_job (
    id           uuid NOT NULL,
    run_at       timestamptz NOT NULL,
    created_at   timestamptz NOT NULL,
    started_at   timestamptz,
    finished_at  timestamptz NOT NULL,
    discarded_at timestamptz,
    worker       uuid,
    timeout      interval,
    attempt      integer NOT NULL,
    max_attempts integer NOT NULL,
    errors       integer NOT NULL,
    crashes      smallint NOT NULL,
    priority     smallint NOT NULL,
    args_version smallint NOT NULL DEFAULT 1,
    state        text COLLATE "C" NOT NULL,
    queue        text COLLATE "C" NOT NULL,
    task         text COLLATE "C" NOT NULL,
    unique_key   text COLLATE "C",
    error        text,
    args         jsonb NOT NULL,
    result       jsonb,
    tags         text[] COLLATE "C",
    metadata     jsonb,
    trace        text COLLATE "C",
    CONSTRAINT finished_job_state_is_final CHECK (state IN ('succeeded', 'failed', 'cancelled', 'expired')),
    CONSTRAINT finished_job_is_readable CHECK (
        greatest(run_at, created_at, started_at, finished_at, discarded_at) < '9999-12-31 00:00:00+00'
        AND least(run_at, created_at, started_at, finished_at, discarded_at) >= '0001-01-02 00:00:00+00'
        AND timeout BETWEEN '0' AND '36500 days'
        AND array_position(tags, NULL) IS NULL  -- more than one dimension is an error of array_position
        AND (metadata IS NULL OR rowlock.is_metadata(metadata))
    )
) PARTITION BY RANGE (finished_at)
--;
CREATE INDEX finished_job_id ON rowlock.finished_job (id)
--;
-- The dead letters, and other jobs that did not succeed, in the order of their ids: few among many. Included are the columns that count them.
CREATE INDEX finished_job_unsuccessful ON rowlock.finished_job (state, id) INCLUDE (queue, discarded_at)
 WHERE state <> 'succeeded'
--;
-- Rows arrive in time order, so a few bytes per thousand rows find a time window.
CREATE INDEX finished_job_finished_at ON rowlock.finished_job USING brin (finished_at) WITH (autosummarize = on)
--;
-- The safety net: a finish can never fail because tomorrow's partition is missing.
CREATE TABLE rowlock.finished_job_default PARTITION OF rowlock.finished_job DEFAULT
--;
ALTER TABLE rowlock.finished_job_default REPLICA IDENTITY FULL
--;
-- One row an attempt with any outcome but success.
CREATE TABLE rowlock.attempt (
    job_id      uuid NOT NULL,
    attempt     integer NOT NULL,
    outcome     text COLLATE "C" NOT NULL,
    queue       text COLLATE "C" NOT NULL,
    task        text COLLATE "C" NOT NULL,
    worker      uuid,
    started_at  timestamptz,
    finished_at timestamptz NOT NULL,
    error_type  text,
    message     text,
    traceback   text,
    CONSTRAINT attempt_outcome CHECK (
        outcome IN ('error', 'timeout', 'crashed', 'released', 'snoozed', 'retried', 'cancelled', 'failed')
    ),
    CONSTRAINT attempt_times_are_readable CHECK (
        greatest(started_at, finished_at) < '9999-12-31 00:00:00+00'
        AND least(started_at, finished_at) >= '0001-01-02 00:00:00+00'
    )
) PARTITION BY RANGE (finished_at)
--;
CREATE INDEX attempt_job_id ON rowlock.attempt (job_id, attempt)
--;
CREATE INDEX attempt_finished_at ON rowlock.attempt USING brin (finished_at) WITH (autosummarize = on)
--;
CREATE TABLE rowlock.attempt_default PARTITION OF rowlock.attempt DEFAULT
--;
ALTER TABLE rowlock.attempt_default REPLICA IDENTITY FULL
--;
-- The logs of handlers of tasks with capture_logs: one row an attempt, an array of {after, level, logger, text}.
CREATE TABLE rowlock.attempt_log (
    job_id     uuid NOT NULL,
    attempt    integer NOT NULL,
    started_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    lines      jsonb NOT NULL,
    CONSTRAINT attempt_log_times_are_readable CHECK (
        greatest(started_at, created_at) < '9999-12-31 00:00:00+00'
        AND least(started_at, created_at) >= '0001-01-02 00:00:00+00'
    )
) PARTITION BY RANGE (created_at)
--;
CREATE INDEX attempt_log_job_id ON rowlock.attempt_log (job_id, attempt)
--;
CREATE TABLE rowlock.attempt_log_default PARTITION OF rowlock.attempt_log DEFAULT
--;
ALTER TABLE rowlock.attempt_log_default REPLICA IDENTITY FULL
