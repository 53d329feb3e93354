-- Store the progress of running attempts. Fenced: skips attempts that do not run any more.
--
-- $1 the worker   $2 ids uuid[]   $3 attempts integer[]   $4 fractions float8[]   $5 messages text[]
--
-- Index: job_pkey, progress_pkey. Locks: the rows of progress, in the order of ids; the jobs' rows are only read. So an
-- attempt that ends meanwhile may still write its last report, but never over the report of a newer attempt.
WITH alive AS MATERIALIZED (
    SELECT id, attempt FROM rowlock.job WHERE id = ANY($2::uuid[]) AND worker = $1
)
INSERT INTO rowlock.progress AS known (job_id, attempt, fraction, message, updated_at)
SELECT given.id, given.attempt, given.fraction, given.message, clock_timestamp()
  FROM unnest($2::uuid[], $3::integer[], $4::float8[], $5::text[]) AS given (id, attempt, fraction, message)
 WHERE (given.id, given.attempt) IN (SELECT alive.id, alive.attempt FROM alive)
 ORDER BY given.id
ON CONFLICT (job_id) DO UPDATE
   SET attempt = excluded.attempt, fraction = excluded.fraction, message = excluded.message,
       updated_at = excluded.updated_at
 WHERE known.attempt <= excluded.attempt
