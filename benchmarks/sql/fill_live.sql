-- Live jobs, of which one in a hundred falls due later and one in a thousand runs. $1 how many bigint
INSERT INTO rowlock.job (id, run_at, created_at, started_at, worker, attempt, state, queue, task, priority, tags,
                         args)
SELECT (lpad(to_hex((date_part('epoch', created_at) * 1000)::bigint), 12, '0') || '7' || substr(hash, 1, 3) || 'b'
        || substr(hash, 4, 15))::uuid,
       created_at + CASE n % 100 WHEN 0 THEN interval '1 day' ELSE '0' END, created_at,
       CASE n % 1000 WHEN 1 THEN now() END,
       CASE n % 1000 WHEN 1 THEN ('00000000-0000-7000-8000-00000000000' || n / 1000 % 10)::uuid END,
       CASE n % 1000 WHEN 1 THEN 1 ELSE 0 END, CASE n % 1000 WHEN 1 THEN 'running' ELSE 'queued' END,
       'queue_' || kind % 12, 'task_' || kind, 3 + kind % 4, CASE WHEN n % 10 = 0 THEN ARRAY['customer-' || n % 1000] END,
       jsonb_build_object('recipient', 'user' || n || '@example.com', 'order', n)
  FROM (
       SELECT n, md5(n::text) AS hash, floor(40 * power(random(), 2))::integer AS kind,
              now() - interval '1 hour' + n * (interval '1 hour' / $1::bigint) AS created_at
         FROM generate_series(1, $1::bigint) AS n
       ) AS drawn
