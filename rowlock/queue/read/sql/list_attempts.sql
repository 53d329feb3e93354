-- The attempts of one job that did not succeed, in their order. $1 the job's id. Index: attempt_job_id.
SELECT {{attempt_columns}}
  FROM rowlock.attempts_of($1::uuid)
 ORDER BY attempt
