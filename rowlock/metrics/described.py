"""The metrics: the name, kind, labels and help text of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Described:
    """One metric, as in docs/metrics.md. A counter's name ends in `_total` where it is read."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    text: str

    @property
    def shown_name(self) -> str:
        """The name in queries; a histogram's also gets `_bucket`, `_sum` and `_count`."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


_JOB: Final = ("queue", "task")

OF_WORKERS: Final = (
    Described("rowlock_jobs_succeeded", "counter", _JOB, "Jobs that have succeeded here."),
    Described("rowlock_jobs_failed", "counter", _JOB, "Jobs that have failed here for good."),
    Described(
        "rowlock_jobs_cancelled", "counter", _JOB, "Running jobs that were cancelled, by themselves or an operator."
    ),
    Described("rowlock_attempts_failed", "counter", _JOB, "Attempts that ended in an error or a timeout of their own."),
    Described("rowlock_jobs_retried", "counter", _JOB, "Attempts that ended in an error and were retried."),
    Described("rowlock_jobs_snoozed", "counter", _JOB, "Attempts that ended with a snooze."),
    Described("rowlock_jobs_released", "counter", _JOB, "Jobs released unfinished, because the worker stopped."),
    Described(
        "rowlock_finishes_refused", "counter", _JOB, "Outcomes that came too late: another worker had the job by then."
    ),
    Described("rowlock_job_duration_seconds", "histogram", _JOB, "Duration of the attempts that ended jobs."),
    Described("rowlock_job_wait_seconds", "histogram", _JOB, "Time from a job's due time to its claim."),
    Described("rowlock_claims", "counter", (), "Claims: statements that ask for jobs."),
    Described("rowlock_claims_empty", "counter", (), "Claims that found no job."),
    Described("rowlock_claim_seconds", "counter", (), "Total duration of all claims."),
    Described("rowlock_jobs_claimed", "counter", (), "Jobs that were claimed."),
    Described("rowlock_jobs_adopted", "counter", (), "Jobs adopted from claims whose answer was lost."),
    Described("rowlock_jobs_rescued", "counter", (), "Jobs of dead workers that this worker has rescued."),
    Described("rowlock_jobs_quarantined", "counter", (), "Rescued jobs that became failed: they took workers down."),
    Described(
        "rowlock_jobs_ended_overdue", "counter", ("state",), "Waiting jobs that expired or passed their deadline."
    ),
    Described("rowlock_jobs_left_behind", "counter", (), "How often the claim cursors missed a job; should stay 0."),
    Described("rowlock_lease_renewals", "counter", (), "Renewals of the lease."),
    Described("rowlock_lease_renewals_late", "counter", (), "Renewals that ended after the next one was due."),
    Described("rowlock_lease_renewals_failed", "counter", (), "Renewals that failed and were retried."),
    Described("rowlock_leases_lost", "counter", (), "How often the worker lost its lease, and all jobs with it."),
    Described("rowlock_reconnects", "counter", ("connection",), "Reconnects, by connection."),
    Described("rowlock_worker_info", "gauge", ("worker", "version"), "1, with the worker's id and Rowlock's version."),
    Described("rowlock_worker_slots", "gauge", (), "The worker's concurrency: its number of slots."),
    Described("rowlock_worker_slots_used", "gauge", (), "Jobs that the worker runs."),
    Described("rowlock_worker_jobs_ahead", "gauge", (), "Claimed jobs that wait for a slot."),
    Described("rowlock_worker_outcomes_pending", "gauge", (), "Outcomes that wait to be recorded."),
    Described("rowlock_worker_lease_seconds", "gauge", (), "Time until the lease ends if it is not renewed."),
    Described(
        "rowlock_worker_loop_delay_seconds", "histogram", (), "Delay of the event loop, measured four times a second."
    ),
    Described("rowlock_worker_memory_bytes", "gauge", (), "Memory of the worker's process in RAM."),
)

OF_THE_API: Final = (
    Described("rowlock_database_up", "gauge", (), "Whether the database answers."),
    Described("rowlock_scrape_errors", "counter", ("part",), "How often a part of these metrics was unreadable."),
    Described("rowlock_queue_jobs", "gauge", ("queue", "state"), "Live jobs: waiting, scheduled, running, blocked."),
    Described(
        "rowlock_queue_oldest_waiting_seconds", "gauge", ("queue",), "How long the oldest waiting job has been due."
    ),
    Described("rowlock_queue_paused", "gauge", ("queue",), "1 while the queue is paused."),
    Described("rowlock_queue_workers", "gauge", ("queue",), "Live workers that claim jobs of the queue."),
    Described("rowlock_workers", "gauge", (), "Live workers."),
    Described("rowlock_dead_letters", "gauge", (), "Jobs that have failed and were not discarded."),
    Described("rowlock_jobs_unclaimed", "gauge", (), "Due jobs that no live worker would claim."),
    Described("rowlock_last_minute_jobs", "gauge", ("outcome",), "Jobs that ended in the last counted minute."),
    Described("rowlock_horizon_age_seconds", "gauge", (), "Age of the oldest open transaction of the whole server."),
    Described("rowlock_table_live_rows", "gauge", ("table",), "Rows of a table, as vacuum counts them."),
    Described("rowlock_table_dead_rows", "gauge", ("table",), "Dead rows of a table that vacuum has not removed yet."),
    Described("rowlock_table_bytes", "gauge", ("table",), "Size of a table with its indexes."),
    Described("rowlock_http_requests", "counter", ("method", "route", "status"), "Requests to the API: 2xx, 4xx, …"),
    Described("rowlock_http_request_duration_seconds", "histogram", ("method", "route"), "Duration of the requests."),
)

OF_BOTH: Final = (
    Described("rowlock_pool_connections", "gauge", ("pool", "state"), "Connections of a pool: used, idle."),
    Described("rowlock_pool_limit", "gauge", ("pool",), "The most connections of a pool."),
)

DESCRIBED: Final[Mapping[str, Described]] = {one.name: one for one in (*OF_WORKERS, *OF_THE_API, *OF_BOTH)}
