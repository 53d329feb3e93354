"""`/v1/overview` and `/v1/statistics`: a snapshot of the queue, and the jobs that ended in a window of time."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec
from aiohttp import web

from rowlock.api.http.exchange import answer
from rowlock.api.http.readings import READINGS
from rowlock.api.routing.routes import Call, Routes
from rowlock.queue.connect.database import Database
from rowlock.queue.jobs.fields import QueueName, TaskName, said
from rowlock.queue.read.overview import Overview, read_overview
from rowlock.queue.read.statistics import Statistics, Window, read_statistics

routes = Routes("overview")


class StatisticsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The window, which ends now, and optionally one queue or task."""

    window: Annotated[Window, said("the window, which ends now")] = "1h"
    queue: QueueName | None = None
    task: TaskName | None = None


@routes.get("/v1/overview", scope="read", by_queue=True, answers={200: Overview})
async def overview(call: Call) -> web.Response:
    """Show a snapshot: live jobs, dead letters, queues, workers, and the last minute. At most some seconds old."""
    return answer(await overview_of(call.request.app, call.rowlock.database, call.access.queues))


@routes.get("/v1/statistics", scope="read", by_queue=True, answers={200: Statistics})
async def statistics(call: Call, query: StatisticsQuery) -> web.Response:
    """Count the jobs that ended in the window: in total, over time, by queue and by task, with percentiles."""
    within = call.access.queues
    read = partial(
        read_statistics, call.rowlock.database, query.window, queue=query.queue, task=query.task, within=within
    )
    return answer(await call.request.app[READINGS].get((query, within), read))


async def overview_of(app: web.Application, database: Database, within: frozenset[str] | None) -> Overview:
    """Return a recent overview, shared between requests."""
    return await app[READINGS].get(("overview", within), partial(read_overview, database, within))
