-- Store the lines that one attempt logged. Also for an attempt that has lost its job, to show what it did.
--
-- $1 the job   $2 the attempt   $3 seconds since it began   $4 the lines, a JSON array
INSERT INTO rowlock.attempt_log (job_id, attempt, started_at, created_at, lines)
VALUES ($1::uuid, $2::integer, now() - $3::float8 * interval '1 second', now(), $4::text::jsonb)
