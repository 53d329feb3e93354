-- The retention of each queue that has its own, the row '*' first. No parameters.
SELECT name, keep_succeeded, keep_failed, keep_cancelled, keep_expired
  FROM rowlock.queue
 WHERE coalesce(keep_succeeded, keep_failed, keep_cancelled, keep_expired) IS NOT NULL
 ORDER BY name <> '*', name
