-- Write down what this worker's code says of its tasks. $1 names   $2 queues   $3 priorities   $4 max_attempts
INSERT INTO rowlock.task AS known (name, queue, priority, max_attempts)
SELECT name, queue, priority, max_attempts
  FROM unnest($1::text[], $2::text[], $3::smallint[], $4::integer[]) AS given (name, queue, priority, max_attempts)
 ORDER BY name
ON CONFLICT (name) DO UPDATE
   SET queue = excluded.queue, priority = excluded.priority, max_attempts = excluded.max_attempts,
       updated_at = clock_timestamp()
 WHERE (known.queue, known.priority, known.max_attempts)
       IS DISTINCT FROM (excluded.queue, excluded.priority, excluded.max_attempts)
