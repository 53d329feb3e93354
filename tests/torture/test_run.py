"""A whole run of the torture, as a user would start it, and what its parts promise."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from rowlock.cli.root import run
from rowlock.torture.database import Clock, Database
from rowlock.torture.disk import Disk
from rowlock.torture.faults import Faults
from rowlock.torture.history import History, Process, read_history
from rowlock.torture.kin import Kin
from rowlock.torture.nemesis import DEFAULT, OPTIONAL, RATES, Planned, plan
from rowlock.torture.run import Options, Torture
from rowlock.torture.scene import NotDone, Scene
from tests.acceptance.processes import ROOT

SECONDS = 60


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_is_lost_in_a_minute_of_torture(tmp_path: Path) -> None:
    seed = os.environ.get("TORTURE_SEED") or str(random.randrange(1_000_000))
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "rowlock", "torture", "--seed", seed, "--minutes", str(SECONDS / 60)]
    command += ["--rate", "200", "--keep", str(folder)]  # other tests run beside it
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"seed {seed}:\n{done.stdout[-5000:]}\n{done.stderr[-2000:]}"
    assert done.returncode == 0, said
    assert "Every promise was kept." in done.stdout, said
    acknowledged = int(done.stdout.partition("jobs acknowledged ")[2].split()[0].replace(",", ""))
    assert acknowledged > 2000, said


@pytest.mark.slow
@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 130), (signal.SIGINT, 130)])
def test_a_run_that_is_interrupted_leaves_nothing_behind(tmp_path: Path, number: signal.Signals, code: int) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "rowlock", "torture", "--keep", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            until = time.monotonic() + 60
            while not list(folder.glob("worker-1-*.history")) and process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            assert len(processes_of(folder)) > 4, "it works"
            process.send_signal(number)
            _, complaints = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code, complaints
    assert "Traceback" not in complaints, complaints
    assert processes_of(folder) == []


def processes_of(folder: Path) -> list[str]:
    """The processes that were told to write into this folder."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"ROWLOCK_TORTURE_FOLDER={folder}\0" in environment.read_text(errors="replace"):
                found.append(environment.parent.name)
    return found


def test_a_seed_plans_the_same_faults_again() -> None:
    assert plan(7, 3) == plan(7, 3)
    assert plan(7, 3) != plan(8, 3)


def test_every_kind_of_fault_is_planned_at_least_once_and_as_often_as_its_rate_says() -> None:
    assert set(Counter(fault.kind for fault in plan(1, 0.2))) == set(DEFAULT)
    counts = Counter(fault.kind for fault in plan(1, 20))
    assert counts["kill"] >= 200
    assert counts["server"] >= 20
    assert all(4 <= fault.at <= 20 * 60 - 8 for fault in plan(1, 20))


def test_faults_that_are_left_out_change_nothing_of_the_others() -> None:
    kills = [fault for fault in plan(3, 2) if fault.kind == "kill"]
    assert plan(3, 2, {"kill"}) == kills


def test_what_loses_acknowledged_jobs_is_planned_only_if_it_is_named() -> None:
    assert set(RATES) == {*DEFAULT, *OPTIONAL}
    assert "rewind" in OPTIONAL
    assert {fault.kind for fault in plan(1, 1, {"rewind"})} == {"rewind"}
    assert [fault for fault in plan(1, 1, {*DEFAULT, "rewind"}) if fault.kind != "rewind"] == plan(1, 1)


@pytest.mark.parametrize("option", ["--only", "--also"])
def test_the_optional_faults_can_be_named(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Options] = []

    async def run_not(self: Torture) -> None:
        chosen.append(self.options)
        raise asyncio.CancelledError

    monkeypatch.setattr(Torture, "run", run_not)
    run(["torture", option, "rewind", "--keep", str(tmp_path)])
    (options,) = chosen
    assert set(options.kinds) == ({"rewind"} if option == "--only" else set(RATES))


def test_the_processes_of_a_program_are_found_and_their_ends_written_down(tmp_path: Path) -> None:
    environment = {**os.environ, "ROWLOCK_TORTURE_FOLDER": str(tmp_path), "ROWLOCK_TORTURE_NAME": "worker-7"}
    program = "import subprocess, sys; subprocess.run(['sleep', '60'], start_new_session=True)"
    with History(tmp_path, "runner") as history:
        kin = Kin(tmp_path, history)
        began = time.monotonic_ns()
        parent = subprocess.Popen([sys.executable, "-c", program], env=environment, start_new_session=True)
        until = time.monotonic() + 30
        while len(kin.of("worker-7")) < 2 and time.monotonic() < until:
            kin.look()
            time.sleep(0.01)
        (child,) = set(kin.of("worker-7")) - {parent.pid}
        parent.kill()
        parent.wait()
        assert set(kin.all()) == {child}, "it lives on, in a session of its own"
        os.kill(child, signal.SIGKILL)
        while kin.all() and time.monotonic() < until:
            time.sleep(0.01)
    started, ended = (event for event in read_history(tmp_path) if isinstance(event, Process))
    assert (started.process, started.what, ended.process, ended.what) == (child, "started", child, "ended")
    assert ended.alive_at is not None
    assert began < ended.alive_at < ended.at, "it ended between the last look that saw it and the next one"


async def test_a_fault_that_could_not_be_done_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_scene: Scene, _fault: Planned) -> None:
        raise NotDone("nothing was there")

    monkeypatch.setattr("rowlock.torture.faults.hit_process", fail)
    said: list[str] = []
    faults = Faults(None, said.append)  # type: ignore[arg-type]  # nothing is done to it
    await faults.do(Planned(at=1, kind="oom", seconds=0, choice=0))
    assert faults.done["oom"] == 0
    assert said[-1] == "oom was not done: nothing was there"


@pytest.mark.slow
async def test_a_standby_takes_the_place_of_the_server_and_only_a_stale_one_loses_anything(tmp_path: Path) -> None:
    disk = Disk()
    database = Database(disk, has_two=True)
    try:
        await database.create()
        connection = await database.connect()
        await connection.execute("CREATE SCHEMA rowlock_audit")
        await connection.execute(
            "CREATE TABLE rowlock_audit.change (number bigint GENERATED ALWAYS AS IDENTITY, word text)"
        )
        await _write(database, "first")
        first = database.server
        await database.attach(is_synchronous=True)
        await _write(database, "replicated")
        await database.fail_over()
        assert database.server is not first
        assert await _words(database) == ["first", "replicated"]
        await database.attach(is_synchronous=False)
        await database.detach()
        await _write(database, "lost")
        before = await database.last_number()
        await database.fail_over(skips_numbers=True)
        assert await _words(database) == ["first", "replicated"]
        assert await database.last_number() > before
        await database.snapshot()
        await _write(database, "lost again")
        await database.restore()
        await _write(database, "last")
        assert await _words(database) == ["first", "replicated", "last"]
        assert database.socket.exists()
    finally:
        await database.stop()
        disk.remove()


@pytest.mark.slow
async def test_a_server_that_does_not_recover_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowlock.torture.database.RECOVERY_SECONDS", 0.1)
    monkeypatch.setattr("rowlock.torture.server.STOP_SECONDS", 0.5)
    disk = Disk()
    database = Database(disk)
    try:
        await database.create()
        postmaster = int((disk.data.location / "a" / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGSTOP)
        await database.start()
        with pytest.raises(ProcessLookupError):
            os.kill(postmaster, 0)
        await (await database.connect()).close()
    finally:
        await database.stop()
        disk.remove()


async def _write(database: Database, word: str) -> None:
    connection = await database.connect()
    await connection.execute("INSERT INTO rowlock_audit.change (word) VALUES ($1)", word)
    await connection.close()


async def _words(database: Database) -> list[str]:
    connection = await database.connect()
    rows = await connection.fetch("SELECT word FROM rowlock_audit.change ORDER BY number")
    await connection.close()
    return [row["word"] for row in rows]


def test_the_file_of_a_clock_is_replaced_as_a_whole(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock", "/lib/libfaketime.so")
    assert (tmp_path / "clock").read_text() == "+0s\n"
    clock.set(3600)
    clock.set(-30)
    assert (tmp_path / "clock").read_text() == "-30s\n"
    assert (clock.offset, clock.highest) == (-30, 3600)
    assert clock.environment["FAKETIME_TIMESTAMP_FILE"] == str(tmp_path / "clock")


def test_faults_can_be_had_oftener() -> None:
    assert len(plan(3, 1, {"freeze"}, times=10)) == 10 * len(plan(3, 1, {"freeze"}))


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--only", "kill,rain"], '"rain"'),
        (["--also", "snow"], '"snow"'),
        (["--minutes", "0"], "minutes"),
        (["--workers", "0"], "workers"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["torture", *arguments]) == 2
    assert word in capsys.readouterr().err


def test_a_folder_that_is_in_use_is_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()
    assert run(["torture", "--keep", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]
