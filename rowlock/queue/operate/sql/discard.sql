-- Discard dead letters: they stay failed, but lists of dead letters omit them. Run it with record_operation.sql.
--
-- $1 ids uuid[]   $2 when they ended timestamptz[]: run it under force_custom_plan, so that other partitions are not locked
--
-- Returns the ids of those that were not discarded yet. Index: finished_job_id of each of these partitions.
-- Locks: the rows that it updates, in the order of their ids.
WITH target AS MATERIALIZED (
    SELECT id
      FROM rowlock.finished_job
     WHERE id = ANY($1::uuid[]) AND finished_at = ANY($2::timestamptz[]) AND state = 'failed' AND discarded_at IS NULL
     ORDER BY id
       FOR UPDATE
), done AS (
    UPDATE rowlock.finished_job
       SET discarded_at = clock_timestamp()
     WHERE id = ANY(ARRAY(SELECT target.id FROM target)) AND finished_at = ANY($2::timestamptz[]) AND discarded_at IS NULL
    RETURNING id
)
SELECT id FROM done  -- seam: discarded
