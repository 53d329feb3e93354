"""`/v1/operations`: who did what, when and from where."""

from __future__ import annotations

from aiohttp import web

from rowlock.api.exchange import answer
from rowlock.api.pages import PageQuery, following
from rowlock.api.routes import Call, Routes
from rowlock.api.wire import OperationPage

routes = Routes("operations")


class OperationsQuery(PageQuery, frozen=True, kw_only=True):
    """Which page of which operations."""

    verb: str | None = None
    target_kind: str | None = None
    target: str | None = None


@routes.get("/v1/operations", scope="read", answers={200: OperationPage})
async def list_operations(call: Call, query: OperationsQuery) -> web.Response:
    """A page of what people did, newest first."""
    found = await call.backend.operators.operations(
        verb=query.verb,
        target_kind=query.target_kind,
        target=query.target,
        before=query.before,
        limit=query.limit,
    )
    return answer(OperationPage(operations=found, next=following(call.request, found, query.limit)))
