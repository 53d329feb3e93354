"""`/v1/schedules`: list, create, edit, pause, resume, run and delete schedules."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from rowlock.api.exchange import answer
from rowlock.api.problems import INVALID_ARGUMENTS, INVALID_REQUEST, SCHEDULE_NOT_FOUND, UNKNOWN_TASK, Refused
from rowlock.api.routes import Call, Routes
from rowlock.api.wire.schedules import (
    ScheduleChanges,
    ScheduleDetail,
    ScheduleForm,
    SchedulePage,
    ScheduleRequest,
    StartedJob,
)
from rowlock.queue.schedules import Schedules

TICKS_SHOWN: Final = 50

routes = Routes("schedules")


@routes.get("/v1/schedules", scope="read", answers={200: SchedulePage})
async def list_schedules(call: Call) -> web.Response:
    """All schedules, by name."""
    return answer(SchedulePage(schedules=[ScheduleForm.of(one) for one in await _schedules(call).list()]))


@routes.post(
    "/v1/schedules",
    scope="admin",
    answers={201: ScheduleForm},
    headers={201: (hdrs.LOCATION,)},
    problems=(UNKNOWN_TASK, INVALID_ARGUMENTS),
)
async def create_schedule(call: Call, body: ScheduleRequest) -> web.Response:
    """Create a schedule: 201."""
    options = {name: getattr(body, name) for name in body.__struct_fields__}
    created = await _schedules(call).create(**options)
    location = call.request.rel_url.with_query(None) / created.name
    return answer(ScheduleForm.of(created), status=201, headers={hdrs.LOCATION: str(location)})


@routes.get("/v1/schedules/{schedule}", scope="read", answers={200: ScheduleDetail}, problems=(SCHEDULE_NOT_FOUND,))
async def show_schedule(call: Call) -> web.Response:
    """One schedule, with the last ticks that fired."""
    name, schedules = call.path["schedule"], _schedules(call)
    schedule, ticks = await schedules.get(name), await schedules.ticks(name, limit=TICKS_SHOWN)
    return answer(ScheduleDetail.of_ticks(schedule, ticks))


@routes.patch(
    "/v1/schedules/{schedule}",
    scope="admin",
    answers={200: ScheduleForm},
    problems=(SCHEDULE_NOT_FOUND, UNKNOWN_TASK, INVALID_ARGUMENTS),
)
async def edit_schedule(call: Call, body: ScheduleChanges) -> web.Response:
    """Change what the body names; the rest stays."""
    name, changes = call.path["schedule"], body.given()
    if "task" in changes and "args" not in changes and (await _schedules(call).get(name)).is_sensitive:
        detail = "args: give them anew with another task: those of a sensitive one are not handed on."
        raise Refused(INVALID_REQUEST, detail, field="args")
    edited = await _schedules(call).edit(name, **changes)
    return answer(ScheduleForm.of(edited))


@routes.delete("/v1/schedules/{schedule}", scope="admin", answers={204: None}, problems=(SCHEDULE_NOT_FOUND,))
async def delete_schedule(call: Call) -> web.Response:
    """Delete a schedule: 204. Its jobs stay."""
    await _schedules(call).delete(call.path["schedule"])
    return web.Response(status=204)


@routes.post(
    "/v1/schedules/{schedule}/pause", scope="operate", answers={200: ScheduleForm}, problems=(SCHEDULE_NOT_FOUND,)
)
async def pause_schedule(call: Call) -> web.Response:
    """Let no tick fire until it is resumed."""
    return answer(ScheduleForm.of(await _schedules(call).pause(call.path["schedule"])))


@routes.post(
    "/v1/schedules/{schedule}/resume", scope="operate", answers={200: ScheduleForm}, problems=(SCHEDULE_NOT_FOUND,)
)
async def resume_schedule(call: Call) -> web.Response:
    """Let ticks fire again, from now on."""
    return answer(ScheduleForm.of(await _schedules(call).resume(call.path["schedule"])))


@routes.post(
    "/v1/schedules/{schedule}/run",
    scope="operate",
    answers={201: StartedJob},
    headers={201: (hdrs.LOCATION,)},
    problems=(SCHEDULE_NOT_FOUND,),
)
async def run_schedule(call: Call) -> web.Response:
    """Enqueue a job now: 201, with its id, and where it is."""
    handle = await _schedules(call).run(call.path["schedule"])
    location = call.request.rel_url.with_query(None).parent.parent.parent / "jobs" / str(handle.id)
    return answer(StartedJob(id=handle.id, task=handle.task), status=201, headers={hdrs.LOCATION: str(location)})


def _schedules(call: Call) -> Schedules:
    return call.backend.schedules.through(call.origin)
