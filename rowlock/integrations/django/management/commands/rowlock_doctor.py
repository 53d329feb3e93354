"""`manage.py rowlock_doctor`: `rowlock doctor` on the database of Django's settings."""

from __future__ import annotations

from rowlock.integrations.django.management.commandline import RowlockCommand


class Command(RowlockCommand):
    """`rowlock doctor`."""

    help = "Check the settings, the server, the tables and the workers of Rowlock."

    def words(self, backend: str, options: list[str]) -> list[str]:  # noqa: ARG002  # the database URL names it
        """Add the options unchanged."""
        return ["doctor", *options]
