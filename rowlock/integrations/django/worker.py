"""The worker's application: `rowlock.integrations.django.worker:default` is the queue of the task backend `default`.

`manage.py rowlock_worker` runs it. With DJANGO_SETTINGS_MODULE set, `rowlock worker
rowlock.integrations.django.worker:default` does the same. Importing this module sets Django up, and imports the module
`tasks` of every installed application. Import tasks defined elsewhere there, or in the application's `ready()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.utils.module_loading import autodiscover_modules

from rowlock.integrations.django.queues import DEFAULT, get_queue

if TYPE_CHECKING:
    from rowlock.app import Rowlock

django.setup()
autodiscover_modules("tasks")


def __getattr__(alias: str) -> Rowlock:
    if alias != DEFAULT and alias not in getattr(settings, "TASKS", {}):
        raise AttributeError(f"TASKS has no backend {alias!r}")
    return get_queue(alias)
