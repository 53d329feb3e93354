"""Run `alembic upgrade head` and `alembic check` on a temporary server: `python -m tests.alembic_check`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rowlock.embedded import temporary_server

_ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Answer with the exit code of the first of the two commands that fails, else 0."""
    with temporary_server() as server:
        environment = os.environ | {"ROWLOCK_DATABASE_URL": server.url}
        for words in (["upgrade", "head"], ["check"]):
            print("alembic", *words, flush=True)
            command = [sys.executable, "-m", "alembic", "-c", str(_ROOT / "alembic.ini"), *words]
            code = subprocess.run(command, cwd=_ROOT, env=environment, check=False).returncode
            if code != 0:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
