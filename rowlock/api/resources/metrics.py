"""`/metrics`: the state of the database and of this process, for Prometheus."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import asyncpg
from aiohttp import web

from rowlock import logs
from rowlock.api.http.observing import REQUESTS
from rowlock.api.http.problems import METRICS_UNAVAILABLE, Refused
from rowlock.api.http.readings import READINGS
from rowlock.api.resources.overview import overview_of
from rowlock.api.routing.routes import Call, Routes
from rowlock.errors import RowlockError, SchemaNotMigrated
from rowlock.metrics.snapshot import Snapshot
from rowlock.queue.connect.server_errors import CONNECTION_LOST
from rowlock.queue.read.gauges import read_horizon, read_tables

log = logs.get_logger("rowlock.api")

WITHIN: Final = 4.0
"""Seconds within which each part must be read; a late part is omitted. Prometheus waits ten seconds."""
TEXT: Final = "text/plain"

routes = Routes("health")


ERRORS: web.AppKey[Counter[str]] = web.AppKey("scrape_errors")
"""How often each part could not be read since the process started."""
PARTS: Final = ("overview", "horizon", "tables")


@routes.get(
    "/metrics",
    scope="read",
    answers={200: str},
    media=TEXT,
    problems=(METRICS_UNAVAILABLE,),
    outlives_database=True,
)
async def metrics(call: Call) -> web.Response:
    """Export the state of the database and of this process as Prometheus text, at most some seconds old.

    While the database is away, `rowlock_database_up` is 0, and the metrics of this process are served to keys that were
    accepted within the hour before.
    """
    try:
        from rowlock.metrics.api import ApiCollector, exposition  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        detail = 'prometheus-client is not installed where the API runs: pip install "rowlock[metrics]"'
        raise Refused(METRICS_UNAVAILABLE, detail) from error
    snapshot = await _snapshot(call)
    app = call.request.app
    collector = ApiCollector(app[REQUESTS], call.rowlock.database.pool_use(asyncio.get_running_loop()), snapshot)
    return web.Response(body=exposition(collector), content_type=TEXT, charset="utf-8")


async def _snapshot(call: Call) -> Snapshot:
    app, client = call.request.app, call.rowlock.database
    readings, errors = app[READINGS], app[ERRORS]
    failed: list[Exception] = []

    async def part(name: str, read: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401  # whatever is read
        try:
            async with asyncio.timeout(WITHIN):
                return await read()
        except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError) as error:
            errors[name] += 1
            failed.append(error)
            log.warning("metrics_not_read", part=name, error=type(error).__name__)
            return None
        except Exception:  # a defect in one part must not leave every alert without a sample
            errors[name] += 1
            log.exception("metrics_not_read", part=name)
            return None

    overview, horizon, tables = await asyncio.gather(
        part("overview", lambda: overview_of(app, client, None)),
        part("horizon", lambda: readings.get("horizon", partial(read_horizon, client))),
        part("tables", lambda: readings.get("tables", partial(read_tables, client))),
    )
    is_up = len(failed) < len(PARTS) or any(isinstance(error, SchemaNotMigrated) for error in failed)
    return Snapshot(is_up=is_up, overview=overview, horizon=horizon, tables=tables, errors=errors)
