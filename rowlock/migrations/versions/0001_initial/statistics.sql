-- Ended jobs by outcome, and their durations, summed up by time: one row for each queue and task that had any in a
-- slot of `step` seconds that begins at `at`. The workers' upkeep counts slots of ten seconds from the archive, and
-- merges them into longer ones. Histograms are sparse: bucket 0 is below a millisecond, and bucket n reaches from
-- 2^((n - 1) / 2) to 2^(n / 2) milliseconds. Queue and task '*' stand for all others, beyond the most frequent of a slot.
CREATE TABLE rowlock.statistic (
    at               timestamptz NOT NULL,
    step             integer NOT NULL,
    queue            text COLLATE "C" NOT NULL,
    task             text COLLATE "C" NOT NULL,
    succeeded        bigint NOT NULL,
    failed           bigint NOT NULL,
    cancelled        bigint NOT NULL,
    expired          bigint NOT NULL,
    errors           bigint NOT NULL,
    duration_buckets smallint[] NOT NULL,
    duration_counts  bigint[] NOT NULL,
    wait_buckets     smallint[] NOT NULL,
    wait_counts      bigint[] NOT NULL,
    CONSTRAINT statistic_pkey PRIMARY KEY (step, at, queue, task),
    CONSTRAINT statistic_counts CHECK (
        least(succeeded, failed, cancelled, expired, errors) >= 0
        AND greatest(succeeded, failed, cancelled, expired, errors) <= 1000000000000000
        AND cardinality(duration_buckets) = cardinality(duration_counts)
        AND cardinality(wait_buckets) = cardinality(wait_counts)
        AND array_position(duration_counts, NULL) IS NULL AND array_position(wait_counts, NULL) IS NULL
    ),
    CONSTRAINT statistic_times_are_readable CHECK (
        at < '9999-12-31 00:00:00+00'
        AND at >= '0001-01-02 00:00:00+00'
    )
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false)
--;
-- The number of live jobs: the last sample of each slot, one row a queue that had any, and a total, whose queue
-- is '*'. If a row's taken_at is older than that of '*', its queue had no live jobs any more.
CREATE TABLE rowlock.backlog (
    at            timestamptz NOT NULL,
    taken_at      timestamptz NOT NULL,
    oldest_due_at timestamptz,
    step          integer NOT NULL,
    queue         text COLLATE "C" NOT NULL,
    waiting       bigint NOT NULL,
    scheduled     bigint NOT NULL,
    running       bigint NOT NULL,
    CONSTRAINT backlog_pkey PRIMARY KEY (step, at, queue),
    -- Their sums must fit.
    CONSTRAINT backlog_counts CHECK (
        least(waiting, scheduled, running) >= 0 AND greatest(waiting, scheduled, running) <= 1000000000000000
    ),
    CONSTRAINT backlog_times_are_readable CHECK (
        greatest(at, taken_at, oldest_due_at) < '9999-12-31 00:00:00+00'
        AND least(at, taken_at, oldest_due_at) >= '0001-01-02 00:00:00+00'
    )
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false)
--;
-- Until when the archive is counted, and until when it is counted again, for finishes that commit late.
CREATE TABLE rowlock.statistic_mark (
    name  text COLLATE "C" NOT NULL,
    until timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT statistic_mark_pkey PRIMARY KEY (name),
    CONSTRAINT statistic_mark_times_are_readable CHECK (
        until < '9999-12-31 00:00:00+00'
        AND until >= '0001-01-02 00:00:00+00'
    )
)
--;
INSERT INTO rowlock.statistic_mark (name) VALUES ('counted'), ('recounted')
--;
INSERT INTO rowlock.duty (name, every) VALUES ('statistics', '10 seconds'), ('backlog', '10 seconds')
