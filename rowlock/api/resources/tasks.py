"""`/v1/tasks`: the tasks that workers have registered."""

from __future__ import annotations

from aiohttp import web

from rowlock.api.http.exchange import answer
from rowlock.api.routing.routes import Call, Routes
from rowlock.wire.queues import KnownTask, TaskList

routes = Routes("tasks")


@routes.get("/v1/tasks", scope="read", by_queue=True, answers={200: TaskList})
async def list_tasks(call: Call) -> web.Response:
    """List the tasks that workers have registered, by name."""
    known = [KnownTask(**row) for row in await call.rowlock.database.run("list_tasks")]
    return answer(TaskList(tasks=[task for task in known if call.access.sees(task.queue)]))
