-- The checkpoint that an attempt of this job saved last. $1 the job. Index: progress_pkey.
SELECT checkpoint FROM rowlock.progress WHERE job_id = $1::uuid
