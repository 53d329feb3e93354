-- A UUID version 7 (RFC 9562): milliseconds since 1970 in 48 bits, then 74 random bits. Only PostgreSQL 18 has its own.
CREATE FUNCTION rowlock.uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(
        overlay(
            overlay(
                uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6
            )
            PLACING set_byte(decode('00', 'hex'), 0, (get_byte(uuid_send(gen_random_uuid()), 0) & 15) | 112) FROM 7 FOR 1
        ),
        'hex'
    )::uuid
$$
--;
-- The kind of an error's text: its first line, up to 200 characters, with # for each number, UUID and long hexadecimal
-- number. 'no order 7', 'no order 8' and 'no order #' have the same kind; without a text the kind is ''.
CREATE FUNCTION rowlock.error_kind(error text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT regexp_replace(
        left(split_part(coalesce(error, ''), E'\n', 1), 200),
        '[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{16,}|0x[0-9a-fA-F]+|[0-9]+', '#', 'g'
    )
$$
--;
-- Make the commit wait for the synchronous standby, if there is one, although nothing else is written. Otherwise a row could
-- be reported as stored while the standby lacks it: a commit whose wait was cancelled, or cut off by a restart, is
-- visible on the primary all the same.
CREATE FUNCTION rowlock.leave_trace() RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_setting('synchronous_standby_names') <> '' THEN
        PERFORM pg_logical_emit_message(true, 'rowlock', '');
    END IF;
END
$$
--;
-- Claim a unique key for a job: null if the job now holds the key, else the id of the holder.
-- The insert waits for a job that claimed the key in a transaction that is still open; if that rolls back, this job gets
-- the key. A key until its job's start is free once that job does not wait; a key for a period, once the period is over. A
-- key until its job's finish is free, too, once that job waits and its time is over: it can never start,
-- and upkeep ends it later. The update of that row blocks a claim that began before that time: it finds another row
-- version than it saw. No other holder is locked: claims skip a locked job, and two such locks in a row would hide it.
CREATE FUNCTION rowlock.take_key(
    key text, job_id uuid, until_start boolean DEFAULT false, period interval DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    holder uuid;
    until_its_start boolean;
    is_free boolean;
    is_over boolean;
BEGIN
    LOOP
        INSERT INTO rowlock.unique_key (key, job_id, until_start, expires_at)
        -- seam: take key
        VALUES (take_key.key, take_key.job_id, take_key.until_start, clock_timestamp() + take_key.period)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN NULL;
        END IF;
        SELECT k.job_id, k.until_start,
               k.expires_at <= clock_timestamp() OR k.until_start AND NOT EXISTS (
                   SELECT FROM rowlock.job AS j
                    WHERE j.id = k.job_id AND j.state IN ('queued', 'blocked')
                      AND (j.ends_at IS NULL OR j.ends_at > clock_timestamp())
               ),
               NOT k.until_start AND k.expires_at IS NULL AND EXISTS (
                   SELECT FROM rowlock.job AS j
                    WHERE j.id = k.job_id AND j.state IN ('queued', 'blocked') AND j.ends_at <= clock_timestamp()
               )
          INTO holder, until_its_start, is_free, is_over
          FROM rowlock.unique_key AS k WHERE k.key = take_key.key;
        CONTINUE WHEN NOT FOUND;  -- the holder finished between the two statements
        IF is_over THEN  -- seam: holder is over
            UPDATE rowlock.job AS j SET ends_at = '-infinity'
             WHERE j.id = holder AND j.state IN ('queued', 'blocked') AND j.ends_at <= clock_timestamp();
            CONTINUE WHEN NOT FOUND;  -- a claim or upkeep was faster
            is_free := true;
        END IF;
        IF is_free IS NOT TRUE THEN
            -- seam: old snapshot
            IF until_its_start AND current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
                -- The snapshot is as old as the transaction: since then the holder may have started, and even ended. A second
                -- row with its id shows this: PostgreSQL refuses the insert with a serialization failure if a newer version
                -- exists than the snapshot sees, and inserts it if none exists any more. It waits for no claim's lock.
                INSERT INTO rowlock.job (id, task) VALUES (holder, '-') ON CONFLICT DO NOTHING;
                IF FOUND THEN
                    RAISE EXCEPTION 'job % has ended since this transaction began', holder
                        USING ERRCODE = 'serialization_failure', HINT = 'Run the whole transaction again';
                END IF;
            END IF;
            PERFORM rowlock.leave_trace();
            RETURN nullif(holder, take_key.job_id);
        END IF;
        UPDATE rowlock.unique_key AS k
           SET job_id = take_key.job_id, until_start = take_key.until_start,
               expires_at = clock_timestamp() + take_key.period
         WHERE k.key = take_key.key AND k.job_id = holder;
        IF FOUND THEN
            RETURN NULL;
        END IF;
        -- Another job was faster.
    END LOOP;
END
$$
--;
-- Lock a waiting job against claims: true; or false, and no lock, if it does not wait (any more). After a claim in
-- flight, the row is running: the end of the block releases that lock, because a finish must not wait for it.
CREATE FUNCTION rowlock.lock_waiting(job_id uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM rowlock.job AS j
      WHERE j.id = lock_waiting.job_id AND j.state IN ('queued', 'blocked')  -- seam: replaceable
        AND (j.ends_at IS NULL OR j.ends_at > clock_timestamp())
        FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE no_data_found;
    END IF;
    RETURN true;
EXCEPTION WHEN no_data_found THEN
    RETURN false;
END
$$
--;
-- Whether arguments are nested deeper than 64 levels, including the outermost object: the limit of every writer. One level
-- takes at least 8 bytes: a small document needs no check.
CREATE FUNCTION rowlock.is_too_deep(args jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (pg_column_size(args) >= 512 OR pg_column_compression(args) IS NOT NULL)
       AND jsonb_path_exists(args, 'strict $.**{64} ? (@.type() == "object" || @.type() == "array")')
$$
--;
-- The options of an enqueue as the job gets them: null means the task's own setting, as the workers last registered it.
-- Invalid options are refused.
CREATE FUNCTION rowlock.checked_options(
    task text,
    args jsonb,
    INOUT queue text,
    INOUT priority integer,
    delay interval,
    run_at timestamptz,
    INOUT max_attempts integer,
    timeout interval,
    unique_key text,
    expires_at timestamptz,
    deadline timestamptz,
    args_version integer
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF checked_options.queue IS NULL OR checked_options.priority IS NULL OR checked_options.max_attempts IS NULL THEN
        SELECT coalesce(checked_options.queue, t.queue), coalesce(checked_options.priority, t.priority),
               coalesce(checked_options.max_attempts, t.max_attempts)
          INTO checked_options.queue, checked_options.priority, checked_options.max_attempts
          FROM (SELECT) AS one LEFT JOIN rowlock.task AS t ON t.name = checked_options.task;
    END IF;
    checked_options.queue := coalesce(checked_options.queue, 'default');
    checked_options.priority := coalesce(checked_options.priority, 5);
    checked_options.max_attempts := coalesce(checked_options.max_attempts, 10);

    IF checked_options.task ~ '[^A-Za-z0-9_.-]' OR length(checked_options.task) NOT BETWEEN 1 AND 128
       OR checked_options.task IN ('.', '..') OR checked_options.task IS NULL THEN
        RAISE EXCEPTION 'task % is not a valid task name', coalesce(quote_literal(checked_options.task), 'null')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 1 to 128 of letters, digits, _ . and -, but not . or .. alone';
    ELSIF checked_options.queue ~ '[^A-Za-z0-9_.-]' OR length(checked_options.queue) NOT BETWEEN 1 AND 48
       OR checked_options.queue IN ('.', '..') THEN
        RAISE EXCEPTION 'queue % is not a valid queue name', quote_literal(checked_options.queue)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 1 to 48 of letters, digits, _ . and -, but not . or .. alone';
    ELSIF checked_options.priority NOT BETWEEN 0 AND 9 THEN
        RAISE EXCEPTION 'priority % is out of range', checked_options.priority
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 0 (last) to 9 (first)';
    ELSIF checked_options.max_attempts < 1 THEN
        RAISE EXCEPTION 'max_attempts % is below 1', checked_options.max_attempts
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 1 for a job that must not be retried';
    ELSIF checked_options.delay < '0' THEN
        RAISE EXCEPTION 'delay % is negative', checked_options.delay
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use zero or a positive interval';
    ELSIF checked_options.delay IS NOT NULL AND checked_options.run_at IS NOT NULL THEN
        RAISE EXCEPTION 'delay and run_at are both given'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give one of them';
    ELSIF checked_options.delay > '36500 days' OR checked_options.run_at >= '9999-12-31 00:00:00+00' THEN
        RAISE EXCEPTION 'delay % or run_at % is too far away', checked_options.delay, checked_options.run_at
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use a delay of at most 100 years, or a time before 9999-12-31';
    ELSIF greatest(checked_options.expires_at, checked_options.deadline) >= '9999-12-31 00:00:00+00' THEN
        RAISE EXCEPTION 'expires_at % or deadline % is too far away', checked_options.expires_at, checked_options.deadline
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for no limit';
    ELSIF least(checked_options.expires_at, checked_options.deadline) < '0001-01-02 00:00:00+00' THEN
        RAISE EXCEPTION 'expires_at % or deadline % is too long ago', checked_options.expires_at, checked_options.deadline
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use a time in the future, or leave it out for no limit';
    ELSIF checked_options.timeout > '36500 days' THEN
        RAISE EXCEPTION 'timeout % is too long', checked_options.timeout
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for no limit';
    ELSIF checked_options.timeout <= '0' THEN
        RAISE EXCEPTION 'timeout must be greater than zero; got %', checked_options.timeout
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for no limit';
    ELSIF checked_options.expires_at <= greatest(checked_options.run_at, clock_timestamp() + checked_options.delay) THEN
        RAISE EXCEPTION 'expires_at % is not after the time at which the job is due', checked_options.expires_at
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give the job time to start';
    ELSIF checked_options.deadline <= greatest(checked_options.run_at, clock_timestamp() + checked_options.delay) THEN
        RAISE EXCEPTION 'deadline % is not after the time at which the job is due', checked_options.deadline
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give the job time to finish';
    ELSIF checked_options.args IS NULL OR jsonb_typeof(checked_options.args) <> 'object' THEN
        RAISE EXCEPTION 'args is not a JSON object' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name each argument, as in {"recipient": "ada@example.com"}';
    ELSIF rowlock.is_too_deep(checked_options.args) THEN
        RAISE EXCEPTION 'args are nested deeper than 64 levels'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Store the document elsewhere, and pass its key';
    ELSIF checked_options.args_version IS NULL OR checked_options.args_version NOT BETWEEN 1 AND 32767 THEN
        RAISE EXCEPTION 'args_version % is out of range', coalesce(checked_options.args_version::text, 'null')
            USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Use the version of the task that the arguments were written for, from 1 to 32767, or leave it out for 1';
    ELSIF octet_length(checked_options.unique_key) NOT BETWEEN 1 AND 512 THEN
        RAISE EXCEPTION 'unique_key has % bytes', octet_length(checked_options.unique_key)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 1 to 512 bytes; for a longer key, use a hash';
    END IF;
END
$$
--;
-- Refuse invalid options of a unique key.
CREATE FUNCTION rowlock.check_unique(
    unique_key text, unique_until text, unique_period interval, unique_across_tasks boolean, on_duplicate text
) RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF check_unique.unique_until IS NULL OR check_unique.unique_until NOT IN ('finish', 'start') THEN
        RAISE EXCEPTION 'unique_until % is not known', coalesce(quote_literal(check_unique.unique_until), 'null')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use ''finish'' or ''start''';
    ELSIF check_unique.on_duplicate IS NULL
          OR check_unique.on_duplicate NOT IN ('return', 'raise', 'replace', 'skip') THEN
        RAISE EXCEPTION 'on_duplicate % is not known', coalesce(quote_literal(check_unique.on_duplicate), 'null')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use ''return'', ''raise'', ''replace'' or ''skip''';
    ELSIF check_unique.unique_across_tasks IS NULL THEN
        RAISE EXCEPTION 'unique_across_tasks is null'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use true or false';
    ELSIF check_unique.unique_period <= '0' OR check_unique.unique_period > '36500 days' THEN
        RAISE EXCEPTION 'unique_period must be greater than zero and at most 100 years; got %', check_unique.unique_period
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use a positive interval of at most 100 years';
    ELSIF check_unique.unique_period IS NOT NULL AND check_unique.unique_until = 'start' THEN
        RAISE EXCEPTION 'unique_period and unique_until are both given'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give one of them: a key is held for a period, or until a finish or a start';
    ELSIF check_unique.unique_key IS NULL THEN
        RAISE EXCEPTION 'unique_until, unique_period, unique_across_tasks or on_duplicate is given without a unique_key'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a unique_key too';
    END IF;
END
$$
--;
-- Refuse invalid tags, and a trace that is too long.
CREATE FUNCTION rowlock.check_tags(tags text[], trace text) RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    tag text;
BEGIN
    IF cardinality(check_tags.tags) > 20 THEN
        RAISE EXCEPTION 'tags must have at most 20 entries; got %', cardinality(check_tags.tags)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use fewer tags';
    ELSIF octet_length(check_tags.trace) > 600 THEN
        RAISE EXCEPTION 'trace has % bytes', octet_length(check_tags.trace)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use a W3C traceparent, or leave it out';
    END IF;
    FOREACH tag IN ARRAY coalesce(check_tags.tags, '{}') LOOP
        IF tag IS NULL OR tag ~ '[[:cntrl:]]' OR length(tag) NOT BETWEEN 1 AND 64 THEN
            RAISE EXCEPTION 'tag % is not valid', coalesce(quote_literal(tag), 'null')
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 1 to 64 characters, none of them a control character';
        END IF;
    END LOOP;
END
$$
--;
-- Refuse metadata other than up to 20 texts, each under a key.
CREATE FUNCTION rowlock.check_metadata(metadata jsonb) RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    entry record;
    entries integer := 0;
BEGIN
    IF jsonb_typeof(check_metadata.metadata) <> 'object' THEN
        RAISE EXCEPTION 'metadata is not a JSON object'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Name each value, as in {"customer": "42"}';
    END IF;
    FOR entry IN SELECT one.key, one.value FROM jsonb_each(check_metadata.metadata) AS one (key, value) LOOP
        entries := entries + 1;
        IF entry.key ~ '[^A-Za-z0-9_.-]' OR length(entry.key) NOT BETWEEN 1 AND 64 THEN
            RAISE EXCEPTION 'metadata key % is not valid', quote_literal(left(entry.key, 100))
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Use keys of 1 to 64 of letters, digits, _ . and -';
        ELSIF jsonb_typeof(entry.value) <> 'string' OR length(entry.value #>> '{}') > 256
              OR entry.value #>> '{}' ~ '[[:cntrl:]]' THEN
            RAISE EXCEPTION 'the value of % in metadata cannot be stored', quote_literal(entry.key)
                USING ERRCODE = 'invalid_parameter_value',
                HINT = 'Use a text of up to 256 characters, none of them a control character';
        END IF;
    END LOOP;
    IF entries > 20 THEN
        RAISE EXCEPTION 'metadata must have at most 20 keys; got %', entries
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use fewer keys';
    END IF;
END
$$
--;
-- Enqueue one job, for every language and driver. (Python sends plain jobs by an equivalent statement.)
-- Returns the job's id: the given one (or a new one), or that of the job that already holds the unique key.
-- on_duplicate => 'replace' then gives a waiting holder all options of this call, except its id and its key.
-- Null means the task's own setting, as the workers last registered it.
-- args_version: the task version of the arguments. The default is 1: programs that are older than the task's second
-- version do not know about it.
-- While a job is live, enqueuing another one with its id stores nothing.
CREATE FUNCTION rowlock.enqueue(
    task         text,
    args         jsonb DEFAULT '{}',
    queue        text DEFAULT NULL,
    priority     integer DEFAULT NULL,
    delay        interval DEFAULT NULL,
    run_at       timestamptz DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    timeout      interval DEFAULT NULL,
    unique_key   text DEFAULT NULL,
    id           uuid DEFAULT NULL,
    expires_at   timestamptz DEFAULT NULL,
    deadline     timestamptz DEFAULT NULL,
    unique_until text DEFAULT 'finish',
    unique_period interval DEFAULT NULL,
    unique_across_tasks boolean DEFAULT false,
    on_duplicate text DEFAULT 'return',
    args_version integer DEFAULT 1,
    trace        text DEFAULT NULL,
    tags         text[] DEFAULT NULL,
    metadata     jsonb DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    new_id uuid := coalesce(enqueue.id, rowlock.uuid7());
    full_key text;
    holder uuid;
    running uuid;
BEGIN
    -- One expression checks a plain job: PL/pgSQL sets up each expression again in every transaction.
    -- Searching for forbidden characters costs a twentieth of matching all allowed ones.
    IF (
        enqueue.task !~ '[^A-Za-z0-9_.-]' AND length(enqueue.task) BETWEEN 1 AND 128
        AND enqueue.task NOT IN ('.', '..') AND enqueue.queue NOT IN ('.', '..')
        AND enqueue.queue !~ '[^A-Za-z0-9_.-]' AND length(enqueue.queue) BETWEEN 1 AND 48
        AND enqueue.priority BETWEEN 0 AND 9 AND enqueue.max_attempts >= 1 AND jsonb_typeof(enqueue.args) = 'object'
        AND NOT rowlock.is_too_deep(enqueue.args)
        AND enqueue.delay IS NULL AND enqueue.run_at IS NULL AND enqueue.timeout IS NULL AND enqueue.unique_key IS NULL
        AND enqueue.expires_at IS NULL AND enqueue.deadline IS NULL
        AND enqueue.unique_until = 'finish' AND enqueue.unique_period IS NULL AND NOT enqueue.unique_across_tasks
        AND enqueue.on_duplicate = 'return' AND enqueue.args_version BETWEEN 1 AND 32767
        AND enqueue.tags IS NULL AND enqueue.trace IS NULL AND enqueue.metadata IS NULL
    ) IS NOT TRUE THEN
        SELECT o.queue, o.priority, o.max_attempts
          INTO enqueue.queue, enqueue.priority, enqueue.max_attempts
          FROM rowlock.checked_options(
                   enqueue.task, enqueue.args, enqueue.queue, enqueue.priority, enqueue.delay, enqueue.run_at,
                   enqueue.max_attempts, enqueue.timeout, enqueue.unique_key, enqueue.expires_at, enqueue.deadline,
                   enqueue.args_version
               ) AS o;
        IF enqueue.tags IS NOT NULL OR enqueue.trace IS NOT NULL THEN
            PERFORM rowlock.check_tags(enqueue.tags, enqueue.trace);
            enqueue.tags := nullif(enqueue.tags, '{}');
        END IF;
        IF enqueue.metadata IS NOT NULL THEN
            PERFORM rowlock.check_metadata(enqueue.metadata);
            enqueue.metadata := nullif(enqueue.metadata, '{}');
        END IF;
        IF (enqueue.unique_until = 'finish' AND enqueue.unique_period IS NULL AND NOT enqueue.unique_across_tasks
            AND enqueue.on_duplicate = 'return') IS NOT TRUE THEN
            PERFORM rowlock.check_unique(
                enqueue.unique_key, enqueue.unique_until, enqueue.unique_period, enqueue.unique_across_tasks,
                enqueue.on_duplicate
            );
        END IF;
        IF enqueue.unique_key IS NOT NULL THEN
            IF EXISTS (SELECT FROM rowlock.job AS j WHERE j.id = enqueue.id) THEN
                PERFORM rowlock.leave_trace();
                RETURN enqueue.id;  -- stored before, by a call whose answer was lost: another job may hold its key by now
            END IF;
            full_key := CASE WHEN enqueue.unique_across_tasks THEN '' ELSE enqueue.task END || ':' || enqueue.unique_key;
            LOOP
                holder := rowlock.take_key(full_key, new_id, enqueue.unique_until = 'start', enqueue.unique_period);
                EXIT WHEN holder IS NULL OR enqueue.on_duplicate <> 'replace';
                IF rowlock.lock_waiting(holder) THEN
                    UPDATE rowlock.job AS j
                       -- seam: replaced priority
                       SET queue = enqueue.queue, task = enqueue.task, priority = enqueue.priority,
                           run_at = CASE WHEN j.state = 'blocked' THEN j.run_at WHEN pg_current_xact_id() IS NOT NULL THEN
                               -- seam: replaced time
                               greatest(enqueue.run_at, clock_timestamp() + coalesce(enqueue.delay, '0'))
                           END,
                           due_at = CASE WHEN j.state = 'blocked' THEN
                               greatest(enqueue.run_at, clock_timestamp() + coalesce(enqueue.delay, '0'))
                           END,
                           max_attempts = enqueue.max_attempts, timeout = enqueue.timeout, args = enqueue.args,
                           args_version = enqueue.args_version, tags = enqueue.tags, metadata = enqueue.metadata,
                           trace = enqueue.trace,
                           expires_at = enqueue.expires_at, deadline = enqueue.deadline,
                           ends_at = least(CASE WHEN j.attempt = 0 THEN enqueue.expires_at END, enqueue.deadline)
                     WHERE j.id = holder;
                    PERFORM pg_notify('rowlock.wakeup', w.queue)
                       FROM rowlock.idle_worker AS w WHERE w.queue = enqueue.queue LIMIT 1;
                    EXIT;
                END IF;
                EXIT WHEN holder = running;
                running := holder;  -- if it holds the key only until its start, the key is free now: ask once more
            END LOOP;
            IF holder IS NOT NULL AND enqueue.on_duplicate = 'raise' THEN
                RAISE EXCEPTION 'job % holds the unique key % already', holder, quote_literal(enqueue.unique_key)
                    USING ERRCODE = 'unique_violation', DETAIL = holder::text;
            ELSIF holder IS NOT NULL THEN
                RETURN holder;
            END IF;
        END IF;
    END IF;

    -- run_at: first the transaction's id, then the clock. The claim cursors rely on this order, see docs/claiming.md.
    INSERT INTO rowlock.job (
        id, queue, task, priority, run_at, max_attempts, timeout, unique_key, args, args_version, ends_at, expires_at,
        deadline, tags, metadata, trace
    )
    VALUES (
        new_id, enqueue.queue, enqueue.task, enqueue.priority,
        CASE WHEN pg_current_xact_id() IS NOT NULL THEN
            greatest(enqueue.run_at, clock_timestamp() + coalesce(enqueue.delay, '0'))
        END,
        enqueue.max_attempts, enqueue.timeout, full_key, enqueue.args, enqueue.args_version,
        least(enqueue.expires_at, enqueue.deadline), enqueue.expires_at, enqueue.deadline, enqueue.tags, enqueue.metadata,
        enqueue.trace
    ) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        PERFORM rowlock.leave_trace();
    END IF;

    IF EXISTS (SELECT FROM rowlock.idle_worker AS w WHERE w.queue = enqueue.queue) THEN
        PERFORM pg_notify('rowlock.wakeup', enqueue.queue);
    END IF;
    RETURN new_id;
END
$$
--;
-- Create the partition of one day (UTC) if it is missing; returns whether it was created.
-- The partition is built separately and then attached. A future day locks only the default partition:
-- readers wait, finishes continue. A day that has begun, or that has rows in the default partition, first locks the whole
-- archive, then moves these rows: a statement that planned without the new partition would look for its rows, or
-- store them, in the default one. So every statement waits before it plans. The waits for these locks end after half a
-- second, before another session's deadlock check: then a later call creates the partition.
-- More than 100,000 rows do not move: finishes would wait too long. They stay readable where they are, and retention
-- removes them there (retain_default).
-- The partition belongs to the archive's owner, not to its creator: otherwise the owner could not alter the archive.
-- Times are written and read as text: they mean UTC whatever the session's settings.
CREATE FUNCTION rowlock.create_partition(parent text, day date) RETURNS boolean LANGUAGE plpgsql VOLATILE
-- seam: time zone
SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD' SET lock_timeout = '500ms' AS $$
DECLARE
    child text := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
    spare text := parent || '_default';
    owner text := (SELECT relowner::regrole FROM pg_class WHERE oid = ('rowlock.' || parent)::regclass);
    begins timestamptz := day::timestamp AT TIME ZONE 'UTC';
    ends timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    that_day text := format(
        '%1$I >= %2$L AND %1$I < %3$L', CASE parent WHEN 'attempt_log' THEN 'created_at' ELSE 'finished_at' END, begins, ends
    );
    has_rows boolean;
    is_to_come boolean;
    found bigint;
BEGIN
    IF to_regclass('rowlock.' || child) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE ONLY rowlock.%I IN SHARE UPDATE EXCLUSIVE MODE', parent);  -- one creator at a time
    IF to_regclass('rowlock.' || child) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM rowlock.%I WHERE %s)', spare, that_day) INTO has_rows;
    is_to_come := begins > clock_timestamp() AND NOT has_rows;
    IF NOT is_to_come THEN
        EXECUTE format('LOCK TABLE ONLY rowlock.%I IN ACCESS EXCLUSIVE MODE', parent);
    END IF;
    EXECUTE format('LOCK TABLE rowlock.%I IN ACCESS EXCLUSIVE MODE', spare);
    EXECUTE format('SELECT count(*) FROM (SELECT FROM rowlock.%I WHERE %s LIMIT 100001) AS counted', spare, that_day)
       INTO found;
    IF found > 100000 OR (is_to_come AND found > 0) THEN
        RAISE WARNING 'partition % was not created: the default partition has too many rows of its day', child;
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE rowlock.%I (LIKE rowlock.%I INCLUDING ALL)', child, parent);
    EXECUTE format('ALTER TABLE rowlock.%I REPLICA IDENTITY FULL', child);
    EXECUTE format('ALTER TABLE rowlock.%I OWNER TO %s', child, owner);
    EXECUTE format('WITH moved AS (DELETE FROM rowlock.%I WHERE %s RETURNING *) INSERT INTO rowlock.%I SELECT * FROM moved',
                   spare, that_day, child);
    EXECUTE format('ALTER TABLE rowlock.%I ATTACH PARTITION rowlock.%I FOR VALUES FROM (%L) TO (%L)',
                   parent, child, begins, ends);
    RETURN true;
END
$$
--;
-- The missing partitions: of today and the days after (UTC), and of the days whose rows are in a default
-- partition.
CREATE FUNCTION rowlock.missing_partitions(days integer) RETURNS TABLE (archive text, day date)
LANGUAGE sql STABLE AS $$
    SELECT wanted.archive, wanted.day
      FROM (
           SELECT parent.name AS archive, (clock_timestamp() AT TIME ZONE 'UTC')::date + ahead AS day
             FROM unnest(ARRAY['finished_job', 'attempt', 'attempt_log']) AS parent (name)
            CROSS JOIN generate_series(0, days) AS ahead
            UNION
           SELECT stray.name, (stray.at AT TIME ZONE 'UTC')::date
             FROM (
                  (SELECT 'finished_job' AS name, finished_at AS at FROM rowlock.finished_job_default LIMIT 100000)
                   UNION ALL
                  (SELECT 'attempt', finished_at FROM rowlock.attempt_default LIMIT 100000)
                   UNION ALL
                  (SELECT 'attempt_log', created_at FROM rowlock.attempt_log_default LIMIT 100000)
                  ) AS stray
           ) AS wanted
     WHERE to_regclass('rowlock.' || wanted.archive || '_' || to_char(wanted.day, 'YYYYMMDD')) IS NULL
     ORDER BY 1, 2
$$
--;
-- Create all of them in one transaction; returns their number. Workers create each in a separate transaction.
CREATE FUNCTION rowlock.create_partitions(days integer) RETURNS integer LANGUAGE plpgsql VOLATILE
SET lock_timeout = '1s' AS $$
DECLARE
    made integer;
BEGIN
    LOCK TABLE ONLY rowlock.attempt, ONLY rowlock.attempt_log, ONLY rowlock.finished_job IN SHARE UPDATE EXCLUSIVE MODE;
    SELECT count(*) FILTER (WHERE rowlock.create_partition(missing.archive, missing.day)) INTO made
      FROM rowlock.missing_partitions(days) AS missing;
    RETURN made;
END
$$
--;
SELECT rowlock.create_partitions(3)
