-- Save an attempt's checkpoint for the next attempt. Fenced: only while the attempt runs.
--
-- $1 the worker   $2 the job   $3 the attempt   $4 the data as JSON text
--
-- Returns whether it was saved. Index: job_pkey, progress_pkey. Locks: the job's row against changes until the commit, so that
-- no newer attempt can have begun. The row's `attempt` and `updated_at` belong to its progress: a checkpoint does not change
-- them.
WITH alive AS MATERIALIZED (
    SELECT id FROM rowlock.job WHERE id = $2::uuid AND worker = $1::uuid AND attempt = $3::integer FOR SHARE
), saved AS (
    INSERT INTO rowlock.progress (job_id, attempt, checkpoint, updated_at)
    SELECT id, $3::integer, $4::text::jsonb, clock_timestamp() FROM alive
    ON CONFLICT (job_id) DO UPDATE
       SET checkpoint = excluded.checkpoint  -- seam: checkpoint
    RETURNING job_id
)
SELECT count(*) = 1 AS is_saved FROM saved
