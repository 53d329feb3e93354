"""Tasks in processes of their own: whatever happens in there, the job gets its outcome and the worker goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest

from rowlock import CallNext, InvalidOption, Job, JobFailed, ProcessEnded, RemoteError, Rowlock, Settings
from rowlock.worker.executors.processes import BOOT
from tests import process_tasks
from tests.db.rows import attempts_of, row_of
from tests.process_tasks import is_alive
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Row: TypeAlias = Mapping[str, Any]

SOON = timedelta(milliseconds=50)


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, poll_interval=SOON)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


async def pids_in(folder: Path) -> list[int]:
    return await eventually(lambda: process_tasks.pids_in(folder / "pids"))


async def test_a_task_runs_in_the_main_thread_of_another_process_with_its_arguments_converted(app: Rowlock) -> None:
    task = app.task(executor="process")(process_tasks.where)
    handle = await task.enqueue(process_tasks.Order(7, date(2027, 1, 31)))
    async with app.worker():
        pid, kind, due = await handle.result(timeout=30)
    assert pid != os.getpid()
    assert (kind, due) == ("Order", date(2027, 1, 31))
    assert not is_alive(pid), "it ends with its worker"


async def test_processes_are_used_again_at_most_so_many_at_once_and_replaced_after_so_many_jobs(
    settings: Settings,
) -> None:
    async with Rowlock(settings=replace(settings, process_max_jobs=3)) as app:
        task = app.task(executor="process")(process_tasks.pid)
        async with app.worker(task_processes=1):
            handles = await app.enqueue_many([task.job() for _ in range(7)])
            pids = [await handle.result(timeout=30) for handle in handles]
    assert sorted(pids.count(pid) for pid in set(pids)) == [1, 3, 3]


async def test_a_worker_without_such_jobs_starts_no_process(app: Rowlock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_args: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("rowlock.worker.executors.processes.Process.start", refuse)
    app.task(executor="process")(process_tasks.pid)

    @app.task
    async def other() -> int:
        return 1

    handle = await other.enqueue()
    await app.worker().drain()
    assert await handle.result(timeout=5) == 1


async def test_a_handler_that_wants_its_job_is_given_it_in_a_process_too(app: Rowlock) -> None:
    task = app.task(executor="process", name="look-there")(process_tasks.look)
    handle = await task.enqueue(word="hello")
    await app.worker().drain()
    seen = await handle.result(timeout=5)
    assert seen == [str(handle.id), "look-there", "running", "1", "hello", "0:00:00", "hello"]


async def test_an_exception_arrives_as_type_message_and_traceback(app: Rowlock, connection: Connection) -> None:
    task = app.task(executor="process", max_attempts=1)(process_tasks.sell)
    handle = await task.enqueue("tea")
    await app.worker().drain()
    row = await row_of(connection, handle.id)
    assert (row["state"], row["error"]) == ("failed", "tests.process_tasks.OutOfStockError: no tea left")
    (attempt,) = await attempts_of(connection, handle.id)
    assert (attempt["outcome"], attempt["error_type"]) == ("error", "tests.process_tasks.OutOfStockError")
    assert "raise OutOfStockError(" in attempt["traceback"]
    assert "rowlock/worker/executors/processes.py" not in attempt["traceback"]


async def test_whatever_a_task_raises_or_returns_is_told_and_the_next_job_runs(
    app: Rowlock, connection: Connection
) -> None:
    told = {
        "NUL": "ValueError: a␀b",
        "surrogate": "ValueError: a\ufffdb",
        "no text": "reading it raised RuntimeError",
        "long text": "characters left out",
        "bare": "Bare: bare",
        "deep": "RecursionError: maximum recursion depth",
        "NUL result": "NUL",
        "surrogate result": "surrogate",
        "class that raises": "ProcessEnded",
    }
    throw = app.task(executor="process", max_attempts=1)(process_tasks.throw)
    pid = app.task(executor="process")(process_tasks.pid)
    handles = {what: await throw.enqueue(what) for what in told}
    last = await pid.enqueue()
    await app.worker(task_processes=1).drain()
    assert await last.result(timeout=0) != os.getpid()
    for what, words in told.items():
        row = await row_of(connection, handles[what].id)
        (attempt,) = await attempts_of(connection, handles[what].id)
        assert (row["state"], row["crashes"], attempt["outcome"]) == ("failed", 0, "error"), what
        assert words in f"{attempt['error_type']}: {attempt['message']}", what
        assert len(attempt["traceback"] or "") < 40_000


@pytest.mark.parametrize(
    "rules, attempts",
    [
        ({}, 2),
        ({"never_retry": (LookupError,)}, 1),
        ({"never_retry": (process_tasks.OutOfStockError,)}, 1),
        ({"never_retry": (ValueError,)}, 2),
        ({"retry_on": (LookupError,)}, 2),
        ({"retry_on": (ValueError,)}, 1),
    ],
)
async def test_rules_by_exception_hold_for_processes(
    app: Rowlock, connection: Connection, rules: dict[str, Any], attempts: int
) -> None:
    task = app.task(executor="process", max_attempts=2, backoff=0, **rules)(process_tasks.sell)
    handle = await task.enqueue("tea")
    await app.worker(task_processes=1).drain()
    row = await row_of(connection, handle.id)
    assert (row["state"], row["attempt"]) == ("failed", attempts)


async def test_what_a_handler_decides_is_followed(app: Rowlock, connection: Connection) -> None:
    task = app.task(executor="process", max_attempts=2)(process_tasks.decide)
    handles = {what: await task.enqueue(what) for what in ("retry", "snooze", "cancel", "fail")}
    await app.worker(task_processes=1).drain()
    rows = {what: await row_of(connection, handle.id) for what, handle in handles.items()}
    told = {what: (row["state"], row["result"] or row["error"], row["errors"]) for what, row in rows.items()}
    assert told == {
        "retry": ("succeeded", "2", 1),
        "snooze": ("succeeded", "2", 0),
        "cancel": ("cancelled", "Cancel: no need", 0),
        "fail": ("failed", "Fail: hopeless", 1),
    }


@pytest.mark.parametrize(
    "how, said",
    [("exit", "with exit code 3"), ("segfault", "by SIGSEGV"), ("oom", "by SIGKILL"), ("fork", "with exit code 4")],
)
async def test_a_process_that_dies_fails_its_attempt_and_nothing_else(
    app: Rowlock, connection: Connection, how: str, said: str
) -> None:
    leave = app.task(executor="process", max_attempts=1)(process_tasks.leave)
    pid = app.task(executor="process")(process_tasks.pid)
    async with app.worker(task_processes=1):
        broken = await leave.enqueue(how)
        with pytest.raises(JobFailed, match=f"ProcessEnded: The process of the task ended {said} before"):
            await broken.result(timeout=30)
        assert await (await pid.enqueue()).result(timeout=30) != os.getpid(), "the next one has a new process"
    (attempt,) = await attempts_of(connection, broken.id)
    assert (attempt["outcome"], attempt["error_type"]) == ("error", "ProcessEnded")
    assert (await row_of(connection, broken.id))["crashes"] == 0


@pytest.mark.parametrize("how, code", [("returns", 0), ("raises", 1), ("exits", 7)])
async def test_a_process_that_a_task_forks_ends_with_the_task_and_gives_no_answer(
    app: Rowlock, capfd: pytest.CaptureFixture[str], how: str, code: int
) -> None:
    fork = app.task(executor="process", max_attempts=1)(process_tasks.fork)
    in_coroutine = app.task(executor="process", max_attempts=1)(process_tasks.fork_in_coroutine)
    pid = app.task(executor="process", max_attempts=1)(process_tasks.pid)
    async with app.worker(task_processes=1):
        first = await (await pid.enqueue()).result(timeout=30)
        for task in (fork, in_coroutine):
            assert await (await task.enqueue(how)).result(timeout=30) == [first, code]
            assert await (await pid.enqueue()).result(timeout=30) == first
    logged = [line for line in capfd.readouterr().err.splitlines() if "forked_process_failed" in line]
    assert len(logged) == (2 if how == "raises" else 0)


async def test_an_answer_that_is_not_of_this_job_is_refused_and_its_process_replaced(
    app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = "c.Child._send = lambda self, answer: [send(self, answer) for _ in range(1 + (type(answer) is c.Returned))]"
    boot = BOOT.replace("c.main()", f"send = c.Child._send; {twice}; c.main()")
    monkeypatch.setattr("rowlock.worker.executors.processes.BOOT", boot)
    add = app.task(executor="process", max_attempts=1)(process_tasks.add)
    async with app.worker(task_processes=1):
        assert await (await add.enqueue(1, 1)).result(timeout=30) == 2
        with pytest.raises(JobFailed, match=r"ProcessEnded: .* sent an answer that was not this job's, and was killed"):
            await (await add.enqueue(2, 2)).result(timeout=30)
        assert await (await add.enqueue(3, 3)).result(timeout=30) == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_process_that_a_task_forks_is_ended_by_a_signal(app: Rowlock, number: signal.Signals) -> None:
    task = app.task(executor="process", max_attempts=1)(process_tasks.end_child)
    async with app.worker():
        assert await (await task.enqueue(number)).result(timeout=30) == -number


async def test_a_process_that_does_not_end_when_it_is_to_be_replaced_is_killed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.executors.processes.EXIT_SECONDS", 0.1)
    async with Rowlock(settings=replace(settings, process_max_jobs=1)) as app:
        task = app.task(executor="process", max_attempts=1)(process_tasks.pid_with_a_thread_for_ever)
        async with app.worker(task_processes=1):
            first = await (await task.enqueue()).result(timeout=30)
            second = await (await task.enqueue()).result(timeout=30)
            assert first != second
            assert not is_alive(first), "there is one at a time"
        assert not is_alive(second)


@pytest.mark.parametrize("how", ["return", "exit"])
async def test_what_a_process_has_started_ends_with_it_however_it_ends(app: Rowlock, how: str, tmp_path: Path) -> None:
    task = app.task(executor="process", max_attempts=1)(process_tasks.start_helper)
    async with app.worker():
        handle = await task.enqueue(str(tmp_path / "pids"), how)
        with suppress(JobFailed):
            await handle.result(timeout=30)
        (helper,) = await pids_in(tmp_path)
        if how == "exit":
            await eventually(lambda: not is_alive(helper))
    await eventually(lambda: not is_alive(helper))


async def test_sys_exit_is_an_error_like_any_other(app: Rowlock, connection: Connection) -> None:
    handle = await app.task(executor="process", max_attempts=1)(process_tasks.leave).enqueue("system_exit")
    await app.worker().drain()
    assert (await row_of(connection, handle.id))["error"] == "SystemExit: enough"


async def test_a_process_that_was_killed_while_idle_is_replaced(app: Rowlock) -> None:
    task = app.task(executor="process", max_attempts=1)(process_tasks.pid)
    async with app.worker(task_processes=1):
        first = await (await task.enqueue()).result(timeout=30)
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: not is_alive(first))
        assert await (await task.enqueue()).result(timeout=30) != first


@pytest.mark.parametrize("how", ["python", "regex"])
async def test_a_timeout_kills_the_process_and_what_it_started(
    app: Rowlock, connection: Connection, tmp_path: Path, how: str
) -> None:
    task = app.task(executor="process", max_attempts=1, timeout=0.8)(process_tasks.hang)
    handle = await task.enqueue(str(tmp_path / "pids"), how)
    await app.worker().drain()
    (attempt,) = await attempts_of(connection, handle.id)
    assert (attempt["outcome"], attempt["error_type"]) == ("timeout", "AttemptTimeout")
    assert attempt["message"] == "the attempt took longer than its timeout of 0.8 s"
    assert not [pid for pid in await pids_in(tmp_path) if is_alive(pid)]


async def test_the_start_of_a_process_counts_into_no_timeout(app: Rowlock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowlock.worker.executors.processes.BOOT", f"import time; time.sleep(0.6); {BOOT}")
    task = app.task(executor="process", max_attempts=1, timeout=0.5)(process_tasks.pid)
    handle = await task.enqueue()
    await app.worker().drain()
    assert await handle.result(timeout=5) != os.getpid()


async def test_a_job_that_an_operator_cancels_ends_with_its_process(
    app: Rowlock, connection: Connection, tmp_path: Path
) -> None:
    task = app.task(executor="process")(process_tasks.hang)
    handle = await task.enqueue(str(tmp_path / "pids"))
    async with app.worker():
        pids = await pids_in(tmp_path)
        await app.jobs.cancel(handle.id)
        with pytest.raises(JobFailed, match="cancelled"):
            await handle.result(timeout=30)
        assert not [pid for pid in pids if is_alive(pid)]
    assert (await attempts_of(connection, handle.id))[0]["outcome"] == "cancelled"


async def test_a_worker_that_stops_gives_a_running_process_its_grace_then_kills_it_and_releases_the_job(
    app: Rowlock, connection: Connection, tmp_path: Path
) -> None:
    task = app.task(executor="process")(process_tasks.hang)
    handle = await task.enqueue(str(tmp_path / "pids"))
    async with app.worker() as worker:
        pids = await pids_in(tmp_path)
        worker.stop(grace=0.1)
    assert not [pid for pid in pids if is_alive(pid)]
    row = await row_of(connection, handle.id)
    assert (row["state"], row["errors"], row["crashes"]) == ("queued", 0, 0)


async def test_a_job_that_needs_too_much_memory_fails_and_its_process_is_replaced(
    settings: Settings, connection: Connection
) -> None:
    limited = replace(settings, process_memory_limit=200 * 1024 * 1024)
    async with Rowlock(settings=limited) as app:
        allocate = app.task(executor="process", max_attempts=1)(process_tasks.allocate)
        pid = app.task(executor="process")(process_tasks.pid)
        async with app.worker(task_processes=1):
            before = await (await pid.enqueue()).result(timeout=30)
            assert await (await allocate.enqueue(20)).result(timeout=30) == 20 * 1024 * 1024
            too_much = await allocate.enqueue(500)
            with pytest.raises(JobFailed, match=r"MemoryError: the task needs more than the 209,715,200 bytes"):
                await too_much.result(timeout=30)
            assert await (await pid.enqueue()).result(timeout=30) != before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_meant_for_the_worker_does_not_end_its_processes(
    app: Rowlock, tmp_path: Path, number: signal.Signals
) -> None:
    task = app.task(executor="process", max_attempts=1)(process_tasks.wait_for)
    handle = await task.enqueue(str(tmp_path / "pids"), str(tmp_path / "go"))
    async with app.worker():
        (pid,) = await pids_in(tmp_path)
        os.kill(pid, number)
        (tmp_path / "go").touch()
        assert await handle.result(timeout=30) == "done"


async def test_a_task_has_no_standard_input(app: Rowlock) -> None:
    handle = await app.task(executor="process")(process_tasks.nothing_to_read).enqueue()
    await app.worker().drain()
    assert await handle.result(timeout=5) == ""


async def test_a_result_that_json_cannot_hold_is_a_failed_attempt(app: Rowlock, connection: Connection) -> None:
    handle = await app.task(executor="process", max_attempts=1)(process_tasks.unstorable).enqueue()
    await app.worker().drain()
    (attempt,) = await attempts_of(connection, handle.id)
    assert attempt["error_type"] == "InvalidResult"
    assert "NaN" in attempt["message"]


async def test_what_a_task_logs_says_which_job_it_was(app: Rowlock, capfd: pytest.CaptureFixture[str]) -> None:
    handle = await app.task(executor="process")(process_tasks.log_and_print).enqueue("hello")
    await app.worker().drain()
    out, err = capfd.readouterr()
    assert "printed hello\n" in out
    (line,) = (line for line in err.splitlines() if "task_logged" in line)
    assert str(handle.id) in line
    assert '"task": "log_and_print"' in line


async def test_middleware_and_failure_handlers_see_a_process_as_they_see_the_rest(app: Rowlock) -> None:
    seen: list[object] = []

    @app.middleware
    async def note(job: Job, call_next: CallNext) -> object:
        try:
            value = await call_next()
        except Exception as error:
            seen.append(error)
            raise
        seen.append(value)
        return value

    @app.on_failure
    def failed(job: Job, error: BaseException) -> None:
        seen.append((job.state, error))

    where = app.task(executor="process")(process_tasks.where)
    sell = app.task(executor="process", max_attempts=1)(process_tasks.sell)
    handle = await where.enqueue(process_tasks.Order(7, date(2027, 1, 31)))
    await app.worker().drain()
    await sell.enqueue("tea")
    await app.worker().drain()
    value, error, failure = seen
    assert value == await handle.result(timeout=5), "converted by the annotation"
    assert isinstance(error, RemoteError)
    assert (error.type, error.message) == ("tests.process_tasks.OutOfStockError", "no tea left")
    assert failure == ("failed", error)


async def test_a_task_that_cannot_be_imported_by_its_name_is_refused(app: Rowlock, settings: Settings) -> None:
    def local() -> None: ...

    with pytest.raises(
        InvalidOption, match=r"<locals>\.local' has no name in its module. Define it with def at the top"
    ):
        app.task(executor="process")(local)
    with pytest.raises(InvalidOption, match=r"<lambda>' has no name"):
        app.task(executor="process", name="anonymous")(lambda: None)

    namespace: dict[str, Any] = {"__name__": "not_a_module"}
    exec("def f(): ...", namespace)
    app.task(executor="process")(namespace["f"])
    with pytest.raises(InvalidOption, match=r"Task .f.: .* not_a_module\.f is missing .*\. Move it to the top level"):
        await app.worker().drain()

    async with Rowlock(settings=settings) as other:
        namespace["__name__"] = "__main__"
        exec("def g(): ...", namespace)
        other.task(executor="process")(namespace["g"])
        with pytest.raises(InvalidOption, match=r"g is in the main program"):
            await other.worker().drain()


async def test_a_process_that_does_not_get_ready_fails_the_attempt(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.executors.processes.BOOT", "import time; time.sleep(60)")
    monkeypatch.setattr("rowlock.worker.executors.processes.START_SECONDS", 0.1)
    handle = await app.task(executor="process", max_attempts=1, retry_on=ProcessEnded)(process_tasks.pid).enqueue()
    await app.worker().drain()
    assert (await row_of(connection, handle.id))["error"] == (
        "ProcessEnded: The process of the task was not ready within 0.1 s."
    )


async def test_the_loop_goes_on_turning_beside_tasks_that_compute(app: Rowlock, tmp_path: Path) -> None:
    hang = app.task(executor="process", max_attempts=1, timeout=0.5)(process_tasks.hang)

    @app.task
    async def nap() -> None:
        await asyncio.sleep(0.01)

    await hang.enqueue(str(tmp_path / "pids"))
    async with app.worker(concurrency=2):
        await pids_in(tmp_path)
        for _ in range(3):
            await (await nap.enqueue()).result(timeout=5)
