"""`manage.py rowlock_migrate`: `rowlock migrate` on the database of Django's settings."""

from __future__ import annotations

from rowlock.integrations.django.management.commandline import RowlockCommand


class Command(RowlockCommand):
    """`rowlock migrate`."""

    help = "Create or upgrade the tables of Rowlock, as `manage.py migrate` does too."

    def words(self, backend: str, options: list[str]) -> list[str]:  # noqa: ARG002  # the database's URL says it
        """With the options as they are."""
        return ["migrate", *options]
