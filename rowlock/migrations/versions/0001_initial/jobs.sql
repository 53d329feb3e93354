-- Whether metadata is what every client can read: an object of texts, of a bounded size. Not inlined: where a job has none, a
-- constraint that calls it costs no more than a look at the column.
CREATE FUNCTION rowlock.is_metadata(metadata jsonb) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN jsonb_typeof(is_metadata.metadata) = 'object' AND octet_length(is_metadata.metadata::text) <= 32768
           AND NOT jsonb_path_exists(is_metadata.metadata, 'strict $.* ? (@.type() != "string")', silent => true);
END
$$
--;
-- `args_version`: the version of the task for which the arguments are written.
-- The live jobs, and only these: a finished one moves to finished_job in the transaction that finishes it.
-- Wide facts (errors, tracebacks, results) live elsewhere; columns that are null cost nothing but a bit.
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
    -- Every client can read each time, in each time zone; and Python has no infinite ones. So it is in each table.
    CONSTRAINT job_is_readable CHECK (
        greatest(run_at, created_at, started_at, ends_at, expires_at, deadline, cancel_requested_at) < '9999-12-31 00:00:00+00'
        AND least(run_at, created_at, started_at, expires_at, deadline, cancel_requested_at) >= '0001-01-02 00:00:00+00'
        AND timeout BETWEEN '0' AND '36500 days'
        AND array_position(tags, NULL) IS NULL  -- nor has it more than one dimension, of which that is an error
        AND (metadata IS NULL OR rowlock.is_metadata(metadata))
    )
) WITH (
    -- Every job is written three times and leaves: vacuum often, without pauses, and never for the truncation's lock.
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0.2, vacuum_truncate = false,
    toast.autovacuum_vacuum_cost_delay = 0, toast.vacuum_truncate = false
)
--;
-- What the claim reads, in the order in which it takes: a range of one (queue, priority), from the worker's cursor on.
CREATE INDEX job_claim ON rowlock.job (queue, priority, run_at, id) WHERE state = 'queued'
--;
-- What ends waiting jobs whose time is over: no attempt may start after ends_at. It is expires_at or the deadline,
-- whichever comes first; once an attempt has started, the deadline; and '-infinity' once a cancel is requested.
CREATE INDEX job_ends ON rowlock.job (ends_at) WHERE ends_at IS NOT NULL AND state <> 'running'
--;
-- What the rescue reads: the jobs of a worker that is gone.
CREATE INDEX job_running ON rowlock.job (worker) WHERE state = 'running'
--;
-- What runs alone: waiting jobs whose workers died. It says `worker IS NULL` and not `state = 'queued'`, so that the search
-- for them cannot be planned over job_claim.
CREATE INDEX job_suspect ON rowlock.job (queue, priority, run_at) WHERE crashes > 0 AND worker IS NULL
--;
-- What a worker looks for once a second: those of its running jobs that somebody wants cancelled.
CREATE INDEX job_cancel ON rowlock.job (worker) WHERE cancel_requested_at IS NOT NULL
--;
-- One row a finished job, a partition a day (UTC): retention empties partitions, it never deletes rows. A row leaves by
-- itself only when somebody puts its job back (retry.sql), and changes only when somebody discards it. Partitions have no
-- primary key: their REPLICA IDENTITY FULL lets a publication take these changes. It costs nothing without logical decoding.
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
        AND array_position(tags, NULL) IS NULL  -- nor has it more than one dimension, of which that is an error
        AND (metadata IS NULL OR rowlock.is_metadata(metadata))
    )
) PARTITION BY RANGE (finished_at)
--;
CREATE INDEX finished_job_id ON rowlock.finished_job (id)
--;
-- The dead letters, and what else did not succeed, in the order of the ids: few among many. With what counts them.
CREATE INDEX finished_job_unsuccessful ON rowlock.finished_job (state, id) INCLUDE (queue, discarded_at)
 WHERE state <> 'succeeded'
--;
-- Rows arrive in the order of time, so a few bytes per thousand rows find a time window.
CREATE INDEX finished_job_finished_at ON rowlock.finished_job USING brin (finished_at) WITH (autosummarize = on)
--;
-- The net: a finish can never fail because nobody made tomorrow's partition.
CREATE TABLE rowlock.finished_job_default PARTITION OF rowlock.finished_job DEFAULT
--;
ALTER TABLE rowlock.finished_job_default REPLICA IDENTITY FULL
--;
-- Every job, live or finished, with the state that people mean. `scheduled` and `retrying` are derived, never stored:
-- nothing has to be promoted when their time comes. A result is shown for as long as its task keeps it.
-- (By now(), a job would be scheduled in the very transaction that enqueues it.)
CREATE VIEW rowlock.jobs AS
SELECT id,
       CASE WHEN state = 'queued' AND errors > 0 THEN 'retrying'
            WHEN state = 'queued' AND attempt = 0 AND run_at > statement_timestamp() THEN 'scheduled'
            ELSE state
       END AS state,
       queue, task, priority, args_version, args, attempt, max_attempts, errors, crashes, unique_key, timeout,
       NULL::jsonb AS result, error, created_at, run_at, started_at, NULL::timestamptz AS finished_at, worker,
       expires_at, deadline, cancel_requested_at, NULL::timestamptz AS discarded_at,
       tags, metadata, trace
  FROM rowlock.job
 UNION ALL
-- seam: finished state
SELECT id, state, queue, task, priority, args_version, args, attempt, max_attempts, errors, crashes, unique_key,
       timeout,
       CASE WHEN result IS NOT NULL
             AND finished_at < now() - (SELECT result_ttl FROM rowlock.task WHERE task.name = finished_job.task) THEN NULL
            ELSE result
       END AS result,
       error, created_at, run_at, started_at, finished_at, worker,
       NULL, NULL, NULL, discarded_at, tags, metadata, trace
  FROM rowlock.finished_job
