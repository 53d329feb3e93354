-- Remove the progress of jobs that are neither live nor in the archive. One batch, in the order of ids.
--
-- $1 only ids above this one uuid   $2 how many rows to read
--
-- Returns the last id that it read, null at the end, and how many rows it removed. Looks up only progress that is older than
-- the archive's oldest day: newer progress belongs to a live job, or to one that ended later.
--
-- Index: progress_pkey, job_pkey; finished_job_id of each partition, window by window. Locks: the removed rows.
WITH oldest AS MATERIALIZED (
    SELECT min(to_date(right(pg_class.relname, 8), 'YYYYMMDD'))::timestamp AT TIME ZONE 'UTC' AS day
      FROM pg_inherits
      JOIN pg_class ON pg_class.oid = pg_inherits.inhrelid
     WHERE pg_inherits.inhparent = 'rowlock.finished_job'::regclass AND pg_class.relname ~ '_[0-9]{8}$'
), looked AS MATERIALIZED (
    SELECT job_id, updated_at FROM rowlock.progress
     WHERE job_id > $1::uuid
     ORDER BY job_id
     LIMIT $2::integer
), old AS MATERIALIZED (
    SELECT job_id
      FROM looked
     WHERE updated_at < (SELECT day FROM oldest)
       AND NOT EXISTS (SELECT FROM rowlock.job WHERE job.id = looked.job_id)
), kept AS MATERIALIZED (
    SELECT id FROM rowlock.finished_among(ARRAY(SELECT job_id FROM old)) AS finished (id)
), removed AS (
    DELETE FROM rowlock.progress
     WHERE job_id = ANY(ARRAY(SELECT job_id FROM old WHERE NOT job_id = ANY(ARRAY(SELECT id FROM kept))))
    RETURNING job_id
)
SELECT (SELECT job_id FROM looked ORDER BY job_id DESC LIMIT 1) AS last, (SELECT count(*) FROM removed) AS removed
