-- Look once at everything that an idle worker would otherwise ask for one by one: whether there is anything to do at all.
--
-- $1 the worker   $2 its queues text[]   $3 the tasks whose schedules it fires text[]   $4 how far it looks ahead for ticks interval
-- $5 the duties that it can do text[]   $6 of 'statistics' and 'backlog', those that were not due since it last worked text[]
-- $7 the number of crashes from which a job runs alone
--
-- Returns whether a cancel of one of its jobs is requested, operators' orders for it as one text (null if its own row is
-- gone), whether a job that runs alone may be due, the due duties, and whether a tick is due soon.
-- Some duties are due only if there is something to do, and 'statistics' and 'backlog' for a worker that has worked; but
-- each after a minute in any case: so 'overdue' need not look past running jobs whose time was over before that. A duty
-- whose set_at lies in the future is due as well: the server's clock has gone back.
--
-- Index: job_cancel, job_suspect and job_ends, which are small; worker_pkey, queue_pkey, schedule_next_run_at. Reads all of
-- worker and of duty, which are small. Takes no lock.
WITH waiting AS MATERIALIZED (
    SELECT EXISTS (
               SELECT FROM rowlock.job
                WHERE crashes > 0 AND crashes >= $7::integer AND worker IS NULL AND run_at <= now() AND queue = ANY($2::text[])
           ) AS has_suspects
)
SELECT EXISTS (
           SELECT FROM rowlock.job WHERE cancel_requested_at IS NOT NULL AND worker = $1::uuid  -- seam: cancel requests
       ) AS has_cancels,
       (SELECT concat_ws(' ', own.state, own.concurrency, (
                   SELECT string_agg(concat_ws(':', name, paused_at IS NOT NULL, concurrency), ' ' ORDER BY name)
                     FROM rowlock.queue
                    WHERE name = ANY($2::text[]) AND (paused_at IS NOT NULL OR concurrency IS NOT NULL)
               ))
          FROM rowlock.worker AS own
         WHERE own.id = $1::uuid) AS orders,
       waiting.has_suspects,
       ARRAY(
           SELECT name
             FROM rowlock.duty
            WHERE name = ANY($5::text[])
              AND (next_run_at <= now() OR set_at > clock_timestamp())
              AND (next_run_at <= now() - interval '1 minute' OR set_at > clock_timestamp() OR CASE name
                  WHEN 'rescue' THEN EXISTS (
                      SELECT FROM rowlock.worker WHERE expires_at < now() OR expires_at > clock_timestamp() + lease
                  )
                  WHEN 'overdue' THEN EXISTS (
                      SELECT FROM rowlock.job
                       WHERE ends_at BETWEEN now() - interval '1 minute' AND now() AND state <> 'running'
                  ) OR EXISTS (
                      SELECT FROM rowlock.job WHERE ends_at = '-infinity' AND state <> 'running'
                  )
                  WHEN 'suspects' THEN waiting.has_suspects
                  WHEN 'statistics' THEN name = ANY($6::text[])
                  WHEN 'backlog' THEN name = ANY($6::text[])
                  ELSE true
                  END)
       ) AS duties,
       EXISTS (
           SELECT FROM rowlock.schedule
            WHERE next_run_at <= now() + $4::interval AND NOT is_paused AND task = ANY($3::text[])
       ) AS has_ticks
  FROM waiting
