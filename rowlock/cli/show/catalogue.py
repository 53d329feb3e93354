"""The names of all parts of the schema, as the migrations make them, and the doctor's check of the parts that exist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rowlock.cli.show.findings import Finding, Row, fail, ok, warn

_NAMES: Final = {
    "table": """
        api_key api_session attempt attempt_default attempt_log attempt_log_default backlog duty finished_job
        finished_job_default holding idempotency_key idle_worker job operation progress queue rowlock_version schedule
        schedule_tick statistic statistic_mark task unique_key waiter worker
    """,
    "view": """
        archive_day jobs
    """,
    "index": """
        api_key_hash api_key_name api_key_pkey api_session_expires_at api_session_key_id api_session_pkey
        attempt_finished_at attempt_job_id attempt_log_job_id backlog_pkey duty_pkey finished_job_finished_at
        finished_job_id finished_job_unsuccessful holding_pkey idempotency_key_expires_at idempotency_key_pkey
        idle_worker_pkey job_cancel job_claim job_ends job_pkey job_suspect operation_pkey
        operation_target progress_pkey queue_pkey rowlock_version_pkc schedule_next_run_at schedule_pkey
        schedule_tick_pkey statistic_mark_pkey statistic_pkey task_pkey unique_key_expires_at unique_key_pkey
        unique_key_until_start waiter_pkey worker_pkey
    """,
    "constraint": """
        api_key.api_key_hash api_key.api_key_hash_is_sha256 api_key.api_key_pkey api_key.api_key_queues
        api_key.api_key_scopes api_key.api_key_times_are_readable api_session.api_session_key
        api_session.api_session_pkey api_session.api_session_times_are_readable attempt.attempt_outcome
        attempt.attempt_times_are_readable attempt_log.attempt_log_times_are_readable backlog.backlog_counts
        backlog.backlog_pkey backlog.backlog_times_are_readable duty.duty_pkey
        finished_job.finished_job_is_readable finished_job.finished_job_state_is_final
        holding.holding_pkey idempotency_key.idempotency_key_pkey idle_worker.idle_worker_pkey
        job.job_attempts_count_up job.job_blocked_is_out_of_reach
        job.job_is_readable job.job_pkey job.job_priority_0_to_9 job.job_queue_length job.job_state_is_live
        job.job_worker_iff_running operation.operation_pkey operation.operation_source
        operation.operation_times_are_readable progress.progress_fraction_0_to_1 progress.progress_pkey
        progress.progress_times_are_readable queue.queue_concurrency queue.queue_keep queue.queue_pkey
        queue.queue_times_are_readable rowlock_version.rowlock_version_pkc schedule.schedule_args_are_an_object
        schedule.schedule_jitter schedule.schedule_max_attempts schedule.schedule_misfire
        schedule.schedule_origin schedule.schedule_overlap schedule.schedule_pkey
        schedule.schedule_priority_0_to_9 schedule.schedule_times_are_readable schedule_tick.schedule_tick_pkey
        schedule_tick.schedule_tick_schedule schedule_tick.schedule_tick_times_are_readable
        statistic.statistic_counts statistic.statistic_pkey statistic.statistic_times_are_readable
        statistic_mark.statistic_mark_pkey statistic_mark.statistic_mark_times_are_readable task.task_pkey
        task.task_times_are_readable unique_key.unique_key_length unique_key.unique_key_pkey waiter.waiter_pkey
        worker.worker_pkey worker.worker_state worker.worker_times_are_readable
    """,
    "function": """
        archive_windows attempts_of begin_lease check_metadata check_tags check_unique checked_options create_partition
        create_partitions drop_day enqueue error_kind find_job finished_among finished_between is_metadata
        is_too_deep last_end_to_come leave_trace lock_archive lock_waiting logs_of missing_partitions
        must_be_removed past_retention recorded_among retain_day retain_default take_key uuid7 what_stays
    """,
}
PARTS: Final = frozenset((kind, name) for kind, names in _NAMES.items() for name in names.split())
"""All tables, views, indexes, constraints (with table) and functions: a test compares them with a migrated schema."""


def judge_catalogue(rows: Sequence[Row]) -> list[Finding]:
    """Find missing and unused parts, from the rows of `doctor_catalogue.sql`. Parts that users added are ignored."""
    found: list[Finding] = []
    there = {(row["kind"], row["name"]) for row in rows}
    unheeded = [(row["kind"], row["name"]) for row in rows if not row["is_heeded"]]
    if missing := PARTS - there:
        found.append(
            _failed(f"missing: {_named(missing)}", "Create them again: rowlock migrate --sql prints the statements.")
        )
    if indexes := [
        part for part in unheeded if part[0] == "partition's index" or (part[0] == "index" and part in PARTS)
    ]:
        found.append(_failed(f"invalid, and not used: {_named(indexes)}", "REINDEX INDEX CONCURRENTLY …; for each."))
    if leftover := [part for part in unheeded if part[0] == "index" and part not in PARTS]:
        detail = f"invalid, but still maintained: {_named(leftover)}"
        found.append(warn("catalogue", detail, "DROP INDEX …; for each, unless it is being built now."))
    if constraints := [part for part in unheeded if part[0] == "constraint" and part in PARTS]:
        remedy = "ALTER TABLE … VALIDATE CONSTRAINT …; for each, once no row violates it."
        found.append(_failed(f"not validated: {_named(constraints)}", remedy))
    if partitions := [part for part in unheeded if part[0] == "partition"]:
        remedy = "ALTER TABLE … ATTACH PARTITION …; for each, with its day in UTC; or drop it."
        found.append(_failed(f"detached from the archive: {_named(partitions)}", remedy))
    return found or [ok("catalogue", "all tables, views, indexes, constraints and functions exist, by name")]


def _failed(detail: str, remedy: str) -> Finding:
    return fail("catalogue", detail, remedy)


def _named(parts: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{kind} {name}" for kind, name in sorted(parts))
