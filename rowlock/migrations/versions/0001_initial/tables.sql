-- Whether metadata is readable for every client: an object of texts, of a bounded size. Not inlined: for a job without
-- metadata, a constraint that calls it costs no more than reading the column.
CREATE FUNCTION rowlock.is_metadata(metadata jsonb) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN jsonb_typeof(is_metadata.metadata) = 'object' AND octet_length(is_metadata.metadata::text) <= 32768
           AND NOT jsonb_path_exists(is_metadata.metadata, 'strict $.* ? (@.type() != "string")', silent => true);
END
$$
--;
-- `args_version`: the task version of the arguments.
-- Live jobs only: a finished one moves to finished_job in the transaction that finishes it.
-- Wide data (errors, tracebacks, results) lives elsewhere; a null column costs only a bit.
CREATE TABLE rowlock.job (
    id           uuid NOT NULL,
    run_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at   timestamptz,
    ends_at      timestamptz,
    expires_at   timestamptz,
    deadline     timestamptz,
    cancel_requested_at timestamptz,
    worker       uuid,
    timeout      interval,
    attempt      integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 10,
    errors       integer NOT NULL DEFAULT 0,
    crashes      smallint NOT NULL DEFAULT 0,
    priority     smallint NOT NULL DEFAULT 5,
    args_version smallint NOT NULL DEFAULT 1,
    state        text COLLATE "C" NOT NULL DEFAULT 'queued',
    queue        text COLLATE "C" NOT NULL DEFAULT 'default',
    task         text COLLATE "C" NOT NULL,
    unique_key   text COLLATE "C",
    error        text,
    cancel_reason text,
    args         jsonb NOT NULL DEFAULT '{}',
    tags         text[] COLLATE "C",
    metadata     jsonb,
    trace        text COLLATE "C",
    CONSTRAINT job_pkey PRIMARY KEY (id),
    CONSTRAINT job_state_is_live CHECK (state IN ('blocked', 'queued', 'running')),
    CONSTRAINT job_worker_iff_running CHECK ((state = 'running') = (worker IS NOT NULL)),
    CONSTRAINT job_priority_0_to_9 CHECK (priority BETWEEN 0 AND 9),
    CONSTRAINT job_attempts_count_up CHECK (attempt >= 0 AND errors >= 0 AND max_attempts >= 1),
    CONSTRAINT job_queue_length CHECK (length(queue) BETWEEN 1 AND 48),
    -- Every client can read each time, in each time zone; and Python has no infinite times. The same in each table.
    CONSTRAINT job_is_readable CHECK (
        greatest(run_at, created_at, started_at, ends_at, expires_at, deadline, cancel_requested_at) < '9999-12-31 00:00:00+00'
        AND least(run_at, created_at, started_at, expires_at, deadline, cancel_requested_at) >= '0001-01-02 00:00:00+00'
        AND timeout BETWEEN '0' AND '36500 days'
        AND array_position(tags, NULL) IS NULL  -- more than one dimension is an error of array_position
        AND (metadata IS NULL OR rowlock.is_metadata(metadata))
    )
) WITH (
    -- Every job is written three times, then leaves: vacuum often, without pauses, and never for the truncation's lock.
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0.2, vacuum_truncate = false,
    toast.autovacuum_vacuum_cost_delay = 0, toast.vacuum_truncate = false
)
--;
-- The claim reads this, in the order in which it claims: a range of one (queue, priority), from the worker's cursor on.
CREATE INDEX job_claim ON rowlock.job (queue, priority, run_at, id) WHERE state = 'queued'
--;
-- Finds waiting jobs whose time is over: no attempt may start after ends_at. It is expires_at or the deadline,
-- whichever comes first; after the first attempt has started, the deadline; and '-infinity' once a cancel is requested.
CREATE INDEX job_ends ON rowlock.job (ends_at) WHERE ends_at IS NOT NULL AND state <> 'running'
--;
-- Finds the jobs of a dead worker, for the rescue.
CREATE INDEX job_running ON rowlock.job (worker) WHERE state = 'running'
--;
-- Finds the jobs that run alone: waiting jobs whose workers died. Its condition is `worker IS NULL`, not
-- `state = 'queued'`, so that their search cannot be planned over job_claim.
CREATE INDEX job_suspect ON rowlock.job (queue, priority, run_at) WHERE crashes > 0 AND worker IS NULL
--;
-- Finds cancel requests for a worker's running jobs, once a second.
CREATE INDEX job_cancel ON rowlock.job (worker) WHERE cancel_requested_at IS NOT NULL
--;
-- One row a held key with its job: the primary key guarantees uniqueness for every writer.
-- Held until the job finishes, which deletes the row; until it starts (until_start): only while the job waits;
-- or until expires_at, whatever becomes of the job. Upkeep removes rows of the latter two that are not held any more.
CREATE TABLE rowlock.unique_key (
    key         text COLLATE "C" NOT NULL,
    job_id      uuid NOT NULL,
    expires_at  timestamptz,
    until_start boolean NOT NULL DEFAULT false,
    CONSTRAINT unique_key_pkey PRIMARY KEY (key),
    CONSTRAINT unique_key_length CHECK (octet_length(key) BETWEEN 1 AND 768)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false)
--;
CREATE INDEX unique_key_expires_at ON rowlock.unique_key (expires_at) WHERE expires_at IS NOT NULL
--;
CREATE INDEX unique_key_until_start ON rowlock.unique_key (job_id) WHERE until_start
--;
-- The responses to HTTP requests with an Idempotency-Key, so that a repeated request gets the same one.
CREATE TABLE rowlock.idempotency_key (
    key_hash    bytea NOT NULL,
    fingerprint bytea NOT NULL,
    expires_at  timestamptz NOT NULL,
    status      smallint,
    body        text,
    job_id      uuid,
    CONSTRAINT idempotency_key_pkey PRIMARY KEY (key_hash)
) WITH (autovacuum_vacuum_scale_factor = 0.05, vacuum_truncate = false)
--;
CREATE INDEX idempotency_key_expires_at ON rowlock.idempotency_key (expires_at)
--;
-- Each task as the workers' code registers it, so that `SELECT rowlock.enqueue('send_email', …)` finds the right queue.
CREATE TABLE rowlock.task (
    name         text COLLATE "C" NOT NULL,
    queue        text COLLATE "C" NOT NULL,
    priority     smallint NOT NULL,
    max_attempts integer NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    result_ttl   interval,
    results_removed_until timestamptz NOT NULL DEFAULT '-infinity',
    args_version smallint NOT NULL DEFAULT 1,
    is_sensitive boolean NOT NULL DEFAULT false,
    max_crashes  integer,
    CONSTRAINT task_pkey PRIMARY KEY (name),
    CONSTRAINT task_times_are_readable CHECK (
        greatest(updated_at, results_removed_until) < '9999-12-31 00:00:00+00'
        AND updated_at >= '0001-01-02 00:00:00+00'
        AND result_ttl BETWEEN '0' AND '36500 days'
    )
)
