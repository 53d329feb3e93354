"""`/v1/schedules`: list, create, edit, pause, resume, run and delete schedules."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from rowlock.api.backend import BACKEND
from rowlock.api.exchange import answer, read_body, read_query
from rowlock.api.operations import origin_of
from rowlock.api.wire import ScheduleChanges, ScheduleForm, SchedulePage, ScheduleRequest, StartedJob, TickForm
from rowlock.queue.schedules import Schedules

TICKS_SHOWN: Final = 50

routes = web.RouteTableDef()


@routes.get("/v1/schedules")
async def list_schedules(request: web.Request) -> web.Response:
    """All schedules, by name."""
    read_query(request)
    return answer(SchedulePage(schedules=[ScheduleForm.of(one) for one in await _schedules(request).list()]))


@routes.post("/v1/schedules")
async def create(request: web.Request) -> web.Response:
    """Create a schedule: 201."""
    body = await read_body(request, ScheduleRequest)
    options = {name: getattr(body, name) for name in body.__struct_fields__}
    created = await _schedules(request).create(**options)
    location = request.rel_url.with_query(None) / created.name
    return answer(ScheduleForm.of(created), status=201, headers={hdrs.LOCATION: str(location)})


@routes.get("/v1/schedules/{name}")
async def show(request: web.Request) -> web.Response:
    """One schedule, with the last ticks that fired."""
    read_query(request)
    name, schedules = request.match_info["name"], _schedules(request)
    schedule, ticks = await schedules.get(name), await schedules.ticks(name, limit=TICKS_SHOWN)
    return answer(ScheduleForm.of(schedule, ticks=[TickForm.of(tick) for tick in ticks]))


@routes.patch("/v1/schedules/{name}")
async def edit(request: web.Request) -> web.Response:
    """Change what the body names; the rest stays."""
    body = await read_body(request, ScheduleChanges)
    edited = await _schedules(request).edit(request.match_info["name"], **body.given())
    return answer(ScheduleForm.of(edited))


@routes.delete("/v1/schedules/{name}")
async def delete(request: web.Request) -> web.Response:
    """Delete a schedule: 204. Its jobs stay."""
    await _schedules(request).delete(request.match_info["name"])
    return web.Response(status=204)


@routes.post("/v1/schedules/{name}/pause")
async def pause(request: web.Request) -> web.Response:
    """Let no tick fire until it is resumed."""
    return answer(ScheduleForm.of(await _schedules(request).pause(request.match_info["name"])))


@routes.post("/v1/schedules/{name}/resume")
async def resume(request: web.Request) -> web.Response:
    """Let ticks fire again, from now on."""
    return answer(ScheduleForm.of(await _schedules(request).resume(request.match_info["name"])))


@routes.post("/v1/schedules/{name}/run")
async def run(request: web.Request) -> web.Response:
    """Enqueue a job now: 201, with its id, and where it is."""
    handle = await _schedules(request).run_now(request.match_info["name"])
    location = request.rel_url.with_query(None).parent.parent.parent / "jobs" / str(handle.id)
    return answer(StartedJob(id=handle.id, task=handle.task), status=201, headers={hdrs.LOCATION: str(location)})


def _schedules(request: web.Request) -> Schedules:
    return request.app[BACKEND].schedules.through(origin_of(request))
