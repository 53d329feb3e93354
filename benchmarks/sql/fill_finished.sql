-- Finished jobs, evenly over a time. $1 since   $2 until   $3 how many bigint
INSERT INTO rowlock.finished_job (
    id, run_at, created_at, started_at, finished_at, worker, max_attempts, attempt, errors, crashes, priority, state, queue,
    task, tags, error, args, result
)
SELECT (lpad(to_hex((date_part('epoch', run_at) * 1000)::bigint), 12, '0') || '7' || substr(hash, 1, 3) || 'a'
        || substr(hash, 4, 15))::uuid,
       run_at, run_at, CASE WHEN state IN ('succeeded', 'failed') THEN started_at END, finished_at,
       ('00000000-0000-7000-8000-00000000000' || n % 10)::uuid, 10,
       CASE state WHEN 'succeeded' THEN 1 WHEN 'failed' THEN 3 ELSE 0 END, CASE state WHEN 'failed' THEN 3 ELSE 0 END, 0,
       5, state, 'queue_' || kind % 12, 'task_' || kind,
       CASE WHEN n % 10 = 0 THEN ARRAY['customer-' || n % 1000] END,
       CASE state WHEN 'failed' THEN 'ConnectionError: host ' || n % 7 || ' does not answer' END,
       jsonb_build_object('recipient', 'user' || n || '@example.com', 'order', n),
       CASE state WHEN 'succeeded' THEN '{"sent": true}'::jsonb END
  FROM (
       SELECT n, hash, kind, state, finished_at, finished_at - took * interval '1 second' AS started_at,
              finished_at - (took + waited) * interval '1 second' AS run_at
         FROM (
              SELECT n, md5(n::text || $1::timestamptz::text) AS hash, floor(40 * power(random(), 2))::integer AS kind,
                     CASE WHEN n * 7919 % 1000 < 970 THEN 'succeeded' WHEN n * 7919 % 1000 < 985 THEN 'failed'
                          WHEN n * 7919 % 1000 < 990 THEN 'cancelled' ELSE 'expired' END AS state,
                     $1::timestamptz + n * (($2::timestamptz - $1::timestamptz) / ($3::bigint + 1)) AS finished_at,
                     0.05 * exp(2 * random() + 2 * random()) AS took, 0.01 * exp(4 * random()) AS waited
                FROM generate_series(1, $3::bigint) AS n
              ) AS drawn
       ) AS timed
