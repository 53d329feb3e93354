"""The `rowlock` command as manage.py commands, on the database of Django's settings."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from rowlock.cli.root import run
from rowlock.errors import RowlockError
from rowlock.integrations.django.queues import DEFAULT, database_of, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence


class RowlockCommand(BaseCommand):
    """A command of `rowlock` with all of its options; `--backend` names the task backend whose queue it uses."""

    requires_system_checks: Sequence[str] = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Run from the command line, and exit."""
        own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        own.add_argument("--backend", default=DEFAULT)
        for option in ("--settings", "--pythonpath"):  # manage.py has read these already
            own.add_argument(option)
        given, others = own.parse_known_args(argv[2:])
        raise SystemExit(self._run(given.backend, others))

    def add_arguments(self, parser: Any) -> None:  # noqa: ANN401  # Django's parser
        """Declare `backend`, the only option of `call_command`."""
        parser.add_argument("--backend", default=DEFAULT)

    def handle(self, *_args: object, backend: str = DEFAULT, **_options: object) -> None:
        """Run from `call_command`."""
        if code := self._run(backend, []):
            raise SystemExit(code)

    def words(self, backend: str, options: list[str]) -> list[str]:
        """Build the words of the `rowlock` command for a task backend, including the given options."""
        raise NotImplementedError

    def _run(self, backend: str, options: list[str]) -> int:
        try:
            os.environ["ROWLOCK_DATABASE_URL"] = settings_of(database_of(backend)).database_url or ""
            words = self.words(backend, options)
        except RowlockError as error:
            self.stderr.write(str(error))
            return 2
        return run(words)
