-- The live workers, oldest first, and how many jobs each runs or has claimed ahead.
--
-- $1 only this worker, or null for all. Index: worker_pkey, holding_pkey, job_pkey. Takes no lock.
SELECT w.id, w.hostname, w.pid, w.version, w.queues, w.concurrency, w.started_at, w.expires_at, w.loop_delay_ms,
       w.memory_bytes, w.state,
       (SELECT count(*) FROM rowlock.job
         WHERE job.id = ANY(ARRAY({{held_ids}} WHERE holding.worker = w.id)) AND job.worker = w.id) AS running
  FROM rowlock.worker AS w
 WHERE w.expires_at > clock_timestamp()
   AND w.followed_by IS NULL
   AND ($1::uuid IS NULL OR w.id = $1::uuid)
 ORDER BY w.id
