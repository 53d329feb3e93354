"""The lists that a batch handler receives and returns: each job has one item in each."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NoReturn

from rowlock.errors import InvalidOption
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.job import Job
from rowlock.queue.jobs.json_values import type_name
from rowlock.queue.tasks.parameters import resolved
from rowlock.words import quoted

DEFAULT_WAIT: Final = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A task's batching: up to `size` jobs in one call, after the first has waited `wait` at most.

    `items` and `jobs` are the names of the handler's parameters. `member` has the signature of one job's call: the
    item, and the job if the handler has a parameter for jobs.
    """

    size: int
    wait: timedelta
    items: str
    jobs: str | None
    member: Callable[..., object]

    def lists(self, items: list[Any], jobs: list[Any]) -> dict[str, list[Any]]:
        """The arguments of a call of the handler."""
        return {self.items: items} if self.jobs is None else {self.items: items, self.jobs: jobs}


def read_batch(
    function: Callable[..., object], *, task: str, size: object, wait: object, executor: str, captures_logs: bool
) -> Batch | None:
    """Check the options `batch` and `batch_wait` and their handler; None without `batch`.

    Raises `InvalidOption`.
    """
    if size is None:
        if wait is not None:
            raise InvalidOption(f"batch_wait needs batch; got only batch_wait {quoted(wait)}. Give both, or omit it.")
        return None
    most = checks.batch(size)
    waits = DEFAULT_WAIT if wait is None else checks.batch_wait(wait)
    if executor == "process":
        raise InvalidOption(
            "executor 'process' runs one job at a time, not a batch. Omit batch, or the executor (a plain function "
            "then runs in a thread)."
        )
    if captures_logs:
        raise InvalidOption(
            "capture_logs cannot assign the log lines of a batch to its jobs. Omit capture_logs or batch."
        )
    return _read_handler(function, task, most, waits)


def item_type(returns: object) -> object:
    """The type of one job's result, from a batch handler's return annotation; Any if that names none.

    Of `list[int | Exception] | None` it is `int`.
    """
    lists = [choice for choice in _choices(returns) if typing.get_origin(choice) is list]
    if len(lists) != 1:
        return Any
    values = [choice for choice in _choices(typing.get_args(lists[0])[0]) if not _is_error(choice)]
    if not values:
        return Any
    return functools.reduce(lambda one, other: typing.Union[one, other], values)  # noqa: UP007  # made at run time


def _read_handler(function: Callable[..., object], task: str, size: int, wait: timedelta) -> Batch:
    name = getattr(function, "__qualname__", "the handler").rpartition(".")[2]

    def refuse(why: str) -> NoReturn:
        raise InvalidOption(
            f"Task {quoted(task)}: batch={size} needs a handler of one list, def {name}(items: list[...]), and "
            f"optionally of list[Job]; {why}."
        )

    items: list[tuple[inspect.Parameter, Any]] = []
    jobs: list[str] = []
    for parameter, hint in resolved(function, task=task, injected=Job):
        if typing.get_origin(hint) is not list:
            refuse(f"its parameter `{parameter.name}` is annotated `{type_name(hint)}`, not `list[...]`")
        (item,) = typing.get_args(hint)
        if Job in (item, typing.get_origin(item)):
            jobs.append(parameter.name)
        else:
            items.append((parameter, item))
    if len(items) != 1 or len(jobs) > 1:
        refuse(f"it has {len(items)} lists of items and {len(jobs)} of jobs")
    parameter, item = items[0]
    if parameter.default is not inspect.Parameter.empty:
        refuse(f"its parameter `{parameter.name}` has a default, which would never apply")
    return Batch(
        size=size,
        wait=wait,
        items=parameter.name,
        jobs=jobs[0] if jobs else None,
        member=_member(function, parameter.name, item, jobs),
    )


def _member(function: Callable[..., object], name: str, item: object, jobs: list[str]) -> Callable[..., object]:
    """A function with the signature of one job's call, by which arguments are read."""

    @functools.wraps(function)
    def member(*_: object) -> NoReturn:
        raise AssertionError("only the gathering calls a batch")

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind, annotation=item)]
    parameters += [inspect.Parameter(other, kind, annotation=Job) for other in jobs]
    member.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # inspect.signature reads it
    return member


def _choices(hint: object) -> tuple[Any, ...]:
    """The members of a union; any other hint alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _is_error(choice: object) -> bool:
    return isinstance(choice, type) and issubclass(choice, BaseException)


__all__ = ["DEFAULT_WAIT", "Batch", "item_type", "read_batch"]
