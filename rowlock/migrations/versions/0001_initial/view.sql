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
       NULL::jsonb AS result, error, created_at, run_at, started_at, NULL::timestamptz AS finished_at, worker,
       expires_at, deadline, cancel_requested_at, NULL::timestamptz AS discarded_at,
       tags, metadata, trace
  FROM rowlock.job
 UNION ALL
SELECT id, state, queue, task, priority, args_version, args, attempt, max_attempts, errors, crashes, unique_key,
       timeout,
       CASE WHEN result IS NOT NULL
             AND finished_at < now() - (SELECT result_ttl FROM rowlock.task WHERE task.name = finished_job.task) THEN NULL
            ELSE result
       END AS result,
       error, created_at, run_at, started_at, finished_at, worker,
       NULL, NULL, NULL, discarded_at, tags, metadata, trace
  FROM rowlock.finished_job
