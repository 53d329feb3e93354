DROP TABLE rowlock.api_session, rowlock.api_key
--;
DROP TABLE rowlock.operation
--;
DROP TABLE rowlock.schedule_tick, rowlock.schedule
--;
DROP FUNCTION rowlock.find_job(uuid), rowlock.attempts_of(uuid), rowlock.logs_of(uuid), rowlock.archive_windows(text),
    rowlock.finished_among(uuid[]), rowlock.finished_between(uuid, uuid, integer),
    rowlock.recorded_among(uuid, uuid[], integer[], timestamptz),
    rowlock.lock_archive(timestamptz, timestamptz), rowlock.last_end_to_come()
--;
DROP VIEW rowlock.jobs, rowlock.archive_day
--;
DROP FUNCTION rowlock.drop_day(text, date), rowlock.retain_day(text, date), rowlock.retain_default(text, integer), rowlock.what_stays(text, date),
    rowlock.must_be_removed(text, date, timestamptz), rowlock.past_retention(timestamptz, timestamptz)
--;
DROP FUNCTION rowlock.create_partitions(integer), rowlock.missing_partitions(integer), rowlock.create_partition(text, date)
--;
DROP FUNCTION rowlock.enqueue
--;
DROP FUNCTION rowlock.check_tags(text[], text), rowlock.check_metadata(jsonb)
--;
DROP FUNCTION rowlock.check_unique(text, text, interval, boolean, text)
--;
DROP FUNCTION rowlock.checked_options(text, jsonb, text, integer, interval, timestamptz, integer, interval, text,
                                      timestamptz, timestamptz, integer)
--;
DROP FUNCTION rowlock.lock_waiting(uuid)
--;
DROP FUNCTION rowlock.take_key(text, uuid, boolean, interval)
--;
DROP FUNCTION rowlock.leave_trace(), rowlock.error_kind(text), rowlock.is_too_deep(jsonb)
--;
DROP FUNCTION rowlock.uuid7(), rowlock.begin_lease
--;
DROP TABLE rowlock.statistic_mark, rowlock.backlog, rowlock.statistic
--;
DROP TABLE rowlock.waiter, rowlock.progress, rowlock.attempt_log, rowlock.duty, rowlock.idle_worker, rowlock.worker,
    rowlock.attempt, rowlock.finished_job, rowlock.queue, rowlock.task, rowlock.idempotency_key, rowlock.unique_key,
    rowlock.holding, rowlock.job
--;
DROP FUNCTION rowlock.is_metadata(jsonb)
