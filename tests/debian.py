"""Programs of another release of Debian than the machine's: unpacked into a folder, and run with their own libraries.

Nothing is installed, and nobody needs to be root: apt only fetches, with lists and a cache of its own.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

APT = Path("/etc/apt")
CACHE = Path(__file__).parent.parent / "build" / "debian"
"""Where they stay: `make clean` removes them."""


class NotToBeHad(Exception):
    """There is no apt here, or it cannot fetch the package; the message says which."""


def fetched(package: str, suite: str = "trixie") -> Path:
    """The folder with the package and all that it needs, as below `/`; fetched at the first call.

    Raises `NotToBeHad`.
    """
    folder = CACHE / f"{suite}-{package}"
    if folder.exists():
        return folder
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise NotToBeHad(f"{package} comes from Debian's {suite}, and there is no apt-get here.")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".coming-", dir=CACHE) as coming:
        apt = _apt(Path(coming, "apt"), suite)
        _run([*apt, "update"], f"the list of Debian's {suite}")
        _run(
            [*apt, "install", "--download-only", "--yes", "--no-install-recommends", package],
            f"{package} of Debian's {suite}",
        )
        whole = Path(coming, "whole")
        for archive in Path(coming, "apt/archives").glob("*.deb"):
            _run(["dpkg", "--extract", str(archive), str(whole)], archive.name)
        if not folder.exists():  # else somebody else was faster
            whole.rename(folder)
    return folder


def command(folder: Path, program: Path) -> list[str]:
    """The command that runs a program of the folder with the folder's libraries."""
    return [*_loader(folder), "--argv0", str(program), str(program)]


def runnable(folder: Path, programs: Path) -> Path:
    """Have all programs of this part of the folder run by their own names; return where they are."""
    hidden = programs / ".programs"
    hidden.mkdir(exist_ok=True)
    for program in [path for path in programs.iterdir() if path.is_file() and not (hidden / path.name).exists()]:
        shutil.copy2(program, hidden)
        loader = shlex.join(_loader(folder))
        script = program.with_name(f".{program.name}.sh")
        script.write_text(f'#!/bin/sh\nexec {loader} --argv0 "$0" {shlex.quote(str(hidden / program.name))} "$@"\n')
        script.chmod(0o755)
        script.rename(program)
    return programs


def _loader(folder: Path) -> list[str]:
    loader = next(path for place in ("*", "../lib64") for path in folder.glob(f"usr/lib/{place}/ld-linux*.so.*"))
    return [str(loader), "--library-path", ":".join(str(path) for path in folder.glob("usr/lib/*-linux-gnu*"))]


def _apt(folder: Path, suite: str) -> list[str]:
    """apt-get, as if nothing were installed, and with nothing but the suite's main packages to choose from."""
    for name in ("archives/partial", "lists/partial"):
        folder.joinpath(name).mkdir(parents=True)
    sources, installed = folder / "sources.list", folder / "status"
    sources.write_text(f"deb {_mirror()} {suite} main\n")
    installed.touch()
    options = {
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
        "Dir::Cache": str(folder),
        "Dir::Cache::archives": str(folder / "archives"),
        "Dir::Etc::sourcelist": str(sources),
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
        "Dir::State": str(folder),
        "Dir::State::lists": str(folder / "lists"),
        "Dir::State::status": str(installed),
        "Acquire::Languages": "none",
    }
    return ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]


def _mirror() -> str:
    """Where this machine's own apt fetches Debian's packages."""
    for file in (APT / "sources.list", *sorted(APT.glob("sources.list.d/*"))):
        found = re.search(r"https?://\S+/debian/?(?=\s)", file.read_text()) if file.is_file() else None
        if found:
            return found[0]
    raise NotToBeHad(f"The sources in {APT} name no mirror of Debian.")


def _run(command: Sequence[str], what: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise NotToBeHad(f"{what} cannot be fetched: {done.stdout.strip()[-500:]}")
