-- The days of the archive: one row a partition, its size, and what retention has removed from it.
CREATE VIEW rowlock.archive_day AS
SELECT parent.relname::text AS archive, to_date(right(child.relname, 8), 'YYYYMMDD') AS day,
       greatest(child.reltuples::bigint, pg_stat_get_live_tuples(child.oid), 0) AS about_rows,
       pg_total_relation_size(child.oid) AS bytes, pg_relation_size(child.oid) = 0 AS is_empty,
       obj_description(child.oid, 'pg_class') AS removed
  FROM pg_inherits
  JOIN pg_class AS parent ON parent.oid = pg_inherits.inhparent
  JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
 WHERE parent.oid IN ('rowlock.finished_job'::regclass, 'rowlock.attempt'::regclass, 'rowlock.attempt_log'::regclass)
   AND child.relname ~ '_[0-9]{8}$'
--;
-- Which of the jobs that had ended by `ended` have expired at `at`: one row a final state. `is_past` applies to all
-- queues but the exceptions, which have a retention of their own and the opposite answer. '1000 years' means for ever.
CREATE FUNCTION rowlock.past_retention(ended timestamptz, at timestamptz)
RETURNS TABLE (state text, is_past boolean, exceptions text[]) LANGUAGE sql STABLE AS $$
    WITH said AS (
        SELECT q.name, one.state, past_retention.ended + one.keep <= past_retention.at AS is_past
          FROM rowlock.queue AS q
         CROSS JOIN LATERAL (
               VALUES ('succeeded', q.keep_succeeded), ('failed', q.keep_failed), ('cancelled', q.keep_cancelled),
                      ('expired', q.keep_expired)
               ) AS one (state, keep)
         WHERE one.keep IS NOT NULL
    )
    SELECT final.state, coalesce(usual.is_past, false),
           ARRAY(
               SELECT said.name::text FROM said
                WHERE said.state = final.state AND said.name <> '*' AND said.is_past <> coalesce(usual.is_past, false)
                ORDER BY said.name
           )
      FROM (VALUES ('succeeded'), ('failed'), ('cancelled'), ('expired')) AS final (state)
      LEFT JOIN said AS usual ON usual.name = '*' AND usual.state = final.state
$$
--;
-- Name the rows, in a text, that a day of the archive must not contain any more at `at`; null if it may contain all. The
-- partition's comment records this text after a removal, so that it is checked again only when something more has expired.
-- An attempt's job ends after it, often on the next day: a day's attempts are checked a day later than its jobs;
-- and once none of those is kept, once a day, for the few whose jobs went on.
CREATE FUNCTION rowlock.must_be_removed(archive text, day date, at timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT 'removed: '
           || string_agg(
               state || CASE WHEN exceptions = '{}' THEN '' ELSE
                   CASE WHEN is_past THEN ' but of ' ELSE ' of ' END || array_to_string(exceptions, ', ')
               END,
               '; ' ORDER BY state
           ) FILTER (WHERE is_past OR exceptions <> '{}')
           || CASE WHEN archive <> 'finished_job' AND bool_and(is_past AND exceptions = '{}')
                   THEN to_char(must_be_removed.at AT TIME ZONE 'UTC', ' (YYYY-MM-DD)') ELSE '' END
      FROM rowlock.past_retention(
               -- seam: last day
               (day + CASE archive WHEN 'finished_job' THEN 1 ELSE 2 END)::timestamp AT TIME ZONE 'UTC', at
           )
$$
--;
-- Which rows of a day stay, as a condition on them.
CREATE FUNCTION rowlock.what_stays(archive text, day date) RETURNS text LANGUAGE sql VOLATILE
SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD' AS $$
    SELECT CASE WHEN archive = 'finished_job' THEN (
               SELECT coalesce(
                          string_agg(
                              format('state = %L', state) || CASE WHEN exceptions = '{}' THEN ''
                                  ELSE format(
                                      -- seam: exceptions
                                      CASE WHEN is_past THEN ' AND queue = ANY(%L)' ELSE ' AND queue <> ALL(%L)' END,
                                      exceptions
                                  ) END,
                              ' OR '
                          ) FILTER (WHERE NOT is_past OR exceptions <> '{}'),
                          'false'
                      )
                 -- seam: past retention
                 FROM rowlock.past_retention((day + 1)::timestamp AT TIME ZONE 'UTC', clock_timestamp())
           ) ELSE format(
               -- seam: live jobs
               'EXISTS (SELECT FROM rowlock.job WHERE job.id = job_id) OR EXISTS ('
               'SELECT FROM rowlock.finished_job WHERE finished_job.id = job_id AND finished_job.finished_at >= %L)',
               (day - 1)::timestamp AT TIME ZONE 'UTC'
           ) END
$$
--;
-- Remove expired rows from one day of the archive: `emptied`, `rewritten` (and how many rows were kept),
-- `nothing`, or `postponed`, if another session holds a lock for longer than a second.
--
-- Nothing is deleted: the rows that stay are copied out, the partition is truncated, and they are copied back. That locks
-- only this partition: finishes never wait. Writers of the partition (a retry) wait from the first copy on, readers
-- from the truncation on, about ten microseconds for each row that stays. The first lock is EXCLUSIVE, because
-- SELECT … FOR UPDATE conflicts with it, too: no session holds one when the stronger lock is taken.
CREATE FUNCTION rowlock.retain_day(archive text, day date, OUT done text, OUT kept bigint) LANGUAGE plpgsql VOLATILE
SET lock_timeout = '1s' SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD' AS $$
DECLARE
    child text := format('%s_%s', archive, to_char(day, 'YYYYMMDD'));
    removed text := rowlock.must_be_removed(archive, day, clock_timestamp());
    stays text := rowlock.what_stays(archive, day);
    is_any boolean;
BEGIN
    kept := 0;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'retention needs a READ COMMITTED transaction'
            USING HINT = 'Otherwise rows committed while it waits for the lock would be lost. Use BEGIN ISOLATION LEVEL READ COMMITTED.';
    END IF;
    IF removed IS NULL OR to_regclass('rowlock.' || child) IS NULL THEN
        done := 'nothing';
        RETURN;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM rowlock.%I WHERE NOT (%s))', child, stays) INTO is_any;
    IF NOT is_any THEN
        done := 'nothing';
    ELSIF stays = 'false' THEN
        EXECUTE format('TRUNCATE rowlock.%I', child);
        done := 'emptied';
    ELSE
        EXECUTE format('LOCK TABLE rowlock.%I IN EXCLUSIVE MODE', child);
        EXECUTE format('CREATE UNLOGGED TABLE rowlock.%I AS SELECT * FROM rowlock.%I WHERE %s',
                       child || '_kept', child, stays);
        GET DIAGNOSTICS kept = ROW_COUNT;
        EXECUTE format('TRUNCATE rowlock.%I', child);
        EXECUTE format('INSERT INTO rowlock.%I SELECT * FROM rowlock.%I', child, child || '_kept');
        EXECUTE format('DROP TABLE rowlock.%I', child || '_kept');
        done := CASE kept WHEN 0 THEN 'emptied' ELSE 'rewritten' END;
    END IF;
    IF done <> 'emptied' THEN  -- an empty one is due again as soon as it gets rows
        EXECUTE format('COMMENT ON TABLE rowlock.%I IS %L', child, removed);
    END IF;
EXCEPTION WHEN lock_not_available THEN
    done := 'postponed';
    kept := 0;
END
$$
--;
-- Remove expired rows from the default partition of an archive, `most` rows at a time; returns their number.
-- There, rows of many days lie together, so they are deleted one by one; it is empty unless no worker ran for days.
CREATE FUNCTION rowlock.retain_default(archive text, most integer) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET lock_timeout = '1s' SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD' AS $$
DECLARE
    spare text := archive || '_default';
    at text := CASE archive WHEN 'attempt_log' THEN 'created_at' ELSE 'finished_at' END;
    day date;
    gone bigint;
    removed bigint := 0;
BEGIN
    FOR day IN EXECUTE format('SELECT DISTINCT (%I AT TIME ZONE ''UTC'')::date FROM rowlock.%I ORDER BY 1', at, spare) LOOP
        CONTINUE WHEN rowlock.must_be_removed(archive, day, clock_timestamp()) IS NULL;
        EXECUTE format(
            'WITH gone AS (DELETE FROM rowlock.%1$I WHERE ctid = ANY(ARRAY('
            'SELECT ctid FROM rowlock.%1$I WHERE %2$I >= %3$L AND %2$I < %4$L AND NOT (%5$s) LIMIT %6$s)) RETURNING 1)'
            ' SELECT count(*) FROM gone',
            spare, at, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC',
            rowlock.what_stays(archive, day), most - removed
        ) INTO gone;
        removed := removed + gone;
        EXIT WHEN removed >= most;
    END LOOP;
    RETURN removed;
END
$$
--;
-- Drop an empty day; returns whether it is gone. This locks the whole archive, so finishes wait; therefore it gives up
-- after a fifth of a second. It is worth no more: an empty partition costs only planning time.
CREATE FUNCTION rowlock.drop_day(archive text, day date) RETURNS boolean LANGUAGE plpgsql VOLATILE
SET lock_timeout = '200ms' SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD' AS $$
DECLARE
    child text := format('%s_%s', archive, to_char(day, 'YYYYMMDD'));
    is_used boolean;
BEGIN
    EXECUTE format('LOCK TABLE ONLY rowlock.%I IN ACCESS EXCLUSIVE MODE', archive);
    EXECUTE format('SELECT EXISTS (SELECT FROM rowlock.%I)', child) INTO is_used;
    IF NOT is_used THEN
        EXECUTE format('DROP TABLE rowlock.%I', child);
    END IF;
    RETURN NOT is_used;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$$
--;
INSERT INTO rowlock.duty (name, every) VALUES ('retention', '1 hour')
