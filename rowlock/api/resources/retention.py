"""`/v1/retention`: how long finished jobs are kept."""

from __future__ import annotations

import msgspec
from aiohttp import web

from rowlock.api.http.exchange import answer
from rowlock.api.routing.routes import Call, Routes
from rowlock.wire.queues import KeepRequest, KeptQueue, KeptQueues

routes = Routes("retention")


@routes.get("/v1/retention", scope="read", answers={200: KeptQueues})
async def show_retention(call: Call) -> web.Response:
    """Show how long finished jobs are kept, by queue and outcome, and the days of the archive."""
    said = await call.rowlock.retention.show()
    return answer(KeptQueues(queues=[KeptQueue.of(queue) for queue in said.queues], days=said.days))


@routes.put("/v1/retention/{queue}", scope="admin", answers={200: KeptQueue})
async def keep(call: Call, body: KeepRequest) -> web.Response:
    """Set how long a queue's finished jobs are kept; `*` sets it for queues without a time of their own."""
    retention = call.rowlock.retention.through(call.origin)
    return answer(KeptQueue.of(await retention.keep(call.path["queue"], **msgspec.structs.asdict(body))))
