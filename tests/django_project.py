"""A Django project for the tests: its settings, its tasks, and a database of the test's own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import django
import pytest
from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

if not settings.configured:
    settings.configure(
        INSTALLED_APPS=["rowlock.integrations.django"],
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "none"}},
        USE_TZ=True,
    )
    django.setup()

TASKS = {
    "default": {
        "BACKEND": "rowlock.integrations.django.RowlockBackend",
        "QUEUES": ["default", "email"],
        "OPTIONS": {"max_attempts": 3, "backoff": [0]},
    }
}


def settings_of(url: str) -> dict[str, Any]:
    """The entry of DATABASES for a URL of the test server."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path[1:],
        "USER": parts.username,
        "HOST": query["host"][0],
        "PORT": query["port"][0],
    }


@contextmanager
def project(**databases: dict[str, Any]) -> Iterator[None]:
    """The project with these databases, as if Django had begun with them."""
    from django.db import connections

    before = connections.settings
    connections.close_all()
    names = [*before, *databases]
    for name in names:
        if hasattr(connections._connections, name):
            delattr(connections._connections, name)
    connections.settings = connections.configure_settings({"default": databases["default"], **databases})
    try:
        yield
    finally:
        connections.close_all()
        for name in names:
            if hasattr(connections._connections, name):
                delattr(connections._connections, name)
        connections.settings = before


@contextmanager
def allowing_async() -> Iterator[None]:
    """Let Django's connection be used where an event loop runs, as `async` tests of synchronous code do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        yield
