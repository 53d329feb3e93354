"""The witness: silent on an honest run; each of its rules sees what breaks it, in files and rows that are made up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from rowlock import Settings
from rowlock.queue.connect.database import Database
from rowlock.torture import testimony, witness
from rowlock.torture.hearing import Call, read_testimony
from rowlock.torture.rewinds import Window
from rowlock.torture.witness import Last, Verdict
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

QUICK, EXACT, SLOW = "torture.quick", "torture.exactly_once", "torture.slow"
SEEN = UUID(int=8 * 1000)
"""A quick job with this id inserts an effect."""


class Run:
    """What an honest run leaves behind, until somebody changes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last: dict[UUID, Last] = {}
        self.effects: list[Call] = []
        self.windows: list[Window] = []
        testimony.open_file(folder, "worker-1")

    def job(self, task: str, job: UUID | None = None, *, errors: int = 0, state: str = "succeeded") -> UUID:
        """A job that was asked for, stored, and done after so many errors."""
        job = job or uuid4()
        testimony.note("asked", [job])
        testimony.note("stored", [job])
        run = ""
        for number in range(1, errors + 2):
            run = f"run-{number}"
            is_last = number == errors + 1 and state == "succeeded"
            with suppress(ValueError), testimony.attempt(job, number, run):
                if not is_last:
                    int("not a number")
        if state == "succeeded" and (task == EXACT or testimony.is_inserted(task, job)):
            self.effects.append(Call(job, errors + 1, run))
        self.last[job] = Last(job, task, state, errors + 1, run if state == "succeeded" else None)
        return job

    def change(self, job: UUID, **columns: object) -> None:
        self.last[job] = self.last[job]._replace(**columns)  # type: ignore[arg-type]  # of the columns

    def broken(self) -> dict[str, int]:
        return {one.rule: one.count for one in self.verdicts() if one.count}

    def verdicts(self) -> list[Verdict]:
        told = read_testimony(self.folder, self.windows)
        return witness.verdicts(told, list(self.last.values()), self.effects)

    def rewind(self, begins: float = -1.0, ends: float = 1.0) -> None:
        """Have the database lose a window, which begins and ends so many seconds from now."""
        now = time.monotonic_ns()
        self.windows.append(Window(begins=now + int(begins * 1e9), ends=now + int(ends * 1e9)))

    def rules(self) -> dict[str, int]:
        """How many cases each rule looked at."""
        return {one.rule: one.looked_at for one in self.verdicts()}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    made.job(QUICK, SEEN)
    made.job(SLOW, errors=2)
    made.job(SLOW, state="failed", errors=1)
    made.job(EXACT)
    made.job(EXACT, errors=1)
    undone = uuid4()
    testimony.note("asked", [undone])
    testimony.note("nothing", [undone])
    again = made.job(SLOW)
    testimony.note("asked", [again])
    testimony.note("nothing", [again])
    testimony.note("unknown", [uuid4()])
    tick = uuid4()
    made.last[tick] = Last(tick, "torture.tick", "cancelled", 0, None)
    yield made
    testimony._opened.clear()


def test_an_honest_run_is_clean_and_every_rule_has_something_to_look_at(run: Run) -> None:
    assert run.broken() == {}
    assert all(one.looked_at for one in run.verdicts())


def test_a_job_that_was_acknowledged_and_is_nowhere_is_missing(run: Run) -> None:
    del run.last[run.job(SLOW)]
    assert run.broken() == {"witness: acknowledged and missing": 1, "witness: attempt that nobody has had": 1}


def test_a_job_that_nobody_was_told_of_may_be_missing(run: Run) -> None:
    testimony.note("asked", [uuid4()])
    assert run.broken() == {}


def test_a_job_that_was_rolled_back_must_not_be_there(run: Run) -> None:
    job = uuid4()
    testimony.note("asked", [job])
    testimony.note("nothing", [job])
    run.last[job] = Last(job, SLOW, "cancelled", 0, None)
    assert run.broken() == {"witness: stored although it was not to be": 1}


def test_a_job_that_nobody_asked_for_is_named(run: Run) -> None:
    job = uuid4()
    run.last[job] = Last(job, SLOW, "cancelled", 0, None)
    assert run.broken() == {"witness: nobody asked for it": 1}


def test_an_attempt_begins_once(run: Run) -> None:
    job = run.job(SLOW)
    with testimony.attempt(job, 1, "another"):
        pass
    assert run.broken() == {"witness: attempt begun twice": 1}


def test_an_attempt_that_the_job_never_had_is_named(run: Run) -> None:
    job = run.job(SLOW, errors=1)
    with testimony.attempt(job, 3, "later"):
        pass
    assert run.broken() == {"witness: attempt that nobody has had": 1}


def test_a_success_needs_a_handler_that_returned(run: Run) -> None:
    run.change(run.job(SLOW, state="failed", errors=1), state="succeeded")
    assert run.broken() == {"witness: success without its work": 1}


def test_a_success_is_that_of_the_call_whose_result_it_has(run: Run) -> None:
    run.change(run.job(SLOW), run="somebody else's")
    assert run.broken() == {"witness: success without its work": 1}


def test_a_handler_that_was_killed_after_its_commit_has_done_its_work(run: Run) -> None:
    job = run.job(EXACT)
    file = next(run.folder.glob("witness-*.txt"))
    file.write_text("".join(line for line in file.read_text().splitlines(True) if f"ended {job}" not in line))
    assert run.broken() == {}
    run.change(job, task=SLOW)
    assert "witness: success without its work" in run.broken()


@pytest.mark.parametrize("task, job", [(EXACT, None), (QUICK, UUID(int=8 * 7777))])
def test_a_success_without_its_effect_is_named(run: Run, task: str, job: UUID | None) -> None:
    run.job(task, job)
    run.effects.pop()
    assert run.broken() == {"witness: success without its effect": 1}


def test_a_success_with_the_effect_of_an_earlier_attempt_alone_lacks_its_own(run: Run) -> None:
    job = run.job(QUICK, UUID(int=8 * 7777), errors=1)
    run.effects[-1] = Call(job, 1, "run-1")
    assert run.broken() == {"witness: success without its effect": 1}


def test_two_effects_in_the_job_s_transaction_are_one_too_many(run: Run) -> None:
    run.job(EXACT)
    run.effects.append(run.effects[-1])
    assert run.broken() == {"witness: effect twice": 1}


def test_an_effect_over_another_connection_may_come_twice(run: Run) -> None:
    job = run.job(QUICK, UUID(int=8 * 7777), errors=1)
    run.effects += [run.effects[-1], Call(job, 1, "run-1")]
    assert run.broken() == {}


def test_an_effect_in_the_job_s_transaction_without_its_success_is_named(run: Run) -> None:
    job = run.job(EXACT, state="failed")
    run.effects.append(Call(job, 1, "run-1"))
    assert run.broken() == {"witness: effect without a cause": 1}


def test_an_effect_that_no_handler_can_have_made_is_named(run: Run) -> None:
    job = run.job(QUICK, UUID(int=8 * 7777))
    run.effects.append(Call(job, 1, "nobody's"))
    assert run.broken() == {"witness: effect without a cause": 1}


def test_the_end_of_a_line_that_a_kill_has_cut_is_not_read(run: Run) -> None:
    with next(run.folder.glob("witness-*.txt")).open("a") as file:
        file.write(f"stored {str(uuid4())[:-3]}")
    assert run.broken() == {}


def test_a_job_that_was_acknowledged_in_a_lost_window_may_be_missing(run: Run) -> None:
    job = run.job(QUICK, UUID(int=8 * 7777))
    del run.last[job]
    run.rewind()
    assert run.broken() == {}
    run.windows.clear()
    assert set(run.broken()) == {
        "witness: acknowledged and missing",
        "witness: attempt that nobody has had",
        "witness: effect without a cause",
    }


@pytest.mark.parametrize("begins, ends", [(3.0, 4.0), (-60.0, -50.0)])
def test_a_job_that_was_acknowledged_outside_of_the_window_may_not(run: Run, begins: float, ends: float) -> None:
    del run.last[run.job(SLOW)]
    run.rewind(begins, ends)
    assert "witness: acknowledged and missing" in run.broken()


def test_a_job_that_was_acknowledged_again_after_the_window_may_not_be_missing(run: Run) -> None:
    job = run.job(SLOW)
    file = next(run.folder.glob("witness-*.txt"))
    later = time.monotonic_ns() + 60 * 10**9
    file.write_text(f"{file.read_text()}asked {job} {later}\nstored {job} {later}\n")
    del run.last[job]
    run.rewind()
    assert set(run.broken()) == {"witness: acknowledged and missing"}


@pytest.mark.parametrize("times, is_broken", [(1, False), (2, True)])
def test_an_attempt_whose_claim_was_lost_begins_once_more(run: Run, times: int, *, is_broken: bool) -> None:
    job = run.job(SLOW)
    run.rewind()
    for number in range(times):
        with testimony.attempt(job, 1, f"again-{number}"):
            pass
    assert run.broken() == ({"witness: attempt begun twice": 1} if is_broken else {})


def test_an_attempt_whose_claim_was_lost_is_one_that_the_job_has_not_had(run: Run) -> None:
    run.change(run.job(SLOW, errors=1), attempt=1, run="run-1", state="failed")
    assert run.broken() == {"witness: attempt that nobody has had": 1}
    run.rewind()
    assert run.broken() == {}


def test_a_call_that_goes_on_over_a_window_is_in_it(run: Run) -> None:
    job, now = uuid4(), time.monotonic_ns()
    lines = f"begun {job} 1 long {now - 60 * 10**9}\nended {job} 1 long returned {now + 60 * 10**9}\n"
    (run.folder / "witness-worker-2-1.txt").write_text(lines)
    assert run.broken() == {"witness: attempt that nobody has had": 1}
    run.rewind(20, 30)
    assert run.broken() == {}


def test_a_call_without_an_end_ended_with_its_process(run: Run) -> None:
    job, now = uuid4(), time.monotonic_ns()
    (run.folder / "witness-worker-2-1.txt").write_text(f"begun {job} 1 cut {now - 60 * 10**9}\n")
    run.rewind(20, 30)
    assert run.broken() == {"witness: attempt that nobody has had": 1}


def test_an_effect_in_the_job_s_transaction_needs_its_success_after_a_rewind_too(run: Run) -> None:
    job = run.job(EXACT, state="failed")
    run.effects.append(Call(job, 1, "run-1"))
    run.rewind()
    assert run.broken() == {"witness: effect without a cause": 1}


def test_what_a_lost_window_excuses_is_not_looked_at(run: Run) -> None:
    before = run.rules()
    del run.last[run.job(SLOW)]
    run.rewind()
    assert run.rules()["witness: acknowledged and missing"] == before["witness: acknowledged and missing"]
    assert run.rules()["witness: attempt that nobody has had"] == 0


def test_a_success_of_the_operating_program_s_job_needs_its_work(run: Run) -> None:
    job = run.job("operate.answer")
    assert run.broken() == {}
    run.change(job, run="somebody else's")
    assert run.broken() == {"witness: success without its work": 1}


def test_a_job_of_the_operating_program_may_be_one_that_nobody_asked_for(run: Run) -> None:
    job = uuid4()
    run.last[job] = Last(job, "operate.again", "cancelled", 0, None)
    assert run.broken() == {}


async def test_the_effects_and_the_jobs_are_read_from_the_database(
    run: Run, settings: Settings, connection: Connection, database_url: str
) -> None:
    await witness.install(connection)
    for job in list(run.last):
        del run.last[job]
    enqueued = await connection.fetchval("SELECT rowlock.enqueue($1)", QUICK)
    effects = testimony.Effects()
    await effects.insert(database_url, QUICK, SEEN, 1, "run-1")
    effects.close()
    found = {one.rule: one for one in await witness.judge(connection, run.folder)}
    assert any(str(enqueued) in sentence for sentence in found["witness: nobody asked for it"].sentences)
    assert "is nowhere" in found["witness: effect without a cause"].sentences[0]
    database = Database(settings)
    key = "INSERT INTO rowlock.unique_key (key, job_id) VALUES ('lost', $1)"
    first = await witness.audited(database)
    await connection.execute(key, uuid4())
    second = await witness.audited(database)
    summed = {one.rule: one for one in witness.together(first, second)}
    assert {rule for rule, one in summed.items() if one.count} == {"audit: unique key without its job"}
    assert summed["audit: live job whose columns disagree"].looked_at == 2
    await database.close()


async def test_an_effect_is_not_waited_for_by_a_handler_that_has_to_stop(
    connection: Connection, direct_url: str
) -> None:
    await witness.install(connection)
    effects = testimony.Effects()
    async with connection.transaction():
        await connection.execute("LOCK TABLE witness.effect")
        handler = asyncio.create_task(effects.insert(direct_url, QUICK, SEEN, 1, "run-1"))
        await asyncio.sleep(0)
        handler.cancel()
        with pytest.raises(asyncio.CancelledError):
            await handler
    await asyncio.gather(*effects._running)
    assert await connection.fetchval("SELECT count(*) FROM witness.effect") == 1, "it is inserted all the same"
    effects.close()


async def test_an_effect_is_inserted_anew_when_its_connection_is_lost(
    connection: Connection, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testimony, "PAUSE_SECONDS", 0.01)
    await witness.install(connection)
    effects = testimony.Effects()
    await effects.insert(direct_url, QUICK, SEEN, 1, "run-1")
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await effects.insert(direct_url, QUICK, SEEN, 2, "run-2")
    assert await connection.fetchval("SELECT count(*) FROM witness.effect") == 2
    effects.close()


async def test_the_watch_adds_up_what_it_sees_while_everything_goes_on(
    settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness, "WATCH_SECONDS", 0.01)
    database = Database(settings)
    watch = witness.Watch(database)
    watching = asyncio.create_task(watch.run())
    await eventually(lambda: any(one.looked_at for one in watch.verdicts))
    assert not any(one.count for one in watch.verdicts)
    await connection.execute("INSERT INTO rowlock.unique_key (key, job_id) VALUES ('lost', $1)", uuid4())
    await eventually(lambda: any(one.count for one in watch.verdicts))
    watching.cancel()
    await asyncio.wait({watching})
    assert {one.rule for one in watch.verdicts if one.count} == {"audit: unique key without its job"}
    await database.close()


async def test_the_watch_leaves_out_what_a_step_of_the_clock_breaks_for_a_while(
    settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness, "WATCH_SECONDS", 0.01)
    database = Database(settings)
    await connection.execute("UPDATE rowlock.duty SET next_run_at = clock_timestamp() + interval '1 hour'")
    watch = witness.Watch(database, excused=witness.BY_THE_CLOCK)
    watching = asyncio.create_task(watch.run())
    await eventually(lambda: any(one.looked_at for one in watch.verdicts))
    watching.cancel()
    await asyncio.wait({watching})
    assert not any(one.count for one in watch.verdicts)
    seen = await witness.audited(database)
    assert {one.rule for one in seen if one.count} == {"audit: duty too far ahead"}
    assert not any(one.count for one in witness.without(seen, witness.BY_THE_CLOCK))
    assert {one.rule for one in seen} > witness.BY_THE_CLOCK, "each is an invariant of the audit"
    await database.close()
