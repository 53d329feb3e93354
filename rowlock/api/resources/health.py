"""`/healthz` and `/readyz`: liveness and readiness of the process."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

import msgspec
from aiohttp import web

from rowlock.api.http.exchange import answer
from rowlock.api.http.problems import (
    DATABASE_UNAVAILABLE,
    MISSING_RIGHT,
    SCHEMA_NOT_MIGRATED,
    SCHEMA_TOO_NEW,
    SCHEMA_TOO_OLD,
    Refused,
)
from rowlock.api.routing.routes import Call, Routes
from rowlock.queue.connect.database import Database

READY_WITHIN: Final = 2.0

routes = Routes("health")


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The check passed."""

    status: Literal["ok"] = "ok"


@routes.get("/healthz", scope=None, answers={200: Health})
async def healthz(call: Call) -> web.Response:  # noqa: ARG001  # a handler
    """Check that the process answers. The database is not checked, so that its outage restarts no process."""
    return answer(Health())


@routes.get(
    "/readyz",
    scope=None,
    answers={200: Health},
    problems=(DATABASE_UNAVAILABLE, MISSING_RIGHT, SCHEMA_NOT_MIGRATED, SCHEMA_TOO_OLD, SCHEMA_TOO_NEW),
)
async def readyz(call: Call) -> web.Response:
    """Check that the database answers, and that its schema fits this code."""
    await check_database(call.rowlock.database)
    return answer(Health())


async def check_database(database: Database) -> None:
    """Raise if the database is away, or its schema is missing, too old or too new."""
    try:
        async with asyncio.timeout(READY_WITHIN):
            await database.check_schema()
    except TimeoutError as error:
        raise Refused(DATABASE_UNAVAILABLE, f"The database did not answer within {READY_WITHIN:g} s.") from error
