"""`/v1/operations`: who did what, when and from where."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web

from rowlock.api.http.exchange import answer
from rowlock.api.routing.pages import PageQuery, following
from rowlock.api.routing.routes import Call, Routes
from rowlock.queue.jobs.fields import TEXT, said
from rowlock.queue.read import operations
from rowlock.wire.queues import OperationPage

routes = Routes("operations")


class OperationsQuery(PageQuery, frozen=True, kw_only=True):
    """A filter of operations, and a page."""

    verb: Annotated[str, said("the act", pattern=TEXT)] | None = None
    target_kind: Annotated[str, said("the kind of its target", pattern=TEXT)] | None = None
    target: Annotated[str, said("its target: an id or a name", pattern=TEXT)] | None = None


@routes.get("/v1/operations", scope="read", answers={200: OperationPage})
async def list_operations(call: Call, query: OperationsQuery) -> web.Response:
    """List the audit, newest first."""
    found = await operations.list_operations(
        call.rowlock.database,
        verb=query.verb,
        target_kind=query.target_kind,
        target=query.target,
        before=query.before,
        limit=query.limit,
    )
    return answer(OperationPage(operations=found, next=following(call.request, found, query.limit)))
