-- The attempts of the jobs that failed within a time: three each. $1 since   $2 until
INSERT INTO rowlock.attempt (
    job_id, attempt, outcome, queue, task, worker, started_at, finished_at, error_type, message, traceback
)
SELECT id, number, 'error', queue, task, worker, started_at - (3 - number) * interval '10 seconds',
       finished_at - (3 - number) * interval '10 seconds', 'ConnectionError', error,
       'Traceback (most recent call last):' || repeat(E'\n  File "tasks.py", line 1, in send', 10)
  FROM rowlock.finished_job
 CROSS JOIN generate_series(1, 3) AS number
 WHERE state = 'failed' AND state <> 'succeeded' AND finished_at >= $1::timestamptz AND finished_at < $2::timestamptz
