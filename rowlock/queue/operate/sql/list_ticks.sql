-- The last ticks of the schedule $1 that fired, newest first, with the states of their jobs (null: retention has removed
-- the job). $2 limit. Index: schedule_tick_pkey, job_pkey, finished_job_id.
SELECT tick.tick_at, tick.fired_at, tick.job_id,
       (SELECT job.state FROM rowlock.find_job(tick.job_id) AS job LIMIT 1) AS state
  FROM rowlock.schedule_tick AS tick
 WHERE tick.schedule = $1::text
 ORDER BY tick.tick_at DESC
 LIMIT $2
