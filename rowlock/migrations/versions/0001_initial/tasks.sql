-- One row a held key with its job: the primary key guarantees uniqueness for every writer.
-- Held until the job finishes, which deletes the row; until it starts (until_start): only while the job waits;
-- or until expires_at, whatever happens to the job. Upkeep removes rows of the latter two kinds that are not held any more.
CREATE TABLE rowlock.unique_key (
    key         text COLLATE "C" NOT NULL,
    job_id      uuid NOT NULL,
    expires_at  timestamptz,
    until_start boolean NOT NULL DEFAULT false,
    CONSTRAINT unique_key_pkey PRIMARY KEY (key),  -- seam: unique key
    CONSTRAINT unique_key_length CHECK (octet_length(key) BETWEEN 1 AND 768)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false)
--;
CREATE INDEX unique_key_expires_at ON rowlock.unique_key (expires_at) WHERE expires_at IS NOT NULL
--;
CREATE INDEX unique_key_until_start ON rowlock.unique_key (job_id) WHERE until_start
--;
-- The responses to HTTP requests with an Idempotency-Key, so that a repeated request gets the same one.
CREATE TABLE rowlock.idempotency_key (
    key_hash    bytea NOT NULL,
    fingerprint bytea NOT NULL,
    expires_at  timestamptz NOT NULL,
    status      smallint,
    body        text,
    job_id      uuid,
    CONSTRAINT idempotency_key_pkey PRIMARY KEY (key_hash)
) WITH (autovacuum_vacuum_scale_factor = 0.05, vacuum_truncate = false)
--;
CREATE INDEX idempotency_key_expires_at ON rowlock.idempotency_key (expires_at)
--;
-- Each task as the workers' code registers it, so that `SELECT rowlock.enqueue('send_email', …)` finds the right queue.
CREATE TABLE rowlock.task (
    name         text COLLATE "C" NOT NULL,
    queue        text COLLATE "C" NOT NULL,
    priority     smallint NOT NULL,
    max_attempts integer NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    result_ttl   interval,
    results_removed_until timestamptz NOT NULL DEFAULT '-infinity',
    args_version smallint NOT NULL DEFAULT 1,
    is_sensitive boolean NOT NULL DEFAULT false,
    max_crashes  integer,
    CONSTRAINT task_pkey PRIMARY KEY (name),
    CONSTRAINT task_times_are_readable CHECK (
        greatest(updated_at, results_removed_until) < '9999-12-31 00:00:00+00'
        AND updated_at >= '0001-01-02 00:00:00+00'
        AND result_ttl BETWEEN '0' AND '36500 days'
    )
)
