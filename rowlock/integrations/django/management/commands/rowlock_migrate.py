"""`manage.py rowlock_migrate`: `rowlock migrate` on the database of Django's settings."""

from __future__ import annotations

from rowlock.integrations.django.management.commandline import RowlockCommand


class Command(RowlockCommand):
    """`rowlock migrate`."""

    help = "Create or upgrade the tables of Rowlock, like `manage.py migrate`."

    def words(self, backend: str, options: list[str]) -> list[str]:  # noqa: ARG002  # the database URL names it
        """Add the options unchanged."""
        return ["migrate", *options]
