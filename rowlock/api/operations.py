"""`/v1/operations`: who did what, when and from where; and who it is that asks for something now."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from rowlock.api.backend import BACKEND
from rowlock.api.exchange import answer, read_query
from rowlock.api.pages import PAGE, page_of
from rowlock.api.wire import OperationPage
from rowlock.queue.origin import Origin

ACTOR_HEADER: Final = "X-Rowlock-Actor"

routes = web.RouteTableDef()


def origin_of(request: web.Request) -> Origin:
    """Who acts by this request, as the header `X-Rowlock-Actor` says. Raises `InvalidOption`."""
    return Origin(by=request.headers.get(ACTOR_HEADER), source="http")


@routes.get("/v1/operations")
async def list_operations(request: web.Request) -> web.Response:
    """A page of what people did, newest first."""
    query = read_query(request, "verb", "target_kind", "target", *PAGE)
    page = page_of(query)
    found = await request.app[BACKEND].operators.operations(
        verb=query.get("verb"),
        target_kind=query.get("target_kind"),
        target=query.get("target"),
        before=page.before,
        limit=page.limit,
    )
    return answer(OperationPage(operations=found, next=page.following(request, found)))
