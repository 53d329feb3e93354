-- One row a schedule. A worker claims a due schedule like a job, whichever comes first: no leader, no scheduler process.
-- `next_run_at` is the first tick that is not handled yet; null: there is none in the next fifty years.
-- `declaration`: the code's declaration of a schedule when it was last stored. `undeclared_at`: since when
-- workers start whose code has its task but does not declare it any more.
CREATE TABLE rowlock.schedule (
    name         text COLLATE "C" NOT NULL,
    task         text COLLATE "C" NOT NULL,
    queue        text COLLATE "C",
    priority     smallint,
    max_attempts integer,
    args         jsonb NOT NULL DEFAULT '{}',
    args_version smallint NOT NULL DEFAULT 1,
    cron         text NOT NULL,
    timezone     text NOT NULL DEFAULT 'UTC',
    misfire      text COLLATE "C" NOT NULL DEFAULT 'latest',
    overlap      text COLLATE "C" NOT NULL DEFAULT 'allow',
    jitter       interval NOT NULL DEFAULT '0',
    is_paused    boolean NOT NULL DEFAULT false,
    origin       text COLLATE "C" NOT NULL DEFAULT 'user',
    declaration  text,
    undeclared_at timestamptz,
    next_run_at  timestamptz,
    last_tick_at timestamptz,
    last_job_id  uuid,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT schedule_pkey PRIMARY KEY (name),
    CONSTRAINT schedule_misfire CHECK (misfire IN ('latest', 'all', 'skip')),
    CONSTRAINT schedule_overlap CHECK (overlap IN ('allow', 'skip')),
    CONSTRAINT schedule_origin CHECK (origin IN ('code', 'user')),
    CONSTRAINT schedule_jitter CHECK (jitter BETWEEN '0' AND '36500 days'),
    CONSTRAINT schedule_priority_0_to_9 CHECK (priority BETWEEN 0 AND 9),
    CONSTRAINT schedule_max_attempts CHECK (max_attempts >= 1),
    CONSTRAINT schedule_args_are_an_object CHECK (jsonb_typeof(args) = 'object'),
    CONSTRAINT schedule_times_are_readable CHECK (
        greatest(next_run_at, last_tick_at, created_at, updated_at, undeclared_at) < '9999-12-31 00:00:00+00'
        AND least(next_run_at, last_tick_at, created_at, updated_at, undeclared_at) >= '0001-01-02 00:00:00+00'
    )
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0.1, vacuum_truncate = false)
--;
CREATE INDEX schedule_next_run_at ON rowlock.schedule (next_run_at) WHERE NOT is_paused
--;
-- Which tick made which job. The primary key guarantees "at most one job a tick", whatever the value of next_run_at.
-- The last 1,000 ticks of each schedule are kept, and those of the last week.
CREATE TABLE rowlock.schedule_tick (
    schedule text COLLATE "C" NOT NULL,
    tick_at  timestamptz NOT NULL,
    job_id   uuid NOT NULL,
    fired_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT schedule_tick_pkey PRIMARY KEY (schedule, tick_at),  -- seam: tick key
    CONSTRAINT schedule_tick_schedule FOREIGN KEY (schedule) REFERENCES rowlock.schedule (name) ON DELETE CASCADE,
    CONSTRAINT schedule_tick_times_are_readable CHECK (
        greatest(tick_at, fired_at) < '9999-12-31 00:00:00+00'
        AND least(tick_at, fired_at) >= '0001-01-02 00:00:00+00'
    )
)
