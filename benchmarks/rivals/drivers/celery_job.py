"""The job that Celery runs, and the application that its worker processes import."""

from __future__ import annotations

import os

from billiard import current_process  # type: ignore[import-not-found]  # lives in an environment of its own
from celery import Celery  # type: ignore[import-not-found]  # see above

from benchmarks.rivals.drivers.slots import count

app = Celery("benchmark", broker=os.environ["BENCHMARK_BROKER"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=int(os.environ.get("BENCHMARK_PREFETCH", "4")),
    worker_hijack_root_logger=False,
)


def handle(number: int, body: str) -> None:  # noqa: ARG001  # the arguments are there to be carried
    """Count the job, in the slot of this process of the pool."""
    count(current_process().index)


job = app.task(name="job")(handle)
