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

    `options` are those of `app.worker(...)`. With `worker=False` no worker runs here: `rowlock worker` runs the jobs.
    `within`: the application's own lifespan, which begins before the worker and ends after it, so that jobs can use
    its resources; the application gets the state that it yields.

    At shutdown, once the last request is answered, the worker stops claiming, and running jobs get the grace period.
    Signals stay the server's. Each server process has a worker. Raises `InvalidOption` if `queue` is not a `Rowlock`;
    an error that prevents the worker from starting (`DatabaseUnavailable`, `SchemaNotMigrated`) prevents the
    application's start, too.

    >>> app = FastAPI(lifespan=lifespan(queue, concurrency=20))
    """
    check_queue(queue, caller="lifespan()")
    if within is not None and not callable(within):
        raise InvalidOption(
            f"within must be the function that FastAPI(lifespan=...) accepts, an @asynccontextmanager of one argument; "
            f"got {within!r}."
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
