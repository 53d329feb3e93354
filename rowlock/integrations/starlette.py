"""The queue inside a FastAPI or Starlette application: `lifespan`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Unpack

from rowlock.errors import InvalidOption
from rowlock.integrations.beside import WorkerOptions, beside, check_queue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import Lifespan

    from rowlock.app import Rowlock

__all__ = ["lifespan"]


def lifespan(
    queue: Rowlock,
    *,
    worker: bool = True,
    within: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None,
    **options: Unpack[WorkerOptions],
) -> Lifespan[Any]:
    """A lifespan that runs a worker inside the web application, and closes the queue at its end.

    `options` are those of `app.worker(...)`. With `worker=False` there is none, and jobs are run by `rowlock worker`.
    `within`: a lifespan of the application's own, which begins before the worker and ends after it, so that jobs can
    use what it opens; the state that it yields is the application's.

    At shutdown, once the last request is answered, the worker claims no more, and running jobs have the grace period.
    Signals stay the server's. Each server process has a worker. Raises `InvalidOption` for what is no Rowlock; what
    keeps the worker from starting (`DatabaseUnavailable`, `SchemaNotMigrated`) keeps the application from starting.

    >>> app = FastAPI(lifespan=lifespan(queue, concurrency=20))
    """
    check_queue(queue, caller="lifespan()")
    if within is not None and not callable(within):
        raise InvalidOption(
            f"within {within!r} is no lifespan: give the function that FastAPI(lifespan=...) would take, "
            "an @asynccontextmanager of one argument."
        )

    @asynccontextmanager
    async def run(app: Any) -> AsyncIterator[Any]:  # noqa: ANN401  # a Starlette; its state is the application's own
        if within is None:
            async with beside(queue, options if worker else None):
                yield
        else:
            async with within(app) as state, beside(queue, options if worker else None):
                yield state

    return run
