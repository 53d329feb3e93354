"""A worker process's HTTP probes: `/metrics`, `/healthz` and `/readyz`, for monitoring."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from aiohttp import web

from rowlock.api.http.exchange import answer, identify, refuse_encoded, set_headers
from rowlock.api.http.problems import METRICS_UNAVAILABLE, Kind, Refused, answer_problems, answer_unrouted
from rowlock.api.resources.health import Health, check_database

if TYPE_CHECKING:
    from rowlock.queue.connect.database import Database
    from rowlock.worker.worker import Worker

NOT_READY: Final = Kind(status=503, title="The worker claims no jobs now", name="worker-not-ready")

TEXT: Final = "text/plain"


def create_probes(worker: Worker, database: Database) -> web.Application:
    """Make the application of a worker's probes. Serve it on a port of its own: it requires no authentication.

    `/healthz`: the event loop turns. `/readyz`: in addition, the worker has its lease, the database answers, and its
    schema is the right one; a worker that stops or is quiet is not ready. `/metrics` needs the extra `metrics`.
    """

    async def healthz(_request: web.Request) -> web.Response:  # aiohttp awaits it
        return answer(Health())

    async def readyz(_request: web.Request) -> web.Response:
        await check_database(database)
        if worker.is_stopping:
            raise Refused(NOT_READY, "The worker is stopping: it claims no more jobs, and finishes its running ones.")
        if worker.is_quiet:
            raise Refused(NOT_READY, "An operator has quieted the worker: it claims no jobs until it is resumed.")
        if not worker.is_leased:
            raise Refused(
                NOT_READY, "The worker has no lease: it has not started yet, or has lost its lease and starts again."
            )
        return answer(Health())

    async def metrics(_request: web.Request) -> web.Response:
        # In a thread: hundreds of kinds of jobs take some hundredths of a second, which would block the event loop.
        return web.Response(body=await asyncio.to_thread(exposition), content_type=TEXT, charset="utf-8")

    exposition = _exposition(worker)
    app = web.Application(middlewares=(identify, refuse_encoded, answer_problems))
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.on_response_prepare.extend((answer_unrouted, set_headers))
    return app


def _exposition(worker: Worker) -> Callable[[], bytes]:
    """Return the function that renders the text for Prometheus, or reports that a package is missing."""
    try:
        from rowlock.metrics.families import exposition  # noqa: PLC0415  # an extra
        from rowlock.metrics.worker import WorkerCollector  # noqa: PLC0415
    except ModuleNotFoundError:

        def refuse() -> bytes:
            raise Refused(METRICS_UNAVAILABLE, 'prometheus-client is not installed: pip install "rowlock[metrics]"')

        return refuse
    collector = WorkerCollector(worker)
    return lambda: exposition(collector)


__all__ = ["create_probes"]
