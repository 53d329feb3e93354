-- Sum up how far time was moved in this schema: an interval, from its operations. Locks: none.
SELECT coalesce(sum((details ->> 'microseconds')::bigint), 0) * interval '1 microsecond' AS moved
  FROM rowlock.operation
 WHERE verb = 'move_time'
