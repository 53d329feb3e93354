"""`/v1/workers`: read live workers and their jobs; scale, quiet, resume and stop workers."""

from __future__ import annotations

from aiohttp import web

from rowlock.api.http.exchange import answer
from rowlock.api.http.problems import WORKER_NOT_FOUND, WRONG_STATE
from rowlock.api.routing.routes import Call, Routes
from rowlock.queue.operate.workers import LiveWorker
from rowlock.wire.jobs import JobSummary
from rowlock.wire.queues import ScaleWorkerRequest, WorkerDetail, WorkerList

routes = Routes("workers")


@routes.get("/v1/workers", scope="read", answers={200: WorkerList})
async def list_workers(call: Call) -> web.Response:
    """List all live workers, oldest first."""
    return answer(WorkerList(workers=await call.rowlock.workers.list()))


@routes.get("/v1/workers/{worker}", scope="read", answers={200: WorkerDetail}, problems=(WORKER_NOT_FOUND,))
async def show_worker(call: Call) -> web.Response:
    """Show one live worker, with its tasks and the jobs that it runs."""
    workers = call.rowlock.workers
    worker = await workers.get(call.path["worker"])
    jobs = [JobSummary.of(job) for job in await workers.jobs(worker.id)]
    return answer(WorkerDetail.of(worker, tasks=list(await workers.tasks(worker.id)), jobs=jobs))


@routes.post("/v1/workers/{worker}/scale", scope="admin", answers={200: LiveWorker}, problems=(WORKER_NOT_FOUND,))
async def scale_worker(call: Call, body: ScaleWorkerRequest) -> web.Response:
    """Set how many jobs a live worker runs at once."""
    workers = call.rowlock.workers.through(call.origin)
    return answer(await workers.scale(call.path["worker"], body.concurrency))


@routes.post(
    "/v1/workers/{worker}/quiet",
    scope="operate",
    answers={200: LiveWorker},
    problems=(WORKER_NOT_FOUND, WRONG_STATE),
)
async def quiet_worker(call: Call) -> web.Response:
    """Quiet a live worker: it claims no new jobs; its running jobs continue."""
    return answer(await call.rowlock.workers.through(call.origin).quiet(call.path["worker"]))


@routes.post(
    "/v1/workers/{worker}/resume",
    scope="operate",
    answers={200: LiveWorker},
    problems=(WORKER_NOT_FOUND, WRONG_STATE),
)
async def resume_worker(call: Call) -> web.Response:
    """Resume a quiet worker: it claims jobs again."""
    return answer(await call.rowlock.workers.through(call.origin).resume(call.path["worker"]))


@routes.post(
    "/v1/workers/{worker}/stop",
    scope="operate",
    answers={200: LiveWorker},
    problems=(WORKER_NOT_FOUND,),
)
async def stop_worker(call: Call) -> web.Response:
    """Stop a live worker as SIGTERM does: it claims no more jobs, and ends once its jobs have ended."""
    return answer(await call.rowlock.workers.through(call.origin).stop(call.path["worker"]))
