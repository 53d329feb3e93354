-- A UUID version 7 (RFC 9562): milliseconds since 1970 in 48 bits, then 74 random bits. Only PostgreSQL 18 has its own.
CREATE FUNCTION rowlock.uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(
        overlay(
            overlay(
                uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6
            )
            PLACING set_byte('\x00'::bytea, 0, (get_byte(uuid_send(gen_random_uuid()), 0) & 15) | 112) FROM 7 FOR 1
        ),
        'hex'
    )::uuid
$$
--;
-- Take a unique key for a job: null if it now holds the key, else the id of the job that does.
-- The insert waits for whoever took the key in a transaction that is still open; if that one rolls back, this one has it.
CREATE FUNCTION rowlock.take_key(key text, job_id uuid) RETURNS uuid LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    holder uuid;
BEGIN
    LOOP
        INSERT INTO rowlock.unique_key (key, job_id) VALUES (take_key.key, take_key.job_id) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN NULL;
        END IF;
        SELECT k.job_id INTO holder FROM rowlock.unique_key AS k WHERE k.key = take_key.key;
        IF FOUND THEN
            RETURN holder;
        END IF;
        -- The holder finished between the two statements: the key is free again.
    END LOOP;
END
$$
--;
-- The options of an enqueue, as its job will have them: what is null as the task's own setting says, as the workers last
-- registered it. Whatever makes no sense is refused.
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
    deadline timestamptz
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
       OR checked_options.task IS NULL THEN
        RAISE EXCEPTION 'task % is not a task''s name', coalesce(quote_literal(checked_options.task), 'null')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 1 to 128 of letters, digits, _ . and -';
    ELSIF checked_options.queue ~ '[^A-Za-z0-9_.-]' OR length(checked_options.queue) NOT BETWEEN 1 AND 48 THEN
        RAISE EXCEPTION 'queue % is not a queue''s name', quote_literal(checked_options.queue)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 1 to 48 of letters, digits, _ . and -';
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
    ELSIF checked_options.delay > '100 years' OR checked_options.run_at >= '10000-01-01' THEN
        RAISE EXCEPTION 'delay % or run_at % is too far away', checked_options.delay, checked_options.run_at
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use a delay of at most 100 years, or a year up to 9999';
    ELSIF checked_options.timeout > '100 years' THEN
        RAISE EXCEPTION 'timeout % is too long', checked_options.timeout
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for no limit';
    ELSIF checked_options.timeout <= '0' THEN
        RAISE EXCEPTION 'timeout % is not above zero', checked_options.timeout
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
    ELSIF octet_length(checked_options.unique_key) NOT BETWEEN 1 AND 512 THEN
        RAISE EXCEPTION 'unique_key has % bytes', octet_length(checked_options.unique_key)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use 1 to 512 bytes; of something longer, use a hash';
    END IF;
END
$$
--;
-- Enqueue one job, for every language and driver. (Python sends plain jobs by a statement that does the same.)
-- Returns the job's id: the given one (or a new one), or that of the job which already holds the unique key.
-- What is null takes the task's own setting, as the workers last registered it.
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
    deadline     timestamptz DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    new_id uuid := coalesce(enqueue.id, rowlock.uuid7());
    full_key text;
    holder uuid;
BEGIN
    -- A plain job is seen to be right by one expression: PL/pgSQL sets up each one anew in every transaction.
    -- A search for characters that may not be there costs a twentieth of a match of all that may.
    IF (
        enqueue.task !~ '[^A-Za-z0-9_.-]' AND length(enqueue.task) BETWEEN 1 AND 128
        AND enqueue.queue !~ '[^A-Za-z0-9_.-]' AND length(enqueue.queue) BETWEEN 1 AND 48
        AND enqueue.priority BETWEEN 0 AND 9 AND enqueue.max_attempts >= 1 AND jsonb_typeof(enqueue.args) = 'object'
        AND enqueue.delay IS NULL AND enqueue.run_at IS NULL AND enqueue.timeout IS NULL AND enqueue.unique_key IS NULL
        AND enqueue.expires_at IS NULL AND enqueue.deadline IS NULL
    ) IS NOT TRUE THEN
        SELECT o.queue, o.priority, o.max_attempts
          INTO enqueue.queue, enqueue.priority, enqueue.max_attempts
          FROM rowlock.checked_options(
                   enqueue.task, enqueue.args, enqueue.queue, enqueue.priority, enqueue.delay, enqueue.run_at,
                   enqueue.max_attempts, enqueue.timeout, enqueue.unique_key, enqueue.expires_at, enqueue.deadline
               ) AS o;
        IF enqueue.unique_key IS NOT NULL THEN
            full_key := enqueue.task || ':' || enqueue.unique_key;
            holder := rowlock.take_key(full_key, new_id);
            IF holder IS NOT NULL THEN
                RETURN holder;
            END IF;
        END IF;
    END IF;

    -- run_at: first the transaction's id, then the clock. The claims' cursors rely on this order, see docs/claiming.md.
    INSERT INTO rowlock.job (
        id, queue, task, priority, run_at, max_attempts, timeout, unique_key, args, ends_at, expires_at, deadline
    )
    VALUES (
        new_id, enqueue.queue, enqueue.task, enqueue.priority,
        CASE WHEN pg_current_xact_id() IS NOT NULL THEN
            greatest(enqueue.run_at, clock_timestamp() + coalesce(enqueue.delay, '0'))
        END,
        enqueue.max_attempts, enqueue.timeout, full_key, enqueue.args,
        least(enqueue.expires_at, enqueue.deadline), enqueue.expires_at, enqueue.deadline
    ) ON CONFLICT DO NOTHING;

    IF EXISTS (SELECT FROM rowlock.idle_worker AS w WHERE w.queue = enqueue.queue) THEN
        PERFORM pg_notify('rowlock.wakeup', enqueue.queue);
    END IF;
    RETURN new_id;
END
$$
--;
-- Make the partitions of today and the days after (UTC), where they are missing. Built apart and then attached, which
-- does not lock out the readers and writers of the parent; but it does those of the default partition, which every read
-- of the archive is: behind a long one (a backup, a report) it waits for a second at most, and succeeds another time.
CREATE FUNCTION rowlock.create_partitions(days integer) RETURNS integer LANGUAGE plpgsql VOLATILE
SET lock_timeout = '1s' AS $$
DECLARE
    parent text;
    child text;
    first_day date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
    made integer := 0;
BEGIN
    FOR parent IN SELECT unnest(ARRAY['finished_job', 'attempt', 'attempt_log']) LOOP
        FOR ahead IN 0 .. create_partitions.days LOOP
            child := format('%s_%s', parent, to_char(first_day + ahead, 'YYYYMMDD'));
            IF to_regclass('rowlock.' || child) IS NULL THEN
                BEGIN
                    EXECUTE format('CREATE TABLE rowlock.%I (LIKE rowlock.%I INCLUDING ALL)', child, parent);
                    EXECUTE format(
                        'ALTER TABLE rowlock.%I ATTACH PARTITION rowlock.%I FOR VALUES FROM (%L) TO (%L)',
                        parent, child, (first_day + ahead)::timestamp AT TIME ZONE 'UTC',
                        (first_day + ahead + 1)::timestamp AT TIME ZONE 'UTC'
                    );
                    made := made + 1;
                EXCEPTION WHEN check_violation THEN
                    -- Rows of that day are in the default partition already: they stay there, all is still readable.
                    RAISE WARNING 'partition % was not made: its rows are in the default partition', child;
                END;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$
--;
SELECT rowlock.create_partitions(3)
