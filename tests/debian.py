"""Programs of another release of Debian than the machine's: unpacked into a folder, and run with their own libraries.

Nothing is installed, and nobody needs to be root: apt only fetches, with lists and a cache of its own.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

SUITE = "trixie"
SOURCE = "deb http://deb.debian.org/debian {suite} main\n"
CACHE = Path(__file__).parent.parent / "build" / "debian"
"""Where they stay: `make clean` removes them."""


class NotToBeHad(Exception):
    """There is no apt here, or it cannot fetch the package; the message says which."""


def fetched(package: str) -> Path:
    """The folder with the package and all that it needs, as below `/`; fetched at the first call.

    Raises `NotToBeHad`.
    """
    folder = CACHE / f"{SUITE}-{package}"
    if folder.exists():
        return folder
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise NotToBeHad(f"{package} comes from Debian's {SUITE}, and there is no apt-get here.")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".coming-", dir=CACHE) as coming:
        apt = _apt(Path(coming, "apt"))
        _run([*apt, "update"], package)
        _run([*apt, "install", "--download-only", "--yes", "--no-install-recommends", package], package)
        whole = Path(coming, "whole")
        for archive in Path(coming, "apt/archives").glob("*.deb"):
            _run(["dpkg", "--extract", str(archive), str(whole)], package)
        if not folder.exists():  # else somebody else was faster
            whole.rename(folder)
    return folder


def command(folder: Path, program: Path) -> list[str]:
    """The command that runs a program of the folder with the folder's libraries."""
    loader = next(folder.glob("usr/lib/*/ld-linux*.so.*"), None) or next(folder.glob("usr/lib64/ld-linux*.so.*"))
    libraries = ":".join(str(path) for path in folder.glob("usr/lib/*-linux-gnu*"))
    return [str(loader), "--library-path", libraries, "--argv0", str(program), str(program)]


def _apt(folder: Path) -> list[str]:
    """apt-get, as if nothing were installed, and with nothing but the suite's main packages to choose from."""
    for name in ("archives/partial", "lists/partial"):
        folder.joinpath(name).mkdir(parents=True)
    sources, installed = folder / "sources.list", folder / "status"
    sources.write_text(SOURCE.format(suite=SUITE))
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


def _run(command: Sequence[str], package: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise NotToBeHad(f"{package} of Debian's {SUITE} cannot be fetched: {done.stdout.strip()[-500:]}")
