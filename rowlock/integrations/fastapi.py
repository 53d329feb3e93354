"""Enqueue in the transaction of a FastAPI request: `enqueuing` makes the dependency, which returns an `Enqueuer`."""

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
    "Pass the annotation that your handlers use for their session, as in Session = Annotated[AsyncSession, "
    'Depends(open_session, scope="function")] and enqueuing(Session): then both have the same session.'
)


class Enqueuer:
    """Enqueues in the transaction of one request's session. `enqueuing(...)` makes the dependency that returns it.

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

        Set options with `using`: `jobs.enqueue(send_email.using(delay=60), …)`. Raises `InvalidArguments`,
        `InvalidOption` and `DuplicateJob`, as `task.enqueue(...)` does.
        """
        return await self._bound(task).enqueue(*args, **kwargs)

    def enqueue_sync(self, task: Task[P, R] | BoundTask[P, R], /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """The same over a synchronous session: for handlers that are plain functions."""
        return self._bound(task).enqueue_sync(*args, **kwargs)

    def _bound(self, task: Task[P, R] | BoundTask[P, R]) -> BoundTask[P, R]:
        if isinstance(task, Task):
            return task.using(connection=self._session)
        if not isinstance(task, BoundTask):
            raise InvalidOption(
                f"task must be a function that @app.task decorates, or what its using(...) returns; got {task!r}."
            )
        return BoundTask(task._task, task._options, self._session)  # noqa: SLF001  # the same options, another connection


def enqueuing(session: Any) -> Callable[..., Awaitable[Enqueuer]]:  # noqa: ANN401  # an Annotated, for which there is no type
    """Make a dependency that returns an `Enqueuer` on the request's session, the result of the dependency `session`.

    `session` is the annotation of the handlers' parameter: `Annotated[AsyncSession, Depends(open_session)]`, or the
    `Depends(...)` in it. FastAPI calls that once a request, so the handler and the `Enqueuer` share the session.
    It may be a session or connection of every kind that `using(connection=...)` accepts, async or not. `session`
    decides when to commit; `Depends(open_session, scope="function")` commits before the response is sent.

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

    give.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]  # FastAPI reads it
    return give


def _refuse(given: object) -> NoReturn:
    name = getattr(given, "__name__", None) or repr(given)
    raise InvalidOption(f"enqueuing() must be given a dependency; got {name}. {_REMEDY}")


def _check_kind(session: object) -> None:
    """Refuse a session that cannot enqueue. None would mean no connection, so a transaction of its own."""
    if session is None:
        raise InvalidOption("The dependency of enqueuing() must return a session; got None. Let it yield its session.")
    if not isinstance(session, drivers.OF_ASYNCPG):
        drivers.adapter_of(session)
