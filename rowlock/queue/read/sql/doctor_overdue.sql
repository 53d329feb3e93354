-- The days of the archive that retention should have removed or rewritten some time ago. $1 how long ago interval
-- A setting that an operator has changed since then does not count yet. Reads the catalog, the few rows of rowlock.queue, and the default
-- partition, which is empty unless no worker ran for days.
SELECT archive, day
  FROM rowlock.archive_day
 WHERE NOT is_empty
   AND rowlock.must_be_removed(archive, day, clock_timestamp() - $1::interval) IS NOT NULL
   AND rowlock.must_be_removed(archive, day, clock_timestamp() - $1::interval) IS DISTINCT FROM removed
   AND rowlock.must_be_removed(archive, day, clock_timestamp()) IS DISTINCT FROM removed
   AND NOT EXISTS (SELECT FROM rowlock.queue WHERE updated_at > clock_timestamp() - $1::interval)
 UNION
SELECT 'finished_job', spare.day
  FROM (
       SELECT (finished_at AT TIME ZONE 'UTC')::date AS day, state, queue FROM rowlock.finished_job_default GROUP BY 1, 2, 3
       ) AS spare
 CROSS JOIN LATERAL rowlock.past_retention(
       (spare.day + 1)::timestamp AT TIME ZONE 'UTC', clock_timestamp() - $1::interval
       ) AS past
 WHERE past.state = spare.state
   AND past.is_past <> (spare.queue = ANY(past.exceptions))
   AND NOT EXISTS (SELECT FROM rowlock.queue WHERE updated_at > clock_timestamp() - $1::interval)
 ORDER BY day, archive
