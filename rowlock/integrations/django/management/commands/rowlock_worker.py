"""`manage.py rowlock_worker`: runs the jobs of Django's tasks."""

from __future__ import annotations

from importlib import import_module

from django.conf import settings

from rowlock.integrations.django.management.commandline import RowlockCommand
from rowlock.integrations.django.queues import get_queue

_MODULE = "rowlock.integrations.django.worker"


class Command(RowlockCommand):
    """`rowlock worker` for the tasks of all applications."""

    help = "Run the jobs of the project's tasks. Takes the options of `rowlock worker`: see rowlock_worker --help."

    def words(self, backend: str, options: list[str]) -> list[str]:
        """Add the backend's QUEUES and those of its tasks if --queues is missing; all queues if QUEUES is empty."""
        import_module(_MODULE)  # the tasks
        if not any(option.split("=")[0] == "--queues" for option in options):
            named = getattr(settings, "TASKS", {}).get(backend, {}).get("QUEUES", ["default"])
            queues = {"default", *(named or ["*"]), *(task.queue for task in get_queue(backend).tasks.values())}
            options = ["--queues", ",".join(sorted(queues)), *options]
        return ["worker", f"{_MODULE}:{backend}", *options]
