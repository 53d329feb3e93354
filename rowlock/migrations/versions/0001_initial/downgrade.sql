DROP TABLE rowlock.operation
--;
DROP TABLE rowlock.schedule_tick, rowlock.schedule
--;
DROP VIEW rowlock.jobs
--;
DROP FUNCTION rowlock.create_partitions(integer)
--;
DROP FUNCTION rowlock.enqueue(text, jsonb, text, integer, interval, timestamptz, integer, interval, text, uuid, timestamptz,
                              timestamptz, text, interval, boolean, text)
--;
DROP FUNCTION rowlock.check_unique(text, text, interval, boolean, text)
--;
DROP FUNCTION rowlock.checked_options(text, jsonb, text, integer, interval, timestamptz, integer, interval, text,
                                      timestamptz, timestamptz)
--;
DROP FUNCTION rowlock.lock_waiting(uuid)
--;
DROP FUNCTION rowlock.take_key(text, uuid, boolean, interval)
--;
DROP FUNCTION rowlock.leave_trace()
--;
DROP FUNCTION rowlock.uuid7()
--;
DROP TABLE rowlock.waiter, rowlock.progress, rowlock.attempt_log, rowlock.duty, rowlock.idle_worker, rowlock.worker,
    rowlock.attempt, rowlock.finished_job, rowlock.queue, rowlock.task, rowlock.idempotency_key, rowlock.unique_key,
    rowlock.job
