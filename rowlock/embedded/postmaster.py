"""Find the live server of a data folder: read `postmaster.pid`, and check whether it is stale."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmaster:
    """The contents of a server's `postmaster.pid`."""

    pid: int
    socket_dir: Path
    is_ready: bool


def find_postmaster(data: Path) -> Postmaster | None:
    """Find the live server on this data folder; None if there is none, or if `postmaster.pid` is stale."""
    lines = [line.strip() for line in _read_pid_file(data)]
    if not lines or not lines[0].isdecimal() or not is_postmaster(int(lines[0]), data):
        return None
    lines += [""] * 8
    return Postmaster(pid=int(lines[0]), socket_dir=Path(lines[4]), is_ready=lines[7] == "ready")


def is_postmaster(pid: int, data: Path) -> bool:
    """Whether this process is alive and a server on this folder; another program may have got its number since."""
    if not _is_process(pid):
        return False
    if Path("/proc/self/cwd").exists():
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == data.resolve()
        except OSError:  # gone meanwhile, a zombie, or another user's
            return False
    listed = subprocess.run(["/bin/ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False)
    return "postgres" in listed.stdout and str(data) in listed.stdout


def remove_pid_file_of_a_stranger(data: Path) -> None:
    """Remove a `postmaster.pid` that names another program's live process: the server would refuse to start."""
    # PostgreSQL itself handles an unused number, after checking that no shared memory is in use. A number that another
    # program has got since (usual after a container's restart) would make it refuse for ever.
    lines = _read_pid_file(data)
    if lines and lines[0].strip().isdecimal() and _is_process(int(lines[0])) and find_postmaster(data) is None:
        (data / "postmaster.pid").unlink(missing_ok=True)


def _read_pid_file(data: Path) -> list[str]:
    # https://www.postgresql.org/docs/current/storage-file-layout.html: process id, data folder, start time, port,
    # socket folder, address, shared memory; and, not on that page, a status such as "ready".
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
