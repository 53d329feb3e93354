-- Move time forward for the whole schema: subtract $1 (an interval) from every stored time.
--
-- Except these: operation.at, since the audit is of real time; worker.started_at and worker.expires_at, of leases that
-- are over, or the test's own; waiter.expires_at, of clients that wait now; and the statistics with their backlog, which
-- are of real time too. '-infinity' stays.
-- Ticks are deleted and inserted, sorted so that all are gone before the first comes back: an update row by row would
-- collide with neighbouring keys. Locks: every row. Scans whole tables: a test's tables are small.
WITH moved_job AS (
    UPDATE rowlock.job
       SET run_at = run_at - $1::interval, due_at = due_at - $1::interval, created_at = created_at - $1::interval,
           started_at = started_at - $1::interval, ends_at = ends_at - $1::interval, expires_at = expires_at - $1::interval, deadline = deadline - $1::interval,
           cancel_requested_at = cancel_requested_at - $1::interval
), moved_finished_job AS (
    UPDATE rowlock.finished_job
       SET run_at = run_at - $1::interval, created_at = created_at - $1::interval, started_at = started_at - $1::interval,
           finished_at = finished_at - $1::interval, discarded_at = discarded_at - $1::interval
), moved_attempt AS (
    UPDATE rowlock.attempt SET started_at = started_at - $1::interval, finished_at = finished_at - $1::interval
), moved_attempt_log AS (
    UPDATE rowlock.attempt_log SET started_at = started_at - $1::interval, created_at = created_at - $1::interval
), moved_progress AS (
    UPDATE rowlock.progress SET updated_at = updated_at - $1::interval
), moved_unique_key AS (
    UPDATE rowlock.unique_key SET expires_at = expires_at - $1::interval WHERE expires_at IS NOT NULL
), moved_idempotency_key AS (
    UPDATE rowlock.idempotency_key SET expires_at = expires_at - $1::interval
), moved_api_key AS (
    UPDATE rowlock.api_key
       SET created_at = created_at - $1::interval, expires_at = expires_at - $1::interval,
           revoked_at = revoked_at - $1::interval, last_used_at = last_used_at - $1::interval
), moved_api_session AS (
    UPDATE rowlock.api_session SET created_at = created_at - $1::interval, expires_at = expires_at - $1::interval
), moved_task AS (
    UPDATE rowlock.task
       SET updated_at = updated_at - $1::interval, results_removed_until = results_removed_until - $1::interval
), moved_queue AS (
    UPDATE rowlock.queue SET paused_at = paused_at - $1::interval, updated_at = updated_at - $1::interval
), moved_duty AS (
    UPDATE rowlock.duty SET next_run_at = next_run_at - $1::interval, set_at = set_at - $1::interval, held_at = held_at - $1::interval
), moved_schedule AS (
    UPDATE rowlock.schedule
       SET next_run_at = next_run_at - $1::interval, last_tick_at = last_tick_at - $1::interval,
           created_at = created_at - $1::interval, updated_at = updated_at - $1::interval,
           undeclared_at = undeclared_at - $1::interval
), old_tick AS (
    DELETE FROM rowlock.schedule_tick RETURNING schedule, tick_at, job_id, fired_at
)
INSERT INTO rowlock.schedule_tick (schedule, tick_at, job_id, fired_at)
SELECT schedule, tick_at - $1::interval, job_id, fired_at - $1::interval
  FROM old_tick
 ORDER BY tick_at, schedule
