"""Rowlock in Django: a backend for its Tasks framework, and the queue for ordinary tasks.

Django imports it at start, before the settings are ready: modules that need the settings are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rowlock.integrations.django.backend import RowlockBackend
    from rowlock.integrations.django.queues import get_queue

__all__ = ["RowlockBackend", "get_queue"]


def __getattr__(name: str) -> object:
    if name == "RowlockBackend":
        from rowlock.integrations.django.backend import RowlockBackend  # noqa: PLC0415  # needs the Tasks framework

        return RowlockBackend
    if name == "get_queue":
        from rowlock.integrations.django.queues import get_queue  # noqa: PLC0415  # see above

        return get_queue
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
