"""A PgBouncer in transaction mode in front of the tests' server, 1.21 or newer: found, or fetched from Debian."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from rowlock.embedded.programs import give_to_server_user, server_user
from tests import debian

OLDEST = (1, 21)
"""The first version that knows the prepared statements of drivers in transaction mode."""

PORT = 6432
SECONDS = 10.0

# server_round_robin: each transaction goes to another connection of the server's than the one before, so that whatever
# relies on a session fails. No startup parameter is ignored: none that PgBouncer refuses may be sent.
_INI = """
[databases]
* = host={server} port=5432

[pgbouncer]
pool_mode = transaction
listen_addr =
listen_port = {port}
unix_socket_dir = {folder}
unix_socket_mode = 0777
auth_type = trust
auth_file = {folder}/users.txt
max_client_conn = 1000
default_pool_size = 20
server_round_robin = 1
log_connections = 0
log_disconnections = 0
logfile = {folder}/pgbouncer.log
{more}
"""


@cache
def command() -> tuple[str, ...]:
    """What starts PgBouncer. Raises `debian.NotToBeHad` where there is none."""
    installed = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if installed is not None and _version([installed]) >= OLDEST:
        return (installed,)
    folder = debian.fetched("pgbouncer")
    return tuple(debian.command(folder, folder / "usr/sbin/pgbouncer"))


class PgBouncer:
    """One that runs for the time of a `with` block, in a folder that the server's user owns."""

    def __init__(self, folder: Path, server: str, **settings: object) -> None:
        self.folder = folder
        user = server_user()
        settings = {"max_prepared_statements": 200} | settings | ({} if user is None else {"user": user.pw_name})
        more = "\n".join(f"{name} = {value}" for name, value in settings.items())
        ini = _INI.format(server=server, port=PORT, folder=folder, more=more)
        (folder / "pgbouncer.ini").write_text(ini)
        (folder / "users.txt").write_text('"postgres" ""\n"outsider" ""\n')
        for name in ("pgbouncer.ini", "users.txt"):
            give_to_server_user(folder / name)

    def url(self, database: str) -> str:
        """The DSN of a database, by way of the pooler."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.folder))}&port={PORT}"

    def __enter__(self) -> Self:
        self._process = subprocess.Popen([*command(), "-q", str(self.folder / "pgbouncer.ini")])
        until = time.monotonic() + SECONDS
        while not (self.folder / f".s.PGSQL.{PORT}").exists():
            if self._process.poll() is not None or time.monotonic() > until:
                self._process.kill()
                raise RuntimeError(f"PgBouncer does not run: {(self.folder / 'pgbouncer.log').read_text()}")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


def _version(program: list[str]) -> tuple[int, ...]:
    text = subprocess.run([*program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", text)
    return (0,) if found is None else (int(found[1]), int(found[2]))
