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
