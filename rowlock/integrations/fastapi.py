"""Enqueuing in the transaction of a FastAPI request: `enqueuing` makes the dependency, which gives an `Enqueuer`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, get_args

from fastapi.params import Depends

from rowlock.errors import InvalidOption
from rowlock.queue.connect import drivers
from rowlock.queue.enqueue.task import BoundTask, Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rowlock.queue.read.handle import JobHandle

__all__ = ["Enqueuer", "enqueuing"]

P = ParamSpec("P")
R = TypeVar("R")

_REMEDY = (
    "give it what your handlers annotate their session with, as in Session = Annotated[AsyncSession, "
    'Depends(open_session, scope="function")] and enqueuing(Session): so both have the same session.'
)


class Enqueuer:
    """Enqueues in the transaction of one request's session. `enqueuing(...)` makes the dependency that gives it.

    >>> @app.post("/users")
    ... async def sign_up(email: str, session: Session, jobs: Jobs) -> None:
    ...     session.add(User(email=email))
    ...     await jobs.enqueue(send_email, email, "Welcome", "…")
    """

    __slots__ = ("_session",)

    def __init__(self, session: object) -> None:
        self._session = session

    async def enqueue(self, task: Task[P, R] | BoundTask[P, R], /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueue a job of this task, with these arguments: it exists if and only if the session's transaction commits.

        Options are given by `using`: `jobs.enqueue(send_email.using(delay=60), …)`. Raises `InvalidArguments`,
        `InvalidOption` and `DuplicateJob`, as `task.enqueue(...)` does.
        """
        return await self._bound(task).enqueue(*args, **kwargs)

    def enqueue_sync(self, task: Task[P, R] | BoundTask[P, R], /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """As `enqueue`, over a synchronous session: for handlers that are plain functions."""
        return self._bound(task).enqueue_sync(*args, **kwargs)

    def _bound(self, task: Task[P, R] | BoundTask[P, R]) -> BoundTask[P, R]:
        if isinstance(task, Task):
            return task.using(connection=self._session)
        if not isinstance(task, BoundTask):
            raise InvalidOption(
                f"{task!r} is no task: give the function that @app.task decorates, or what its using(...) returns."
            )
        return BoundTask(task._task, task._options, self._session)  # noqa: SLF001  # the same options, another connection


def enqueuing(session: Any) -> Callable[..., Awaitable[Enqueuer]]:  # noqa: ANN401  # an Annotated, for which there is no type
    """A dependency that gives an `Enqueuer` on the session which `session`, another dependency, gives to the request.

    `session` is what the handlers are annotated with: `Annotated[AsyncSession, Depends(open_session)]`, or the
    `Depends(...)` in it. FastAPI calls that once a request, so the handler's session and this one are the same.
    Sessions and connections can be of every kind that `using(connection=...)` takes, async or not. The commit is where
    `session` has it; `Depends(open_session, scope="function")` has it before the response is sent.

    Raises `InvalidOption` for anything else, and at the request for a session of an unknown kind.

    >>> Session = Annotated[AsyncSession, Depends(open_session, scope="function")]
    >>> Jobs = Annotated[Enqueuer, Depends(enqueuing(Session))]
    """
    parameter = inspect.Parameter("session", inspect.Parameter.KEYWORD_ONLY)
    if isinstance(session, Depends):
        parameter = parameter.replace(default=session)
    elif any(isinstance(part, Depends) for part in get_args(session)[1:]):
        parameter = parameter.replace(annotation=session)
    else:
        _refuse(session)

    async def give(*, session: object) -> Enqueuer:
        _check_kind(session)
        return Enqueuer(session)

    give.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]  # what FastAPI reads
    return give


def _refuse(given: object) -> NoReturn:
    name = getattr(given, "__name__", None) or repr(given)
    raise InvalidOption(f"enqueuing() was given {name}, which is no dependency: {_REMEDY}")


def _check_kind(session: object) -> None:
    """Refuse a session on which nothing can be enqueued. None would be no connection: a transaction of its own."""
    if session is None:
        raise InvalidOption("The dependency of enqueuing() gave None instead of a session: let it yield its session.")
    if not isinstance(session, drivers.OF_ASYNCPG):
        drivers.adapter_of(session)
