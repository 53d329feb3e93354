-- Store the jobs for which one application waits from now on, and remove others. Repeating it renews the stored ones.
--
-- $1 the application's listener   $2 jobs to wait for uuid[]   $3 the longest wait   $4 jobs to stop waiting for uuid[]
--
-- Index: waiter_pkey. Locks: the rows that it writes, all of them this listener's own.
WITH gone AS (
    DELETE FROM rowlock.waiter WHERE job_id = ANY($4::uuid[]) AND listener = $1::uuid
)
INSERT INTO rowlock.waiter (job_id, listener, expires_at)
SELECT job_id, $1::uuid, clock_timestamp() + $3::interval FROM unnest($2::uuid[]) AS given (job_id)
ON CONFLICT (job_id, listener) DO UPDATE SET expires_at = excluded.expires_at
