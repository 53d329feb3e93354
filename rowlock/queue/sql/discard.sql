-- Put dead letters aside: they stay failed, and are listed as dead letters no more. Run it with record_operation.sql.
--
-- $1 ids uuid[]
--
-- Returns the ids of those that were not discarded yet. Index: finished_job_id of each partition.
-- Locks: the rows that it updates, in the order of their ids.
WITH target AS MATERIALIZED (
    SELECT id
      FROM rowlock.finished_job
     WHERE id = ANY($1::uuid[]) AND state = 'failed' AND discarded_at IS NULL
     ORDER BY id
       FOR UPDATE
), done AS (
    UPDATE rowlock.finished_job
       SET discarded_at = clock_timestamp()
     WHERE id = ANY(ARRAY(SELECT target.id FROM target)) AND discarded_at IS NULL
    RETURNING id
)
SELECT id FROM done
