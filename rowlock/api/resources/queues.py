"""`/v1/queues`: read, pause, resume and scale queues; `/v1/limits`: the limits of how many jobs run at once."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from rowlock.api.http.exchange import answer
from rowlock.api.http.problems import FORBIDDEN, Refused
from rowlock.api.http.readings import READINGS
from rowlock.api.routing.routes import Call, Routes
from rowlock.queue.operate.queues import Queues
from rowlock.queue.read.queues import Queue
from rowlock.wire.queues import Limits, QueueLimit, QueueList, ScaleRequest, WorkerLimit
from rowlock.words import quoted

routes = Routes("queues")


@routes.get("/v1/queues", scope="read", by_queue=True, answers={200: QueueList})
async def list_queues(call: Call) -> web.Response:
    """List all known queues, by name."""
    queues = await _all_queues(call)
    return answer(QueueList(queues=[queue for queue in queues if call.access.sees(queue.name)]))


@routes.get("/v1/queues/{queue}", scope="read", by_queue=True, answers={200: Queue})
async def show_queue(call: Call) -> web.Response:
    """Show one queue. An unknown queue has no jobs and no workers."""
    queues = _queues(call)
    name = call.path["queue"]
    return answer(await call.request.app[READINGS].get(("queue", name), partial(queues.get, name, exact=False)))


@routes.post("/v1/queues/{queue}/pause", scope="operate", by_queue=True, answers={200: Queue})
async def pause_queue(call: Call) -> web.Response:
    """Pause the queue: none of its jobs starts until it is resumed."""
    return answer(await _queues(call).pause(call.path["queue"]))


@routes.post("/v1/queues/{queue}/resume", scope="operate", by_queue=True, answers={200: Queue})
async def resume_queue(call: Call) -> web.Response:
    """Resume the queue: its jobs start again."""
    return answer(await _queues(call).resume(call.path["queue"]))


@routes.post("/v1/queues/{queue}/scale", scope="admin", by_queue=True, answers={200: Queue})
async def scale_queue(call: Call, body: ScaleRequest) -> web.Response:
    """Limit how many of the queue's jobs each worker runs at once."""
    return answer(await _queues(call).scale(call.path["queue"], body.concurrency))


@routes.get("/v1/limits", scope="read", answers={200: Limits})
async def list_limits(call: Call) -> web.Response:
    """List the limits of how many jobs run at once: of queues, and of each live worker."""
    queues, workers = await _all_queues(call), await call.rowlock.workers.list()
    return answer(
        Limits(
            queues=[
                QueueLimit(name=queue.name, concurrency=queue.concurrency)
                for queue in queues
                if queue.concurrency is not None
            ],
            workers=[
                WorkerLimit(id=one.id, hostname=one.hostname, pid=one.pid, concurrency=one.concurrency)
                for one in workers
            ],
        )
    )


async def _all_queues(call: Call) -> list[Queue]:
    """Return the queues from a recent reading, shared between requests."""
    return await call.request.app[READINGS].get("queues", partial(call.rowlock.queues.list, exact=False))


def _queues(call: Call) -> Queues:
    """Return the acts on queues, if this access sees the path's queue. Raises `Refused`."""
    queue = call.path["queue"]
    if not call.access.sees(queue):
        raise Refused(FORBIDDEN, f"queue must be one of the key's queues; got {quoted(queue)}.")
    return call.rowlock.queues.through(call.origin)
