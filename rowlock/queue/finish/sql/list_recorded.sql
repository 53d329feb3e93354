-- Of attempts whose outcomes were refused at a second try: those that the first try recorded, though its answer was lost.
--
-- $1 the worker   $2 ids uuid[]   $3 attempts integer[]   $4 a time before which none of them ended
-- Excludes outcomes that a rescue recorded (`crashed`): they are not this worker's own.
-- Index: finished_job_id and attempt_job_id of the partitions from $4 on, window by window. Locks: none.
SELECT id FROM rowlock.recorded_among($1::uuid, $2::uuid[], $3::integer[], $4::timestamptz) AS recorded (id)
