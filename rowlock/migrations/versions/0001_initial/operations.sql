-- The acts of operators: who cancelled, retried, paused or edited what, when and from where. Written in the transaction of
-- the act itself, so that neither exists without the other.
CREATE TABLE rowlock.operation (
    id          uuid NOT NULL DEFAULT rowlock.uuid7(),
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    verb        text COLLATE "C" NOT NULL,
    target_kind text COLLATE "C" NOT NULL,
    target      text COLLATE "C",
    by          text,
    source      text COLLATE "C" NOT NULL DEFAULT 'sql',
    details     jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT operation_pkey PRIMARY KEY (id),
    CONSTRAINT operation_source CHECK (source IN ('python', 'cli', 'http', 'sql')),
    CONSTRAINT operation_times_are_readable CHECK (
        at < '9999-12-31 00:00:00+00'
        AND at >= '0001-01-02 00:00:00+00'
    )
)
--;
-- All acts on one job, schedule or queue.
CREATE INDEX operation_target ON rowlock.operation (target, target_kind, id)
