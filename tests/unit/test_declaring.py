"""What is refused, and why, when tasks, failure handlers and middleware are declared."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import pytest

from rowlock import CallNext, InvalidOption, Job, Rowlock


@pytest.fixture
def app() -> Rowlock:
    return Rowlock()


async def coroutine() -> None: ...


def plain() -> None: ...


@pytest.mark.parametrize(
    "function, executor, said",
    [
        (coroutine, "thread", "executor 'thread' runs plain functions, and this one is async"),
        (coroutine, "process", "executor 'process' runs plain functions, and this one is async"),
        (plain, "loop", "executor 'loop' would let a plain function block every other job"),
        (plain, "fork", "executor 'fork' is not known: use 'loop', 'thread' or 'process'."),
        (plain, ["thread"], "executor ['thread'] is not known"),
        (lambda: None, "process", "define it with def at the top level of a module"),
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

    with pytest.raises(InvalidOption, match=r"not_async .* is not async"):
        app.middleware(not_async)
    with pytest.raises(InvalidOption, match=r"too_few cannot be called with \(job, call_next\)"):
        app.middleware(too_few)  # type: ignore[type-var]  # that is the point
    assert app.middlewares == []


@pytest.mark.parametrize("processes", [0, -1])
def test_a_worker_without_processes_is_refused(app: Rowlock, processes: int) -> None:
    with pytest.raises(InvalidOption, match=f"task_processes {processes} makes no sense"):
        app.worker(task_processes=processes)
