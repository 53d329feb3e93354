"""A run that is interrupted, at named points, leaves no process, no folder and no shared memory behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rowlock.errors import DatabaseUnavailable
from rowlock.torture import server
from rowlock.torture.disk import Volume
from tests.acceptance.processes import ROOT

SECONDS = 120


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for temporary files, short enough for sockets, that the server's user may enter."""
    made = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))  # a socket's path is short
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def is_initializing(place: Path, _: Path) -> bool:
    return bool([*place.glob("rowlock-torture-*/disk/a/data/PG_VERSION")])


def is_upgrading(place: Path, _: Path) -> bool:
    return bool([*place.glob("rowlock-torture-*/disk/a/.s.PGSQL.*")])


def is_copying(place: Path, _: Path) -> bool:
    return bool([*place.glob("rowlock-torture-*/disk/b/data/*")])


def is_healing(_: Path, output: Path) -> bool:
    return "healing" in output.read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "is_reached, options, number, is_repeated",
    [
        (is_initializing, [], signal.SIGINT, True),
        (is_initializing, [], signal.SIGTERM, False),
        (is_upgrading, [], signal.SIGTERM, True),
        (is_copying, ["--only", "failover", "--times", "20"], signal.SIGTERM, False),
        (is_healing, ["--only", "clock", "--minutes", "0.2"], signal.SIGTERM, False),
    ],
    ids=[
        "start-up, SIGINTs",
        "start-up",
        "upgrade, SIGTERMs",
        "a standby's copy",
        "healing",
    ],
)
def test_an_interrupted_run_leaves_nothing_behind(
    place: Path,
    is_reached: Callable[[Path, Path], bool],
    options: list[str],
    number: signal.Signals,
    *,
    is_repeated: bool,
) -> None:
    output = place / "output"
    command = [sys.executable, "-m", "rowlock", "torture", "--verbose", *options]
    environment = {**os.environ, "TMPDIR": str(place), "PYTHONUNBUFFERED": "1"}
    before = server.faketime_files()
    with (
        output.open("wb") as file,
        subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=environment) as process,
    ):
        try:
            until = time.monotonic() + SECONDS
            while not is_reached(place, output) and process.poll() is None and time.monotonic() < until:
                time.sleep(0.002)
            assert process.poll() is None, output.read_text()
            assert is_reached(place, output), output.read_text()
            process.send_signal(number)
            while is_repeated and process.poll() is None and time.monotonic() < until:
                process.send_signal(number)
                time.sleep(0.05)
            process.wait(SECONDS)
        finally:
            process.kill()
    said = output.read_text()
    assert process.returncode in ({130, -number} if is_repeated else {130}), said  # a signal may hit its last moment
    assert "Traceback" not in said, said
    assert "never retrieved" not in said, said
    assert [file.name for file in place.iterdir()] == ["output"], said
    assert not {file for file in server.faketime_files() - before if not is_alive(file)}


def is_alive(file: Path) -> bool:
    return Path("/proc", file.name.rpartition("_")[2]).exists()


def test_the_shared_memory_of_dead_processes_goes_and_that_of_others_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SHARED_MEMORY", tmp_path)
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    names = [f"{kind}_{pid}" for kind in ("faketime_shm", "sem.faketime_sem") for pid in (dead.pid, os.getpid())]
    for name in (*names, "another"):
        (tmp_path / name).touch()
    server.sweep_dead_faketime(known={tmp_path / names[0]})
    assert {file.name for file in tmp_path.iterdir()} == {names[0], names[1], names[3], "another"}


def test_a_server_that_is_given_up_starts_no_more(place: Path) -> None:
    given_up = server.Server(place / "a", place / "wal", {})
    given_up.give_up()
    with pytest.raises(DatabaseUnavailable, match="is given up"):
        given_up.start()


def test_a_volume_that_was_unmounted_is_not_filled(place: Path) -> None:
    volume = Volume(place / "disk", 1 << 20)
    volume.unmount()
    volume.can_be_filled = True
    volume.fill()
    assert [*(place / "disk").iterdir()] == []
