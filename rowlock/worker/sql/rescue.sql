-- Rescue the jobs of workers whose lease has run out, or whose row is gone: running → queued, or → failed for a job whose
-- worker crashed $1 times, the last time alone: while its worker had no other job. A crash does not count as an error of the
-- job: it is counted apart, for all jobs that the worker had. A worker that ended its lease has not crashed: the jobs that
-- it still has never began, and count as released. After a crash it is unknown whether the handler began: the attempt counts
-- as started. A task's own max_crashes is strict: it also counts crashes beside other jobs.
-- A lease never ends later than its length from now, unless the server's clock has gone back: then it is cut to that.
-- A live worker renews it in time.
-- For four seconds after an outage of the database (hold_rescues.sql) it rescues nothing, for every caller: the workers come
-- back, and release their jobs.
--
-- $1 max_crashes for tasks without their own   $2 how many jobs at most   $3 whether to look for jobs of workers without a row
--
-- Returns one row per rescued job: id, task, queue, worker, attempt, and whether it is now in quarantine (failed).
-- Index: holding_pkey, for the expired workers only, job_pkey, for what they held, and task_pkey.
-- Without an order: to get one cheaply, the planner would walk a whole index of a long queue, every second.
-- Locks: the rescued rows, skipping rows that other sessions have locked.
WITH cut AS (
    -- seam: lease cut
    UPDATE rowlock.worker SET expires_at = clock_timestamp() + lease WHERE expires_at > clock_timestamp() + lease
), expired AS MATERIALIZED (
    SELECT id FROM rowlock.worker WHERE expires_at < now()
), gone AS MATERIALIZED (
    SELECT expired.id FROM expired  -- seam: expired leases
     UNION ALL
    SELECT DISTINCT holding.worker
      FROM rowlock.holding
     WHERE $3::boolean AND NOT EXISTS (SELECT FROM rowlock.worker WHERE worker.id = holding.worker)
), held AS MATERIALIZED (
    SELECT id, task, queue, worker, attempt, crashes, started_at,
           NOT EXISTS (
               -- seam: lease given up
               SELECT FROM rowlock.worker WHERE worker.id = job.worker AND worker.expires_at = '-infinity'
           ) AS is_crash,
           CASE WHEN (SELECT own.max_crashes FROM rowlock.task AS own WHERE own.name = job.task) IS NOT NULL
                THEN crashes + 1 >= (SELECT own.max_crashes FROM rowlock.task AS own WHERE own.name = job.task)
                WHEN crashes + 1 < $1 THEN false  -- seam: crashes left
                WHEN $1 = 1 THEN true
                ELSE (SELECT beside.id
                        FROM rowlock.job AS beside
                       WHERE beside.id = ANY(ARRAY({{held_ids}} WHERE holding.worker = job.worker))
                         AND beside.worker = job.worker AND beside.id <> job.id
                       LIMIT 1) IS NULL  -- seam: alone
           END AS is_last_chance
      FROM rowlock.job
     WHERE id = ANY(ARRAY({{held_ids}} WHERE holding.worker = ANY(ARRAY(SELECT gone.id FROM gone))))
       AND worker = ANY(ARRAY(SELECT gone.id FROM gone))
       AND NOT EXISTS (
           SELECT FROM rowlock.duty
            -- seam: outage
            WHERE name = 'rescue' AND held_at BETWEEN clock_timestamp() - interval '4 seconds' AND clock_timestamp()
       )
     LIMIT $2
       FOR UPDATE SKIP LOCKED
), orphan AS MATERIALIZED (
    SELECT id, task, queue, worker, attempt, crashes, started_at, is_crash, is_crash AND is_last_chance AS is_quarantined
      FROM held
), requeued AS (
    UPDATE rowlock.job
       SET state = 'queued', worker = NULL, started_at = NULL, run_at = clock_timestamp(),  -- seam: rescued
           -- seam: counted crash
           crashes = least(crashes, 32766) + CASE WHEN id = ANY(ARRAY(SELECT orphan.id FROM orphan WHERE orphan.is_crash)) THEN 1 ELSE 0 END,
           ends_at = CASE WHEN cancel_requested_at IS NOT NULL THEN '-infinity'
                          WHEN NOT id = ANY(ARRAY(SELECT orphan.id FROM orphan WHERE orphan.is_crash)) THEN ends_at
                          ELSE deadline END
     WHERE id = ANY(ARRAY(SELECT orphan.id FROM orphan WHERE NOT orphan.is_quarantined))
       AND worker IS NOT NULL
), quarantined AS (
    DELETE FROM rowlock.job
     WHERE id = ANY(ARRAY(SELECT orphan.id FROM orphan WHERE orphan.is_quarantined))
       AND worker IS NOT NULL
    RETURNING {{archived_columns}}, started_at, worker, errors, crashes
), freed AS (
    DELETE FROM rowlock.unique_key
     WHERE key = ANY(ARRAY(SELECT unique_key FROM quarantined WHERE unique_key IS NOT NULL))
       AND job_id = ANY(ARRAY(SELECT quarantined.id FROM quarantined))
       AND expires_at IS NULL
       AND NOT until_start
), kept AS (
    INSERT INTO rowlock.finished_job (
        {{archived_columns}}, started_at, finished_at, worker, errors, crashes, state, error
    )
    SELECT {{archived_columns}},
           started_at, now(), worker, errors, least(crashes, 32766) + 1, 'failed',
           format('quarantined: %s workers in a row died while they ran this job', crashes + 1)
      FROM quarantined
), told AS (
    INSERT INTO rowlock.attempt ({{attempt_columns}})
    SELECT id, attempt, CASE WHEN is_crash THEN 'crashed' ELSE 'released' END, queue, task, worker, started_at, now(), NULL,
           CASE WHEN is_crash THEN 'the worker stopped renewing its lease: it died, froze or lost the database' END, NULL
      FROM orphan
)
SELECT id, task, queue, worker, attempt, is_quarantined
  FROM orphan
