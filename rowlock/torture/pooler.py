"""The PgBouncer of a run, in transaction mode: killed, and started again."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from rowlock.embedded.folders import PORT
from rowlock.embedded.programs import give_to_server_user, server_user

OLDEST: Final = (1, 21)
"""The first version that keeps drivers' prepared statements in transaction mode."""
POOLER_PORT: Final = 6432
START_SECONDS: Final = 10.0
_VERSION: Final = re.compile(r"PgBouncer (\d+)\.(\d+)")
_INI: Final = """
[databases]
* = host={server} port={server_port}

[pgbouncer]
pool_mode = transaction
listen_addr =
listen_port = {port}
unix_socket_dir = {folder}
unix_socket_mode = 0777
auth_type = trust
auth_file = {folder}/users.txt
max_client_conn = 500
default_pool_size = 20
max_prepared_statements = 200
server_login_retry = 1
server_round_robin = 1
log_connections = 0
log_disconnections = 0
logfile = {folder}/pgbouncer.log
{user}
"""


def find_pgbouncer() -> str | None:
    """Find a PgBouncer that is new enough, in PATH and where packages put it."""
    places = [None, "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"]
    for found in filter(None, (shutil.which("pgbouncer", path=place) for place in places)):
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        version = _VERSION.search(said)
        if version is not None and (int(version[1]), int(version[2])) >= OLDEST:
            return found
    return None


class Pooler:
    """A PgBouncer in front of the server whose socket is in the folder `server`."""

    def __init__(self, program: str, folder: Path, server: Path) -> None:
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        give_to_server_user(folder)
        user = server_user()
        line = "" if user is None else f"user = {user.pw_name}"
        ini = _INI.format(server=server, server_port=PORT, port=POOLER_PORT, folder=folder, user=line)
        for name, text in (("pgbouncer.ini", ini), ("users.txt", '"postgres" ""\n')):
            (folder / name).write_text(text)
            give_to_server_user(folder / name)

    @property
    def socket(self) -> Path:
        """The socket on which it listens."""
        return self._folder / f".s.PGSQL.{POOLER_PORT}"

    def start(self) -> None:
        """Start it if it is not running, and wait until it listens."""
        if self._process is not None and self._process.poll() is None:
            return
        for file in self._folder.glob(".s.PGSQL.*"):
            file.unlink()
        command = [self._program, "-q", str(self._folder / "pgbouncer.ini")]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while not self.socket.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self._folder / "pgbouncer.log").read_text(errors="replace")
                raise RuntimeError(f"PgBouncer did not start. Its log:\n{log}")
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


__all__ = ["Pooler", "find_pgbouncer"]
