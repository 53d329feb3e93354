-- Remove unused unique keys: their period is over, or they were reserved until the start of a job that is gone.
--
-- $1 how many at most. Returns how many it removed.
--
-- Index: unique_key_expires_at, unique_key_until_start. Locks: the removed rows, skipping rows that other sessions have
-- locked. Checks each row again once it is locked: another job may have taken the key meanwhile.
WITH found AS MATERIALIZED (
    (
    SELECT key, job_id FROM rowlock.unique_key WHERE expires_at <= now() LIMIT $1::integer
    )
     UNION ALL
    (
    SELECT key, job_id FROM rowlock.unique_key
     WHERE until_start
       AND NOT EXISTS (SELECT FROM rowlock.job WHERE job.id = unique_key.job_id)
     LIMIT $1::integer
    )
     LIMIT $1::integer
), locked AS MATERIALIZED (
    SELECT held.key
      FROM found
      JOIN rowlock.unique_key AS held ON held.key = found.key AND held.job_id = found.job_id
       FOR UPDATE OF held SKIP LOCKED
), gone AS (
    DELETE FROM rowlock.unique_key WHERE key = ANY(ARRAY(SELECT key FROM locked))
    RETURNING key
)
SELECT count(*) AS forgotten FROM gone
