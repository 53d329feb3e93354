"""Makes an environment per system, with pinned versions, in a cache folder outside the repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

REPOSITORY = Path(__file__).parents[2]
DRIVERS = Path(__file__).parent / "drivers"
NODE = "26"
INSTALL_SECONDS = 900


class Unavailable(Exception):
    """A system cannot be run here; the message says why."""


class Environment(Protocol):
    """Where a system's driver runs."""

    def ready(self) -> Environment:
        """Make it if it is not there yet. Raises `Unavailable`."""
        ...

    def command(self, driver: str) -> list[str]:
        """The command line that runs a driver."""
        ...

    def folder(self) -> Path:
        """The working directory of its programs."""
        ...

    def versions(self) -> dict[str, str]:
        """What is installed: the interpreter and the packages that matter."""
        ...


def cache() -> Path:
    """The folder of the environments: `ROWLOCK_BENCHMARKS_CACHE`, or one in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("ROWLOCK_BENCHMARKS_CACHE") or Path(home, "rowlock-benchmarks"))


@dataclass(frozen=True, slots=True)
class Own:
    """The environment that this program runs in: Rowlock's."""

    def ready(self) -> Own:
        """It is."""
        return self

    def command(self, driver: str) -> list[str]:
        """This interpreter."""
        return [sys.executable, "-m", f"benchmarks.rivals.drivers.{driver}"]

    def folder(self) -> Path:
        """The repository."""
        return REPOSITORY

    def versions(self) -> dict[str, str]:
        """The versions of what the drivers import."""
        return _python_versions(sys.executable, ["rowlock", "asyncpg", "uvloop", "msgspec"])


@dataclass(frozen=True, slots=True)
class Virtual:
    """A virtual environment of pinned packages: of this Python if the system runs on it, else of a newer one."""

    packages: tuple[str, ...]
    oldest_python: tuple[int, int] = (3, 10)

    def ready(self) -> Virtual:
        """Make it with `venv` and `pip`."""
        folder = self._place()
        if not (folder / ".installed").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            _run([_python(self.oldest_python), "-m", "venv", str(folder)])
            _run(
                [self._interpreter(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *self.packages]
            )
            (folder / ".installed").touch()
        return self

    def command(self, driver: str) -> list[str]:
        """Its interpreter."""
        return [self._interpreter(), "-m", f"benchmarks.rivals.drivers.{driver}"]

    def folder(self) -> Path:
        """The repository, where the drivers are."""
        return REPOSITORY

    def versions(self) -> dict[str, str]:
        """The versions of the pinned packages."""
        return _python_versions(self._interpreter(), [re.split(r"[=\[]", package)[0] for package in self.packages])

    def _place(self) -> Path:
        label = re.sub(r"\[.*?\]", "", self.packages[0]).replace("==", "-")
        return cache() / f"{label}-python{'.'.join(map(str, _python_version(_python(self.oldest_python))))}"

    def _interpreter(self) -> str:
        return str(self._place() / "bin" / "python")


@dataclass(frozen=True, slots=True)
class WithRedis(Virtual):
    """A virtual environment that is of use only where a Redis server is installed."""

    def ready(self) -> Virtual:
        """Look for `redis-server` first."""
        if shutil.which("redis-server") is None:
            raise Unavailable("redis-server is not installed")
        return Virtual.ready(self)


@dataclass(frozen=True, slots=True)
class Npm:
    """A folder of npm packages, with a Node of its own: an older one would silently get older releases."""

    package: str

    def ready(self) -> Npm:
        """Make it with `npm`."""
        folder = self.folder()
        if not (folder / ".installed").exists():
            if shutil.which("npm") is None:
                raise Unavailable("npm is not installed")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "package.json").write_text('{"private": true}\n')
            _run(
                ["npm", "install", "--no-audit", "--no-fund", "--save-exact", f"node@{NODE}", self.package],
                folder,
            )
            _run([self._node(), "--version"])
            (folder / ".installed").touch()
        return self

    def command(self, driver: str) -> list[str]:
        """Its own Node."""
        return [self._node(), str(DRIVERS / f"{driver}.mjs")]

    def folder(self) -> Path:
        """Where the packages are: the drivers look for them in the working directory."""
        return cache() / f"{self.package.replace('@', '-')}-node{NODE}"

    def versions(self) -> dict[str, str]:
        """The versions of Node and of the package."""
        name = self.package.split("@")[0]
        manifest = json.loads((self.folder() / "node_modules" / name / "package.json").read_text())
        return {"node": _output([self._node(), "--version"]).lstrip("v"), name: str(manifest["version"])}

    def _node(self) -> str:
        return str(self.folder() / "node_modules" / "node" / "bin" / "node")


def _python(oldest: tuple[int, int]) -> str:
    """An interpreter that is new enough: this one, else the newest that is found."""
    if sys.version_info[:2] >= oldest:
        return sys.executable
    found = [path for minor in range(14, oldest[1] - 1, -1) if (path := shutil.which(f"python3.{minor}"))]
    homes = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions").glob("3.*/bin/python")
    for path in [*found, *map(str, homes)]:
        try:
            if _python_version(path) >= oldest:
                return path
        except Unavailable:  # a shim of a version that is not there
            continue
    raise Unavailable(f"it needs Python {'.'.join(map(str, oldest))} or newer, and none was found")


def _python_version(python: str) -> tuple[int, int]:
    if python == sys.executable:
        return sys.version_info[:2]
    major, minor = _output([python, "-c", "import sys; print(*sys.version_info[:2])"]).split()
    return int(major), int(minor)


def _python_versions(python: str, packages: Sequence[str]) -> dict[str, str]:
    code = (
        "import json, sys, importlib.metadata as m\n"
        "found = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "print(json.dumps({'python': sys.version.split()[0]} | {p: found[p] for p in sys.argv[1:] if p in found}))"
    )
    versions: dict[str, str] = json.loads(_output([python, "-c", code, *packages]))
    return versions


def _output(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{command[0]} does not run: {error}") from error


def _run(command: Sequence[str], folder: Path | None = None) -> None:
    try:
        subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).strip().splitlines()[-1:]
        raise Unavailable(f"`{' '.join(command[:4])} …` failed: {' '.join(last)}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"`{' '.join(command[:4])} …` failed: {error}") from error
