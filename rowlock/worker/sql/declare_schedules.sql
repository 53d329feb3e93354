-- Store the schedules that this worker's code declares. A declaration that has changed since a worker last stored it
-- overwrites the schedule, except its pause. A declaration that has not changed leaves the schedule as it is, with all its
-- users' edits. A schedule that a user created under the same name stays as it is.
--
-- $1 names   $2 tasks   $3 queues   $4 priorities   $5 max_attempts   $6 args (JSON text[])   $7 crons   $8 timezones
-- $9 misfires   $10 overlaps   $11 jitters   $12 versions of args   $13 next_run_ats: the next ticks
-- $14 declarations text[]
--
-- Returns the names of the schedules that users created. A schedule whose times do not change keeps its next_run_at: due
-- ticks still fire. Index: schedule_pkey. Locks: the rows that change, by name.
WITH given AS MATERIALIZED (
    SELECT name, task, queue, priority, max_attempts, args, cron, timezone, misfire, overlap, jitter, args_version,
           next_run_at, declaration
      FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::integer[], $6::text[]::jsonb[], $7::text[],
                  $8::text[], $9::text[], $10::text[], $11::interval[], $12::smallint[], $13::timestamptz[],
                  $14::text[])
           AS given (name, task, queue, priority, max_attempts, args, cron, timezone, misfire, overlap, jitter,
                     args_version, next_run_at, declaration)
), written AS (
    INSERT INTO rowlock.schedule AS s
           (name, task, queue, priority, max_attempts, args, cron, timezone, misfire, overlap, jitter, args_version,
            next_run_at, declaration, origin)
    SELECT name, task, queue, priority, max_attempts, args, cron, timezone, misfire, overlap, jitter, args_version,
           next_run_at, declaration, 'code'
      FROM given
     ORDER BY name
    ON CONFLICT (name) DO UPDATE
       SET task = excluded.task, queue = excluded.queue, priority = excluded.priority,
           max_attempts = excluded.max_attempts, args = excluded.args, cron = excluded.cron,
           timezone = excluded.timezone, misfire = excluded.misfire, overlap = excluded.overlap,
           jitter = excluded.jitter, args_version = excluded.args_version,
           declaration = excluded.declaration, updated_at = clock_timestamp(),
           next_run_at = CASE WHEN (s.cron, s.timezone) = (excluded.cron, excluded.timezone) THEN s.next_run_at
                              ELSE excluded.next_run_at
                         END
     WHERE s.origin = 'code' AND s.declaration IS DISTINCT FROM excluded.declaration
)
SELECT s.name FROM rowlock.schedule AS s JOIN given ON given.name = s.name WHERE s.origin <> 'code'
