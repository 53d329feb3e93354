-- The archive in windows of at most 30 partitions, newest first; together they cover all times that drivers can read. A
-- statement that bounds finished_at by constants, or by parameters under plan_cache_mode = force_custom_plan, locks only
-- the partitions of its window and their indexes. Without bounds it locks those of every day, and a few dozen such
-- statements fill the lock table.
CREATE FUNCTION rowlock.archive_windows(archive text) RETURNS TABLE (low timestamptz, high timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN number = max(number) OVER () THEN '0002-01-01 00:00+00' ELSE begins END,
           coalesce(lag(begins) OVER (ORDER BY number), '9999-12-30 00:00+00')
      FROM (
           SELECT number, min(day)::timestamp AT TIME ZONE 'UTC' AS begins
             FROM (
                  SELECT to_date(right(pg_class.relname, 8), 'YYYYMMDD') AS day,
                         row_number() OVER (ORDER BY pg_class.relname DESC) / 30 AS number
                    FROM pg_inherits
                    JOIN pg_class ON pg_class.oid = pg_inherits.inhrelid
                   WHERE pg_inherits.inhparent = to_regclass('rowlock.' || archive) AND pg_class.relname ~ '_[0-9]{8}$'
                   UNION ALL
                  SELECT NULL, 0
                  ) AS days
            GROUP BY number
           ) AS parts
     ORDER BY number
$$
--;
-- One job, live or finished, as in the view: one row or none.
-- Most jobs end within days of their creation, which their ids contain: search these days first. Then every window, since
-- an id may not be a UUIDv7, clocks may be wrong, and jobs may be delayed; the end of each block releases its locks. Finally
-- the live jobs again: the job may have been retried meanwhile.
-- A live job has no finished_at. With IS NULL alone, PostgreSQL would lock all of the archive before excluding it.
-- VOLATILE, so that each query has a snapshot of its own, taken after it has its locks.
CREATE FUNCTION rowlock.find_job(job_id uuid) RETURNS SETOF rowlock.jobs LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = 'force_custom_plan' AS $$
DECLARE
    made timestamptz := to_timestamp(('x' || left(translate(job_id::text, '-', ''), 12))::bit(48)::bigint / 1000.0);
    low timestamptz;
    high timestamptz;
    found_job rowlock.jobs;
BEGIN
    RETURN QUERY SELECT job.* FROM rowlock.jobs AS job
                  WHERE job.id = job_id AND (job.finished_at IS NULL OR job.finished_at < '-infinity');
    IF FOUND THEN
        RETURN;
    END IF;
    low := made - interval '1 day';
    high := made + interval '3 days';
    RETURN QUERY SELECT job.* FROM rowlock.jobs AS job
                  WHERE job.id = job_id AND job.finished_at >= low AND job.finished_at < high LIMIT 1;
    IF FOUND THEN
        RETURN;
    END IF;
    FOR low, high IN SELECT span.low, span.high FROM rowlock.archive_windows('finished_job') AS span LOOP
        BEGIN
            SELECT job.* INTO found_job FROM rowlock.jobs AS job
             WHERE job.id = job_id AND job.finished_at >= low AND job.finished_at < high LIMIT 1;
            IF NOT FOUND THEN
                RAISE no_data_found;
            END IF;
            RETURN NEXT found_job;
            RETURN;
        EXCEPTION WHEN no_data_found THEN
            NULL;
        END;
    END LOOP;
    RETURN QUERY SELECT job.* FROM rowlock.jobs AS job
                  WHERE job.id = job_id AND (job.finished_at IS NULL OR job.finished_at < '-infinity');
END
$$
--;
-- The recorded attempts of one job, in no order. The end of each window's block releases its locks.
CREATE FUNCTION rowlock.attempts_of(job_id uuid) RETURNS SETOF rowlock.attempt LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = 'force_custom_plan' AS $$
DECLARE
    low timestamptz;
    high timestamptz;
    found_attempts rowlock.attempt[];
BEGIN
    FOR low, high IN SELECT span.low, span.high FROM rowlock.archive_windows('attempt') AS span LOOP
        BEGIN
            SELECT array_agg(told) INTO found_attempts FROM rowlock.attempt AS told
             WHERE told.job_id = attempts_of.job_id AND told.finished_at >= low AND told.finished_at < high;
            RAISE no_data_found;
        EXCEPTION WHEN no_data_found THEN
            RETURN QUERY SELECT told.* FROM unnest(found_attempts) AS told;
        END;
    END LOOP;
END
$$
--;
-- The logs of one job's attempts, in no order. The end of each window's block releases its locks.
CREATE FUNCTION rowlock.logs_of(job_id uuid) RETURNS SETOF rowlock.attempt_log LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = 'force_custom_plan' AS $$
DECLARE
    low timestamptz;
    high timestamptz;
    found_logs rowlock.attempt_log[];
BEGIN
    FOR low, high IN SELECT span.low, span.high FROM rowlock.archive_windows('attempt_log') AS span LOOP
        BEGIN
            SELECT array_agg(told) INTO found_logs FROM rowlock.attempt_log AS told
             WHERE told.job_id = logs_of.job_id AND told.created_at >= low AND told.created_at < high;
            RAISE no_data_found;
        EXCEPTION WHEN no_data_found THEN
            RETURN QUERY SELECT told.* FROM unnest(found_logs) AS told;
        END;
    END LOOP;
END
$$
--;
-- The finished ones of these jobs. The end of each window's block releases its locks.
CREATE FUNCTION rowlock.finished_among(job_ids uuid[]) RETURNS SETOF uuid LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = 'force_custom_plan' AS $$
DECLARE
    low timestamptz;
    high timestamptz;
    found_ids uuid[];
BEGIN
    IF cardinality(job_ids) = 0 THEN
        RETURN;
    END IF;
    FOR low, high IN SELECT span.low, span.high FROM rowlock.archive_windows('finished_job') AS span LOOP
        BEGIN
            SELECT array_agg(job.id) INTO found_ids FROM rowlock.finished_job AS job
             WHERE job.id = ANY(job_ids) AND job.finished_at >= low AND job.finished_at < high;
            RAISE no_data_found;
        EXCEPTION WHEN no_data_found THEN
            RETURN QUERY SELECT unnest(found_ids);
        END;
    END LOOP;
END
$$
--;
-- The finished jobs with ids in this range, at most `most`. Searches only the days since the first was created,
-- and one before, since clocks differ (for ids from the future: since now): use it for young ids of version 7.
-- The end of the block releases the locks.
CREATE FUNCTION rowlock.finished_between(lowest uuid, highest uuid, most integer) RETURNS SETOF uuid LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = 'force_custom_plan' SET enable_seqscan = off AS $$
DECLARE
    made timestamptz := to_timestamp(('x' || left(translate(lowest::text, '-', ''), 12))::bit(48)::bigint / 1000.0);
    low timestamptz := least(made, clock_timestamp()) - interval '1 day';
    found_ids uuid[];
BEGIN
    SELECT array_agg(job.id) INTO found_ids
      FROM (
           SELECT finished.id FROM rowlock.finished_job AS finished
            WHERE finished.id BETWEEN lowest AND highest AND finished.finished_at >= low LIMIT most
           ) AS job;
    RAISE no_data_found;
EXCEPTION WHEN no_data_found THEN
    RETURN QUERY SELECT unnest(found_ids);
END
$$
--;
-- Of these attempts of one worker: those whose outcome is recorded as its own. None ended before `since`. Locks likewise.
CREATE FUNCTION rowlock.recorded_among(worker_id uuid, job_ids uuid[], attempts integer[], since timestamptz)
RETURNS SETOF uuid LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = 'force_custom_plan' AS $$
DECLARE
    low timestamptz;
    high timestamptz;
    found_ids uuid[];
BEGIN
    FOR low, high IN
        SELECT greatest(span.low, since), span.high FROM rowlock.archive_windows('finished_job') AS span WHERE span.high > since
    LOOP
        BEGIN
            SELECT array_agg(job.id) INTO found_ids FROM rowlock.finished_job AS job
             WHERE job.id = ANY(job_ids) AND job.finished_at >= low AND job.finished_at < high
               AND job.state = 'succeeded' AND job.worker = worker_id
               AND (job.id, job.attempt) IN (SELECT given.id, given.attempt FROM unnest(job_ids, attempts) AS given (id, attempt));
            RAISE no_data_found;
        EXCEPTION WHEN no_data_found THEN
            RETURN QUERY SELECT unnest(found_ids);
        END;
    END LOOP;
    FOR low, high IN
        SELECT greatest(span.low, since), span.high FROM rowlock.archive_windows('attempt') AS span WHERE span.high > since
    LOOP
        BEGIN
            SELECT array_agg(told.job_id) INTO found_ids FROM rowlock.attempt AS told
             WHERE told.job_id = ANY(job_ids) AND told.finished_at >= low AND told.finished_at < high
               AND told.outcome <> 'crashed' AND told.worker = worker_id
               AND (told.job_id, told.attempt) IN (
                   SELECT given.id, given.attempt FROM unnest(job_ids, attempts) AS given (id, attempt)
               );
            RAISE no_data_found;
        EXCEPTION WHEN no_data_found THEN
            RETURN QUERY SELECT unnest(found_ids);
        END;
    END LOOP;
END
$$
--;
-- Before an act finds finished jobs of a window and changes them: wait for retention here, while holding no lock that
-- retention could wait for. Takes the lock of SELECT … FOR UPDATE on each partition, in the order of their days.
CREATE FUNCTION rowlock.lock_archive(low timestamptz, high timestamptz) RETURNS void LANGUAGE plpgsql VOLATILE
SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD' AS $$
DECLARE
    child text;
BEGIN
    LOCK TABLE ONLY rowlock.finished_job, rowlock.finished_job_default IN ROW SHARE MODE;
    FOR child IN
        SELECT pg_class.relname
          FROM pg_inherits
          JOIN pg_class ON pg_class.oid = pg_inherits.inhrelid
         WHERE pg_inherits.inhparent = 'rowlock.finished_job'::regclass AND pg_class.relname ~ '_[0-9]{8}$'
           AND (to_date(right(pg_class.relname, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' > low
           AND to_date(right(pg_class.relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC' < high
         ORDER BY 1
    LOOP
        EXECUTE format('LOCK TABLE rowlock.%I IN ROW SHARE MODE', child);
    END LOOP;
END
$$
--;
-- The latest finish in the future: the clock has gone back since. Null if there is none.
CREATE FUNCTION rowlock.last_end_to_come() RETURNS timestamptz LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = 'force_custom_plan' AS $$
DECLARE
    present timestamptz := clock_timestamp();
BEGIN
    RETURN (SELECT max(finished_at) FROM rowlock.finished_job WHERE finished_at > present);
END
$$
