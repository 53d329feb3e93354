-- Samples of a backlog that went up and down. $1 lengths of slots integer[]   $2 for how long each is kept interval[]
INSERT INTO rowlock.backlog (at, taken_at, oldest_due_at, step, queue, waiting, scheduled, running)
SELECT at, at, at - interval '30 seconds', slot.step, queue, 5000 + 4000 * sin(extract(epoch FROM at) / 7200), 10, 50
  FROM unnest($1::integer[], $2::interval[]) AS slot (step, kept)
 CROSS JOIN LATERAL generate_series(
       date_bin(slot.step * interval '1 second', now() - least(slot.kept, interval '30 days'), 'epoch'), now(),
       slot.step * interval '1 second'
       ) AS at
 CROSS JOIN (SELECT '*' AS queue UNION ALL SELECT 'queue_' || n FROM generate_series(0, 11) AS n) AS queues
    ON CONFLICT DO NOTHING
