"""What is refused, and why, when tasks, failure handlers and middleware are declared."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rowlock import CallNext, InvalidOption, Job, Retry, Rowlock
from rowlock.queue.tasks.batch import item_type


@pytest.fixture
def app() -> Rowlock:
    return Rowlock()


async def coroutine() -> None: ...


def plain() -> None: ...


@pytest.mark.parametrize(
    "function, executor, said",
    [
        (coroutine, "thread", "executor must be 'loop' for an async function; got 'thread'."),
        (coroutine, "process", "executor must be 'loop' for an async function; got 'process'."),
        (plain, "loop", "for a plain function, which would block every other job on the loop; got 'loop'."),
        (plain, "fork", "executor must be 'loop', 'thread' or 'process'; got 'fork'."),
        (plain, ["thread"], "executor must be 'loop', 'thread' or 'process'; got ['thread']."),
        (lambda: None, "process", "Define it with def at the top level of a module"),
    ],
)
def test_an_executor_that_does_not_fit_is_refused(
    app: Rowlock, function: Callable[[], object], executor: object, said: str
) -> None:
    with pytest.raises(InvalidOption, match=re.escape(said)):
        app.task(executor=executor, name="task")(function)  # type: ignore[call-overload]  # that is the point
    assert not app.tasks


def test_async_functions_run_on_the_loop_and_plain_ones_in_a_thread_unless_they_say_otherwise(app: Rowlock) -> None:
    assert app.task(coroutine).executor == "loop"
    assert app.task(plain).executor == "thread"
    assert app.task(name="other", executor="process")(plain).executor == "process"


@pytest.mark.parametrize("handler", [42, lambda _: None, lambda _job, _error, _more: None])
def test_a_failure_handler_that_cannot_be_called_is_refused(app: Rowlock, handler: object) -> None:
    task = app.task(coroutine)
    for register in (app.on_failure, task.on_failure):
        with pytest.raises(InvalidOption, match=r"on_failure.*\(job, error\)"):
            register(handler)  # type: ignore[type-var]  # that is the point
    assert (app.failure_handlers, task.failure_handlers) == ([], [])


def test_a_middleware_is_an_async_function_of_two_arguments(app: Rowlock) -> None:
    def not_async(job: Job, call_next: CallNext) -> Awaitable[object]:
        return call_next()

    async def too_few(job: Job) -> None: ...

    with pytest.raises(InvalidOption, match=r"must be async; got <function .*not_async"):
        app.middleware(not_async)
    with pytest.raises(InvalidOption, match=r"must be a function of \(job, call_next\); got .*too_few"):
        app.middleware(too_few)  # type: ignore[type-var]  # that is the point
    assert app.middlewares == []


@pytest.mark.parametrize("processes", [0, -1])
def test_a_worker_without_processes_is_refused(app: Rowlock, processes: int) -> None:
    with pytest.raises(InvalidOption, match=f"task_processes must be a whole number of at least 1; got {processes}"):
        app.worker(task_processes=processes)


# Batches.


async def listed(items: list[str]) -> None: ...


def listed_plainly(items: list[str]) -> None: ...


@pytest.mark.parametrize(
    "given, said",
    [
        ({"batch": 0}, "batch must be a whole number from 1 to 10000; got 0."),
        ({"batch": -1}, "batch must be a whole number from 1 to 10000; got -1."),
        ({"batch": True}, "batch must be a whole number from 1 to 10000; got True."),
        ({"batch": 2.5}, "batch must be a whole number from 1 to 10000; got 2.5."),
        ({"batch": 10_001}, "batch must be a whole number from 1 to 10000; got 10001."),
        ({"batch": 10, "batch_wait": -1}, "batch_wait must be zero or more seconds; got -1."),
        ({"batch": 10, "batch_wait": True}, "batch_wait must be seconds or a timedelta, at most a hundred years; got"),
        ({"batch_wait": 1}, "batch_wait needs batch; got only batch_wait 1. Give both, or omit it."),
        ({"batch": 10, "capture_logs": True}, "capture_logs cannot assign the log lines of a batch to its jobs"),
    ],
)
def test_options_of_a_batch_that_make_no_sense_are_refused(app: Rowlock, given: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(said)):
        app.task(**given)(listed)  # type: ignore[call-overload]  # that is the point
    assert not app.tasks


def test_a_batch_in_a_process_is_refused(app: Rowlock) -> None:
    with pytest.raises(InvalidOption, match="executor 'process' runs one job at a time, not a batch"):
        app.task(batch=10, executor="process")(listed_plainly)  # type: ignore[call-overload]  # that is the point


async def of_one(item: str) -> None: ...
async def of_nothing() -> None: ...
async def of_unknown(items: Any) -> None: ...  # noqa: ANN401  # that is the point
async def of_two(items: list[str], others: list[int]) -> None: ...
async def of_more(items: list[str], flag: bool) -> None: ...
async def of_one_job(job: Job, items: list[str]) -> None: ...
async def of_jobs(jobs: list[Job]) -> None: ...
async def of_jobs_twice(jobs: list[Job], more: list[Job], items: list[str]) -> None: ...
async def of_default(items: list[str] = []) -> None: ...  # noqa: B006  # that is the point
async def of_patterns(items: list[re.Pattern[str]]) -> None: ...


@pytest.mark.parametrize(
    "handler, said",
    [
        (of_one, "its parameter `item` is annotated `str`, not `list[...]`"),
        (of_nothing, "it has 0 lists of items and 0 of jobs"),
        (of_unknown, "its parameter `items` is annotated"),
        (of_two, "it has 2 lists of items and 0 of jobs"),
        (of_more, "its parameter `flag` is annotated `bool`, not `list[...]`"),
        (of_one_job, "its parameter `job` is annotated `rowlock.queue.jobs.job.Job`, not `list[...]`"),
        (of_jobs, "it has 0 lists of items and 1 of jobs"),
        (of_jobs_twice, "it has 1 lists of items and 2 of jobs"),
        (of_default, "its parameter `items` has a default, which would never apply"),
    ],
)
def test_a_handler_of_a_batch_that_takes_no_list_is_refused(
    app: Rowlock, handler: Callable[..., object], said: str
) -> None:
    with pytest.raises(InvalidOption, match=re.escape(said)) as caught:
        app.task(batch=10)(handler)  # type: ignore[arg-type]  # that is the point
    assert "batch=10 needs a handler of one list" in str(caught.value)
    assert not app.tasks


def test_an_item_that_has_no_form_in_json_is_refused(app: Rowlock) -> None:
    with pytest.raises(InvalidOption, match=r"parameter `items` of of_patterns\(\) .* has no form in JSON"):
        app.task(batch=10)(of_patterns)


def test_the_result_of_a_job_is_what_the_list_of_a_batch_holds_besides_errors() -> None:
    assert item_type(list[int]) is int
    assert item_type(list[int | ValueError | Retry] | None) is int
    assert item_type(list[int | str]) == int | str
    assert item_type(list[Exception]) is item_type(None) is item_type(Any) is Any
