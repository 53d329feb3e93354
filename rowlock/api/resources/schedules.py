"""`/v1/schedules`: list, create, edit, pause, resume, run and delete schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import ETag, hdrs, web

from rowlock.api.http.exchange import IF_MATCH_HEADER, answer, answer_if_new, seen_revisions, tag_of
from rowlock.api.http.problems import (
    INVALID_ARGUMENTS,
    INVALID_KEY,
    INVALID_REQUEST,
    KEY_REUSED,
    SCHEDULE_CHANGED,
    SCHEDULE_EXISTS,
    SCHEDULE_NOT_FOUND,
    UNKNOWN_TASK,
    Refused,
)
from rowlock.api.routing.idempotency import REPEATED_HEADER, answer_again, once
from rowlock.api.routing.routes import Call, Routes
from rowlock.queue.enqueue.idempotency import Answer
from rowlock.queue.operate.schedules import Schedules
from rowlock.queue.schedules.schedule import StoredSchedule, revision
from rowlock.wire.schedules import (
    ScheduleChanges,
    ScheduleDetail,
    ScheduleForm,
    SchedulePage,
    ScheduleRequest,
    StartedJob,
)
from rowlock.words import quoted

if TYPE_CHECKING:
    from rowlock.queue.enqueue.idempotency import Connection

TICKS_SHOWN: Final = 50

routes = Routes("schedules")


@routes.get("/v1/schedules", scope="read", answers={200: SchedulePage})
async def list_schedules(call: Call) -> web.Response:
    """List all schedules, by name."""
    return answer(SchedulePage(schedules=[ScheduleForm.of(one) for one in await _schedules(call).list()]))


@routes.post(
    "/v1/schedules",
    scope="admin",
    answers={201: ScheduleForm},
    headers={201: (hdrs.LOCATION, hdrs.ETAG)},
    problems=(SCHEDULE_EXISTS, UNKNOWN_TASK, INVALID_ARGUMENTS),
)
async def create_schedule(call: Call, body: ScheduleRequest) -> web.Response:
    """Create a schedule: 201."""
    options = {name: getattr(body, name) for name in body.__struct_fields__}
    created = await _schedules(call).create(**options)
    location = call.request.rel_url.with_query(None) / created.name
    return _tagged(created, status=201, headers={hdrs.LOCATION: str(location)})


@routes.get(
    "/v1/schedules/{schedule}",
    scope="read",
    answers={200: ScheduleDetail, 304: None},
    headers={200: (hdrs.ETAG,), 304: (hdrs.ETAG,)},
    problems=(SCHEDULE_NOT_FOUND,),
)
async def show_schedule(call: Call) -> web.Response:
    """Show one schedule, with the last ticks that fired. With `If-None-Match`: 304 while unchanged."""
    name, schedules = call.path["schedule"], _schedules(call)
    schedule, ticks = await schedules.get(name), await schedules.ticks(name, limit=TICKS_SHOWN)
    body = msgspec.json.encode(ScheduleDetail.of_ticks(schedule, ticks))
    return answer_if_new(call.request, body, revision=revision(schedule))


@routes.patch(
    "/v1/schedules/{schedule}",
    scope="admin",
    answers={200: ScheduleForm},
    headers={200: (hdrs.ETAG,)},
    problems=(SCHEDULE_NOT_FOUND, SCHEDULE_CHANGED, UNKNOWN_TASK, INVALID_ARGUMENTS),
)
async def edit_schedule(call: Call, body: ScheduleChanges) -> web.Response:
    """Change the members in the body; others stay. With `If-Match`: only if the schedule is unchanged."""
    name, changes, schedules = call.path["schedule"], body.given(), await _unchanged(call)
    if "task" in changes and "args" not in changes and (await schedules.get(name)).is_sensitive:
        detail = "args must be given with another task: the arguments of a sensitive task are not passed on."
        raise Refused(INVALID_REQUEST, detail, field="args")
    return _tagged(await schedules.edit(name, **changes))


@routes.delete(
    "/v1/schedules/{schedule}",
    scope="admin",
    answers={204: None},
    problems=(SCHEDULE_NOT_FOUND, SCHEDULE_CHANGED),
)
async def delete_schedule(call: Call) -> web.Response:
    """Delete a schedule: 204. Its jobs stay. With `If-Match`: only if the schedule is unchanged."""
    await (await _unchanged(call)).delete(call.path["schedule"])
    return web.Response(status=204)


@routes.post(
    "/v1/schedules/{schedule}/pause", scope="operate", answers={200: ScheduleForm}, problems=(SCHEDULE_NOT_FOUND,)
)
async def pause_schedule(call: Call) -> web.Response:
    """Pause a schedule: no tick fires until it is resumed."""
    return answer(ScheduleForm.of(await _schedules(call).pause(call.path["schedule"])))


@routes.post(
    "/v1/schedules/{schedule}/resume", scope="operate", answers={200: ScheduleForm}, problems=(SCHEDULE_NOT_FOUND,)
)
async def resume_schedule(call: Call) -> web.Response:
    """Resume a schedule: its ticks fire again, from now on."""
    return answer(ScheduleForm.of(await _schedules(call).resume(call.path["schedule"])))


@routes.post(
    "/v1/schedules/{schedule}/run",
    scope="operate",
    answers={201: StartedJob},
    headers={201: (hdrs.LOCATION, REPEATED_HEADER)},
    problems=(SCHEDULE_NOT_FOUND, INVALID_KEY, KEY_REUSED),
)
async def run_schedule(call: Call) -> web.Response:
    """Enqueue a job now: 201, with its id and path. With an Idempotency-Key, once."""

    async def run(connection: Connection | None) -> Answer:
        handle = await _schedules(call).run(call.path["schedule"], connection=connection)
        body = msgspec.json.encode(StartedJob(id=handle.id, task=handle.task)).decode()
        return Answer(status=201, body=body, job_id=handle.id)

    given = await once(call, run, has_body=False)
    location = call.request.rel_url.with_query(None).parent.parent.parent / "jobs" / str(given.job_id)
    return answer_again(given, {hdrs.LOCATION: str(location)})


def _schedules(call: Call) -> Schedules:
    return call.rowlock.schedules.through(call.origin)


async def _unchanged(call: Call) -> Schedules:
    """Return the acts on schedules, conditional on `If-Match`. Raises `Refused`, `ScheduleNotFound`."""
    seen = seen_revisions(call.request)
    if seen is not None and not seen:
        # A missing schedule is 404, whatever the condition (RFC 9110, 13.2.1).
        schedule = await _schedules(call).get(call.path["schedule"])
        detail = (
            f"The tag of the schedule {quoted(schedule.name)} must be strong: a weak tag never matches. Perhaps a "
            "compressing proxy weakened it. Send it without W/."
        )
        raise Refused(SCHEDULE_CHANGED, detail, field=IF_MATCH_HEADER)
    return call.rowlock.schedules.through(call.origin, seen=seen)


def _tagged(schedule: StoredSchedule, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return the schedule, with the tag for the next edit."""
    form = ScheduleForm.of(schedule)
    response = answer(form, status=status, headers=headers)
    response.etag = ETag(tag_of(msgspec.json.encode(form), revision(schedule)))
    return response
