-- How far time was moved in this schema so far: an interval, which its operations tell. Locks: none.
SELECT coalesce(sum((details ->> 'microseconds')::bigint), 0) * interval '1 microsecond' AS moved
  FROM rowlock.operation
 WHERE verb = 'move_time'
