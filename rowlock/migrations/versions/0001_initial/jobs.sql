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
-- No index names a column that a claim writes (state, worker, attempt, started_at), neither as a key nor in its condition. So
-- a claim is a heap-only update (HOT): it writes to no index, and leaves nothing in one for vacuum. The fill factor leaves
-- room for the second version of each row in its page.
-- A blocked job has the run_at 'infinity', which no claim reaches; `due_at` keeps its own due time until it is released.
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
    due_at       timestamptz,
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
    CONSTRAINT job_blocked_is_out_of_reach CHECK (
        CASE state WHEN 'blocked' THEN due_at IS NOT NULL AND run_at = 'infinity' ELSE due_at IS NULL END
    ),
    CONSTRAINT job_priority_0_to_9 CHECK (priority BETWEEN 0 AND 9),
    CONSTRAINT job_attempts_count_up CHECK (attempt >= 0 AND errors >= 0 AND max_attempts >= 1),
    CONSTRAINT job_queue_length CHECK (length(queue) BETWEEN 1 AND 48),
    -- Every client can read each time, in each time zone; and Python has no infinite times. The same in each table.
    CONSTRAINT job_is_readable CHECK (
        greatest(coalesce(due_at, run_at), created_at, started_at, ends_at, expires_at, deadline, cancel_requested_at)
        < '9999-12-31 00:00:00+00'
        AND least(coalesce(due_at, run_at), created_at, started_at, expires_at, deadline, cancel_requested_at) >= '0001-01-02 00:00:00+00'
        AND timeout BETWEEN '0' AND '36500 days'
        AND array_position(tags, NULL) IS NULL  -- more than one dimension is an error of array_position
        AND (metadata IS NULL OR rowlock.is_metadata(metadata))
    )
) WITH (
    fillfactor = 45,
    -- Every job is written three times, then leaves: vacuum often, without pauses, and never for the truncation's lock.
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0.2, vacuum_truncate = false,
    toast.autovacuum_vacuum_cost_delay = 0, toast.vacuum_truncate = false
)
--;
-- The claim reads this, in the order in which it claims: a range of one (queue, priority), from the worker's cursor on. A running
-- job stays in it until its end; the cursor has passed it. A blocked one is not in it. The condition also keeps the planner from
-- walking it for a statement that does not name it, on a table that it believes to be empty.
CREATE INDEX job_claim ON rowlock.job (queue, priority, run_at, id) WHERE run_at < 'infinity'
--;
-- Finds waiting jobs whose time is over: no attempt may start after ends_at. It is expires_at or the deadline,
-- whichever comes first; after the first attempt has started, the deadline; and '-infinity' once a cancel is requested.
CREATE INDEX job_ends ON rowlock.job (ends_at) WHERE ends_at IS NOT NULL
--;
-- Finds the jobs that run alone: waiting jobs whose workers died.
CREATE INDEX job_suspect ON rowlock.job (queue, priority, run_at) WHERE crashes > 0
--;
-- Finds cancel requests for running jobs, once a second: few, and only until their handlers have stopped.
CREATE INDEX job_cancel ON rowlock.job (id) WHERE cancel_requested_at IS NOT NULL
--;
-- Which jobs a worker holds: one row a claim that found any, written by the claim. A later claim removes it, once the
-- outcomes of its jobs are recorded. So `ids` also has jobs that have ended, or that another worker has by now: a job is held
-- if its own row names the worker. This replaces an index on job.worker: see job.
CREATE TABLE rowlock.holding (
    worker uuid NOT NULL,
    number bigint NOT NULL,
    ids    uuid[] NOT NULL,
    CONSTRAINT holding_pkey PRIMARY KEY (worker, number)
) WITH (
    autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false, toast.autovacuum_vacuum_cost_delay = 0, toast.vacuum_truncate = false
)
--;
-- Ids do not compress.
ALTER TABLE rowlock.holding ALTER COLUMN ids SET STORAGE EXTERNAL
--;
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
-- The dead letters, and other jobs that did not succeed, in the order of their ids: few among many.
-- It includes the columns that a count of them needs.
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
-- Every job, live or finished, with the state that users see. `scheduled` and `retrying` are derived, never stored:
-- nothing has to be promoted when their time comes. A result is visible as long as its task keeps it.
-- (By now(), a job would be scheduled in the very transaction that enqueues it.)
CREATE VIEW rowlock.jobs AS
SELECT id,
       CASE WHEN state = 'queued' AND errors > 0 THEN 'retrying'
            WHEN state = 'queued' AND attempt = 0 AND run_at > statement_timestamp() THEN 'scheduled'
            ELSE state
       END AS state,
       queue, task, priority, args_version, args, attempt, max_attempts, errors, crashes, unique_key, timeout,
       NULL::jsonb AS result, error, created_at, coalesce(due_at, run_at) AS run_at, started_at,
       NULL::timestamptz AS finished_at, worker, expires_at, deadline, cancel_requested_at, NULL::timestamptz AS discarded_at,
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
