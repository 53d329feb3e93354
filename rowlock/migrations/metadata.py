"""The tables in SQLAlchemy's form: `alembic check` compares the migrations with them, and users may query them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, DOUBLE_PRECISION, INTERVAL, JSONB, TIMESTAMP, UUID


@lru_cache(maxsize=8)
def metadata(schema: str = "rowlock") -> MetaData:
    """All of Rowlock's tables in `schema`. Only the migrations have server defaults and check constraints."""
    tables = MetaData(schema=schema)
    job = _job(tables)
    claimable = job.c.run_at < text("'infinity'::timestamptz")
    Index("job_claim", job.c.queue, job.c.priority, job.c.run_at, job.c.id, postgresql_where=claimable)
    Index("job_ends", job.c.ends_at, postgresql_where=job.c.ends_at.is_not(None))
    Index("job_cancel", job.c.id, postgresql_where=job.c.cancel_requested_at.is_not(None))
    Index("job_suspect", job.c.queue, job.c.priority, job.c.run_at, postgresql_where=job.c.crashes > 0)
    finished = _finished_job(tables)
    Index("finished_job_id", finished.c.id)
    unsuccessful = finished.c.state != "succeeded"
    Index(
        "finished_job_unsuccessful",
        finished.c.state,
        finished.c.id,
        postgresql_where=unsuccessful,
        postgresql_include=["queue", "discarded_at"],
    )
    Index("finished_job_finished_at", finished.c.finished_at, postgresql_using="brin")
    attempt = _attempt(tables)
    Index("attempt_job_id", attempt.c.job_id, attempt.c.attempt)
    Index("attempt_finished_at", attempt.c.finished_at, postgresql_using="brin")
    log = _attempt_log(tables)
    Index("attempt_log_job_id", log.c.job_id, log.c.attempt)
    _keys_and_tasks(tables)
    _workers(tables)
    operation = _operation(tables)
    Index("operation_target", operation.c.target, operation.c.target_kind, operation.c.id)
    _handlers(tables)
    _statistics(tables)
    _api_keys(tables)
    schedule = _schedules(tables)
    Index("schedule_next_run_at", schedule.c.next_run_at, postgresql_where=~schedule.c.is_paused)
    return tables


def _key(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, TIMESTAMP(timezone=True), nullable=nullable)


def _number(name: str, kind: type[Integer] = Integer) -> Column[int]:
    return Column(name, kind, nullable=False)


def _shared_columns(*, live: bool) -> list[Column[Any]]:
    """The columns that a live job and a finished one have in common, in the table's order."""
    columns: list[Column[Any]] = [
        Column("id", UUID(as_uuid=True), nullable=False),
        _time("run_at"),
        _time("created_at"),
        _time("started_at", nullable=True),
    ]
    if live:
        limits = ("ends_at", "expires_at", "deadline", "cancel_requested_at", "due_at")
        columns += [_time(name, nullable=True) for name in limits]
    else:
        columns += [_time("finished_at"), _time("discarded_at", nullable=True)]
    columns += [
        Column("worker", UUID(as_uuid=True)),
        Column("timeout", INTERVAL),
        _number("attempt"),
        _number("max_attempts"),
        _number("errors"),
        _number("crashes", SmallInteger),
        _number("priority", SmallInteger),
        _number("args_version", SmallInteger),
        _key("state"),
        _key("queue"),
        _key("task"),
        _key("unique_key", nullable=True),
        Column("error", Text),
        *([Column("cancel_reason", Text)] if live else []),
        Column("args", JSONB, nullable=False),
        *([] if live else [Column("result", JSONB)]),
        Column("tags", ARRAY(Text)),
        Column("metadata", JSONB),
        _key("trace", nullable=True),
    ]
    return columns


def _job(tables: MetaData) -> Table:
    return Table(
        "job",
        tables,
        *_shared_columns(live=True),
        PrimaryKeyConstraint("id", name="job_pkey"),
        CheckConstraint("state IN ('blocked', 'queued', 'running')", name="job_state_is_live"),
    )


def _finished_job(tables: MetaData) -> Table:
    return Table("finished_job", tables, *_shared_columns(live=False))


def _attempt(tables: MetaData) -> Table:
    return Table(
        "attempt",
        tables,
        Column("job_id", UUID(as_uuid=True), nullable=False),
        _number("attempt"),
        _key("outcome"),
        _key("queue"),
        _key("task"),
        Column("worker", UUID(as_uuid=True)),
        _time("started_at", nullable=True),
        _time("finished_at"),
        Column("error_type", Text),
        Column("message", Text),
        Column("traceback", Text),
    )


def _attempt_log(tables: MetaData) -> Table:
    return Table(
        "attempt_log",
        tables,
        Column("job_id", UUID(as_uuid=True), nullable=False),
        _number("attempt"),
        _time("started_at"),
        _time("created_at"),
        Column("lines", JSONB, nullable=False),
    )


def _handlers(tables: MetaData) -> None:
    Table(
        "progress",
        tables,
        Column("job_id", UUID(as_uuid=True), nullable=False),
        _number("attempt"),
        Column("fraction", DOUBLE_PRECISION),
        Column("message", Text),
        Column("checkpoint", JSONB),
        _time("updated_at"),
        PrimaryKeyConstraint("job_id", name="progress_pkey"),
    )
    Table(
        "waiter",
        tables,
        Column("job_id", UUID(as_uuid=True), nullable=False),
        Column("listener", UUID(as_uuid=True), nullable=False),
        _time("expires_at"),
        PrimaryKeyConstraint("job_id", "listener", name="waiter_pkey"),
        prefixes=["UNLOGGED"],
    )


def _keys_and_tasks(tables: MetaData) -> None:
    unique_key = Table(
        "unique_key",
        tables,
        _key("key"),
        Column("job_id", UUID(as_uuid=True), nullable=False),
        _time("expires_at", nullable=True),
        Column("until_start", Boolean, nullable=False),
        PrimaryKeyConstraint("key", name="unique_key_pkey"),
    )
    Index("unique_key_expires_at", unique_key.c.expires_at, postgresql_where=unique_key.c.expires_at.is_not(None))
    Index("unique_key_until_start", unique_key.c.job_id, postgresql_where=unique_key.c.until_start)
    idempotency_key = Table(
        "idempotency_key",
        tables,
        Column("key_hash", BYTEA, nullable=False),
        Column("fingerprint", BYTEA, nullable=False),
        _time("expires_at"),
        Column("status", SmallInteger),
        Column("body", Text),
        Column("job_id", UUID(as_uuid=True)),
        PrimaryKeyConstraint("key_hash", name="idempotency_key_pkey"),
    )
    Index("idempotency_key_expires_at", idempotency_key.c.expires_at)
    Table(
        "task",
        tables,
        _key("name"),
        _key("queue"),
        _number("priority", SmallInteger),
        _number("max_attempts"),
        _time("updated_at"),
        Column("result_ttl", INTERVAL),
        _time("results_removed_until"),
        _number("args_version", SmallInteger),
        Column("is_sensitive", Boolean, nullable=False),
        Column("max_crashes", Integer),
        PrimaryKeyConstraint("name", name="task_pkey"),
    )


def _workers(tables: MetaData) -> None:
    Table(
        "holding",
        tables,
        Column("worker", UUID(as_uuid=True)),
        Column("number", BigInteger),
        Column("ids", ARRAY(UUID(as_uuid=True)), nullable=False),
        PrimaryKeyConstraint("worker", "number", name="holding_pkey"),
    )
    Table(
        "queue",
        tables,
        _key("name"),
        _time("paused_at", nullable=True),
        Column("concurrency", Integer),
        *(Column(f"keep_{outcome}", INTERVAL) for outcome in ("succeeded", "failed", "cancelled", "expired")),
        _time("updated_at"),
        PrimaryKeyConstraint("name", name="queue_pkey"),
    )
    Table(
        "worker",
        tables,
        Column("id", UUID(as_uuid=True), nullable=False),
        Column("hostname", Text, nullable=False),
        _number("pid"),
        Column("version", Text, nullable=False),
        Column("queues", ARRAY(Text), nullable=False),
        Column("tasks", ARRAY(Text), nullable=False),
        _number("concurrency"),
        _time("started_at"),
        Column("lease", INTERVAL, nullable=False),
        _time("expires_at"),
        _number("loop_delay_ms"),
        Column("memory_bytes", BigInteger),
        Column("state", Text, nullable=False),
        Column("followed_by", UUID(as_uuid=True)),
        PrimaryKeyConstraint("id", name="worker_pkey"),
    )
    Table(
        "idle_worker",
        tables,
        _key("queue"),
        Column("worker", UUID(as_uuid=True), nullable=False),
        PrimaryKeyConstraint("queue", "worker", name="idle_worker_pkey"),
        prefixes=["UNLOGGED"],
    )
    Table(
        "duty",
        tables,
        _key("name"),
        Column("every", INTERVAL, nullable=False),
        _time("next_run_at"),
        _time("set_at"),
        _time("held_at"),
        PrimaryKeyConstraint("name", name="duty_pkey"),
    )


def _operation(tables: MetaData) -> Table:
    return Table(
        "operation",
        tables,
        Column("id", UUID(as_uuid=True), nullable=False),
        _time("at"),
        _key("verb"),
        _key("target_kind"),
        _key("target", nullable=True),
        Column("by", Text),
        _key("source"),
        Column("details", JSONB, nullable=False),
        PrimaryKeyConstraint("id", name="operation_pkey"),
    )


def _statistics(tables: MetaData) -> None:
    Table(
        "statistic",
        tables,
        _time("at"),
        _number("step"),
        _key("queue"),
        _key("task"),
        *(_number(name, BigInteger) for name in ("succeeded", "failed", "cancelled", "expired", "errors")),
        Column("duration_buckets", ARRAY(SmallInteger), nullable=False),
        Column("duration_counts", ARRAY(BigInteger), nullable=False),
        Column("wait_buckets", ARRAY(SmallInteger), nullable=False),
        Column("wait_counts", ARRAY(BigInteger), nullable=False),
        PrimaryKeyConstraint("step", "at", "queue", "task", name="statistic_pkey"),
    )
    Table(
        "backlog",
        tables,
        _time("at"),
        _time("taken_at"),
        _time("oldest_due_at", nullable=True),
        _number("step"),
        _key("queue"),
        *(_number(name, BigInteger) for name in ("waiting", "scheduled", "running")),
        PrimaryKeyConstraint("step", "at", "queue", name="backlog_pkey"),
    )
    Table(
        "statistic_mark",
        tables,
        _key("name"),
        _time("until"),
        PrimaryKeyConstraint("name", name="statistic_mark_pkey"),
    )


def _api_keys(tables: MetaData) -> None:
    key = Table(
        "api_key",
        tables,
        Column("id", UUID(as_uuid=True), nullable=False),
        _key("name"),
        Column("hash", BYTEA, nullable=False),
        Column("scopes", ARRAY(Text), nullable=False),
        Column("queues", ARRAY(Text)),
        _time("created_at"),
        Column("created_by", Text),
        *(_time(name, nullable=True) for name in ("expires_at", "revoked_at", "last_used_at")),
        PrimaryKeyConstraint("id", name="api_key_pkey"),
        UniqueConstraint("hash", name="api_key_hash"),
    )
    Index("api_key_name", key.c.name, unique=True, postgresql_where=key.c.revoked_at.is_(None))
    session = Table(
        "api_session",
        tables,
        Column("hash", BYTEA, nullable=False),
        Column("key_id", UUID(as_uuid=True), nullable=False),
        _time("created_at"),
        _time("expires_at"),
        PrimaryKeyConstraint("hash", name="api_session_pkey"),
        ForeignKeyConstraint(["key_id"], [key.c.id], name="api_session_key", ondelete="CASCADE"),
    )
    Index("api_session_key_id", session.c.key_id)
    Index("api_session_expires_at", session.c.expires_at)


def _schedules(tables: MetaData) -> Table:
    schedule = Table(
        "schedule",
        tables,
        _key("name"),
        _key("task"),
        _key("queue", nullable=True),
        Column("priority", SmallInteger),
        Column("max_attempts", Integer),
        Column("args", JSONB, nullable=False),
        _number("args_version", SmallInteger),
        Column("cron", Text, nullable=False),
        Column("timezone", Text, nullable=False),
        _key("misfire"),
        _key("overlap"),
        Column("jitter", INTERVAL, nullable=False),
        Column("is_paused", Boolean, nullable=False),
        _key("origin"),
        Column("declaration", Text),
        _time("undeclared_at", nullable=True),
        _time("next_run_at", nullable=True),
        _time("last_tick_at", nullable=True),
        Column("last_job_id", UUID(as_uuid=True)),
        _time("created_at"),
        _time("updated_at"),
        PrimaryKeyConstraint("name", name="schedule_pkey"),
    )
    Table(
        "schedule_tick",
        tables,
        _key("schedule"),
        _time("tick_at"),
        Column("job_id", UUID(as_uuid=True), nullable=False),
        _time("fired_at"),
        PrimaryKeyConstraint("schedule", "tick_at", name="schedule_tick_pkey"),
        ForeignKeyConstraint(["schedule"], [schedule.c.name], name="schedule_tick_schedule", ondelete="CASCADE"),
    )
    return schedule
