-- Only for a database under test: each transaction logs its changes of a job, its archive, its key or a worker's lease.
-- Changes of one job share its row's lock, so `number` has their order.
CREATE SCHEMA rowlock_audit
--;
CREATE TABLE rowlock_audit.change (
    number     bigint GENERATED ALWAYS AS IDENTITY,
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    began      timestamptz NOT NULL DEFAULT now(), -- the transaction: a claim compares times with this moment
    what       text NOT NULL, -- job, finished_job, worker
    id         uuid NOT NULL, -- the job's, or the worker's
    old_state  text,          -- null: the row is new
    state      text,          -- null: the row is gone
    attempt    integer,
    errors     integer,
    crashes    integer,
    worker     uuid,
    unique_key text,
    run        text,          -- of a result: the handler's call that returned it
    pid        integer,       -- of a worker
    expires_at timestamptz,   -- of a worker, or of a waiting job
    run_at     timestamptz,   -- this and the following only of a waiting job: claims and finishes are the most rows
    ends_at    timestamptz,
    deadline   timestamptz,
    queue      text,
    task       text,
    priority   smallint,
    content    bigint,        -- of a job with a unique key: its argument of this name
    max_attempts integer,
    timeout    interval,
    tags       text[],
    metadata   jsonb,
    args_version smallint
)
--;
-- A handler's own writes, which job.transaction() commits with the job's success.
CREATE TABLE rowlock_audit.effect (
    job     uuid NOT NULL,
    attempt integer NOT NULL,
    run     text NOT NULL
)
--;
CREATE FUNCTION rowlock_audit.job_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rowlock_audit.change (
        what, id, state, attempt, errors, crashes, worker, unique_key, run_at, ends_at, expires_at, deadline, queue, task,
        priority, content, max_attempts, timeout, tags, metadata, args_version
    )
    SELECT 'job', id, state, attempt, errors, crashes, worker, unique_key, run_at, ends_at, expires_at, deadline, queue, task,
           priority, CASE WHEN unique_key IS NOT NULL THEN (args ->> 'content')::bigint END,
           max_attempts, timeout, tags, metadata, args_version
      FROM added;
    RETURN NULL;
END $$
--;
CREATE FUNCTION rowlock_audit.job_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rowlock_audit.change (what, id, old_state, state, attempt, errors, crashes, worker, unique_key)
    SELECT 'job', added.id, removed.state, added.state, added.attempt, added.errors, added.crashes, added.worker,
           added.unique_key
      FROM added JOIN removed ON removed.id = added.id
     WHERE added.state = 'running';
    INSERT INTO rowlock_audit.change (
        what, id, old_state, state, attempt, errors, crashes, worker, unique_key, run_at, ends_at, expires_at, deadline, queue,
        task, priority, content, max_attempts, timeout, tags, metadata, args_version
    )
    SELECT 'job', added.id, removed.state, added.state, added.attempt, added.errors, added.crashes, added.worker,
           added.unique_key, added.run_at, added.ends_at, added.expires_at, added.deadline, added.queue, added.task,
           added.priority, CASE WHEN added.unique_key IS NOT NULL THEN (added.args ->> 'content')::bigint END,
           added.max_attempts, added.timeout, added.tags, added.metadata, added.args_version
      FROM added JOIN removed ON removed.id = added.id
     WHERE added.state <> 'running';
    RETURN NULL;
END $$
--;
CREATE FUNCTION rowlock_audit.job_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rowlock_audit.change (what, id, old_state, attempt, errors, crashes, worker, unique_key)
    SELECT 'job', id, state, attempt, errors, crashes, worker, unique_key FROM removed;
    RETURN NULL;
END $$
--;
CREATE TRIGGER audit_inserted AFTER INSERT ON rowlock.job
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION rowlock_audit.job_inserted()
--;
CREATE TRIGGER audit_updated AFTER UPDATE ON rowlock.job
    REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION rowlock_audit.job_updated()
--;
CREATE TRIGGER audit_deleted AFTER DELETE ON rowlock.job
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION rowlock_audit.job_deleted()
--;
CREATE FUNCTION rowlock_audit.finished_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rowlock_audit.change (what, id, state, attempt, errors, crashes, worker, unique_key, run)
    SELECT 'finished_job', id, state, attempt, errors, crashes, worker, unique_key,
           CASE jsonb_typeof(result) WHEN 'object' THEN result ->> 'run' END
      FROM added;
    RETURN NULL;
END $$
--;
CREATE FUNCTION rowlock_audit.finished_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rowlock_audit.change (what, id, old_state, attempt, errors, crashes, worker, unique_key)
    SELECT 'finished_job', id, state, attempt, errors, crashes, worker, unique_key FROM removed;
    RETURN NULL;
END $$
--;
CREATE TRIGGER audit_inserted AFTER INSERT ON rowlock.finished_job
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION rowlock_audit.finished_inserted()
--;
CREATE TRIGGER audit_deleted AFTER DELETE ON rowlock.finished_job
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION rowlock_audit.finished_deleted()
--;
CREATE FUNCTION rowlock_audit.worker_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO rowlock_audit.change (what, id, old_state, pid, expires_at)
        VALUES ('worker', OLD.id, 'registered', OLD.pid, OLD.expires_at);
    ELSE
        INSERT INTO rowlock_audit.change (what, id, old_state, state, pid, expires_at)
        VALUES ('worker', NEW.id, CASE TG_OP WHEN 'UPDATE' THEN 'registered' END, 'registered', NEW.pid, NEW.expires_at);
    END IF;
    RETURN NULL;
END $$
--;
CREATE TRIGGER audit_changed AFTER INSERT OR UPDATE OR DELETE ON rowlock.worker
    FOR EACH ROW EXECUTE FUNCTION rowlock_audit.worker_changed()
