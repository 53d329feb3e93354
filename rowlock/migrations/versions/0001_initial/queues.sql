-- The settings of queues by operators. A queue without settings has no row; the row '*' sets the defaults of all queues.
-- How long finished jobs are kept: '1000 years' is for ever, and so is null in the row '*'.
CREATE TABLE rowlock.queue (
    name           text COLLATE "C" NOT NULL,
    paused_at      timestamptz,
    concurrency    integer,
    keep_succeeded interval,
    keep_failed    interval,
    keep_cancelled interval,
    keep_expired   interval,
    updated_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT queue_pkey PRIMARY KEY (name),
    CONSTRAINT queue_concurrency CHECK (concurrency >= 1),
    CONSTRAINT queue_keep CHECK (
        least(keep_succeeded, keep_failed, keep_cancelled, keep_expired) >= '1 hour'
        AND greatest(keep_succeeded, keep_failed, keep_cancelled, keep_expired) <= '1000 years'
    ),
    CONSTRAINT queue_times_are_readable CHECK (
        greatest(paused_at, updated_at) < '9999-12-31 00:00:00+00'
        AND least(paused_at, updated_at) >= '0001-01-02 00:00:00+00'
    )
)
