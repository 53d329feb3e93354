"""The folders of servers: the requested folder, or one that the server's user can reach."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from rowlock.embedded.programs import SYSTEM_DIR, can_enter, give_to_server_user, make_system_dir, server_user
from rowlock.errors import ConfigurationError

PORT = 5432  # names the socket; no TCP port is opened
_SOCKET_PATH_BYTES = 103  # macOS allows 103, Linux 107


def make_private_directory(prefix: str = "rowlock-") -> Path:
    """Create a temporary folder that only the servers' user (and root) may enter; the caller removes it."""
    user = server_user()
    places = [Path(tempfile.gettempdir()), Path("/tmp"), SYSTEM_DIR]  # noqa: S108  # mkdtemp makes the name
    parent = places[0] if user is None else next((place for place in places[:2] if can_enter(user, place)), places[2])
    if parent == SYSTEM_DIR:
        make_system_dir()
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    give_to_server_user(folder)
    return folder


def reachable_location(data_dir: Path) -> Path:
    """Choose the folder itself or, if the server's user cannot reach it, one below `SYSTEM_DIR` with a derived name."""
    user = server_user()
    if user is None:
        return data_dir
    nearest = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    if not nearest.is_dir() or can_enter(user, nearest):
        return data_dir
    return SYSTEM_DIR / hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]


def make_location(location: Path) -> None:
    """Create the folder and its missing parents for the server's user, and keep it out of Git."""
    if location.is_relative_to(SYSTEM_DIR):
        make_system_dir()
    if not location.exists():
        missing = [path for path in location.parents if not path.exists()]
        location.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (location, *missing):
            give_to_server_user(path)
    ignore = location / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")


def make_socket_dir(location: Path) -> Path:
    """Create the folder of a server's socket: the same at each start, open only to the server's user and root."""
    folder = location / "run"
    if len(os.fsencode(folder)) + len(f"/.s.PGSQL.{PORT}") > _SOCKET_PATH_BYTES or re.search(r"[,\"\\]", str(folder)):
        name = hashlib.sha256(os.fsencode(location)).hexdigest()[:16]
        folder = Path("/tmp", f"rowlock-{name}")  # noqa: S108  # its owner is checked below
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    user = server_user()
    owners = {os.geteuid()} if user is None else {0, user.pw_uid}
    if folder.is_symlink() or not folder.is_dir() or status.st_uid not in owners:
        raise ConfigurationError(f"{folder}, the folder of the server's socket, belongs to another user. Remove it.")
    folder.chmod(0o700)
    give_to_server_user(folder)
    return folder
