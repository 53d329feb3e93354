-- The tasks that are known, and ten workers that live for a day; a few tasks have most of the jobs.
INSERT INTO rowlock.task (name, queue, priority, max_attempts)
SELECT 'task_' || n, 'queue_' || n % 12, 5, 10 FROM generate_series(0, 39) AS n
    ON CONFLICT DO NOTHING;

INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, expires_at)
SELECT ('00000000-0000-7000-8000-00000000000' || n)::uuid, 'host-' || n, 100 + n, '0.1.0',
       (SELECT array_agg('queue_' || q) FROM generate_series(0, 11) AS q),
       (SELECT array_agg('task_' || t) FROM generate_series(0, 39) AS t), 100, now() + interval '1 day'
  FROM generate_series(0, 9) AS n
    ON CONFLICT DO NOTHING;
