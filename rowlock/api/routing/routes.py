"""The table of endpoints, with requests, answers and required scopes, for aiohttp and the OpenAPI document."""

from __future__ import annotations

import re
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Required, TypeAlias, TypedDict, Unpack
from uuid import UUID

import msgspec
from aiohttp import hdrs, web

from rowlock.api.access.access import AUTHENTICATE, EVERYTHING, Access
from rowlock.api.access.let_in import LET_IN
from rowlock.api.app_keys import ROWLOCK
from rowlock.api.http.exchange import BODY_LIMIT, OPEN_BODY_LIMIT, read_body, read_query
from rowlock.api.http.problems import FORBIDDEN, UNAUTHENTICATED, Kind, Refused
from rowlock.api.http.readings import READINGS
from rowlock.app import Rowlock
from rowlock.queue.jobs.actor import Origin
from rowlock.queue.jobs.filter import Sight
from rowlock.queue.jobs.job import Job
from rowlock.queue.operate.keys import Scope
from rowlock.queue.read.reader import get_job, no_job, parse_id

ACTOR_HEADER: Final = "X-Rowlock-Actor"
JSON: Final = "application/json"

Handler: TypeAlias = Callable[..., Awaitable[web.StreamResponse]]

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_ID: Final = r"{id:(?!many$)[^{}/]+}"
"""Any id but `many`: `/v1/jobs/many` accepts only POST."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to an endpoint, and the access of its client."""

    request: web.Request
    access: Access

    @property
    def rowlock(self) -> Rowlock:
        """The application that the API serves."""
        return self.request.app[ROWLOCK]

    @property
    def path(self) -> Mapping[str, str]:
        """The parameters of the path."""
        return self.request.match_info

    async def job_id(self) -> UUID:
        """Return the id in the path. Raises `JobNotFound`, also for a job in a queue that this access does not see."""
        if self.access.queues is None:
            return parse_id(self.path["id"])
        return (await self.job()).id

    async def job(self) -> Job:
        """Read the job whose id is in the path. Raises `JobNotFound`, as `job_id` does."""
        return await self.visible(parse_id(self.path["id"]))

    async def visible(self, job_id: UUID) -> Job:
        """Read the job with this id. Raises `JobNotFound`, also for a job in a queue that this access does not see."""
        job = await get_job(self.rowlock.database, job_id)
        if not self.access.sees(job.queue):
            raise no_job(job.id)
        return job

    async def is_still_allowed(self, scope: Scope) -> bool:
        """Whether the client still has its access: a key may have been revoked, or a session may have ended.

        For a response that has begun. If authentication fails to answer, the response ends; the client reconnects and
        receives the reason.
        """
        try:
            return await self.is_allowed_again(scope)
        except Exception:  # noqa: BLE001  # a host's function may raise anything
            return False

    async def is_allowed_again(self, scope: Scope) -> bool:
        """Whether the client still has its access. Raises what authentication raises, as while the database is away."""
        access: Access | None = await self.request.app[AUTHENTICATE](self.request)
        return access is not None and access.allows(scope) and access.queues == self.access.queues

    async def sight(self) -> Sight:
        """The limits of this access in lists and bulk acts."""
        rows = await self.rowlock.database.run("list_sensitive")
        return Sight(queues=self.access.queues, hidden=[row["name"] for row in rows])

    @property
    def origin(self) -> Origin:
        """The actor of this request: the key's name; the header `X-Rowlock-Actor` can only add on whose behalf.

        Without authentication the header alone names the actor. Raises `InvalidOption`.
        """
        by, actor = self.access.by, self.request.headers.get(ACTOR_HEADER)
        return Origin(by=actor if by is None else f"{by} (as {actor})" if actor else by, source="http")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint of the API.

    `scope`: the required scope; None allows everybody. `by_queue`: also allowed with a key limited to queues; the
    handler checks the queue. `answers`: the form of each status, None without a body, as `media`; `headers`: those of a
    status. `problems`: the endpoint's own, besides those of any request. `outlives_database`: while the database is
    away, recently accepted keys are accepted.
    """

    method: str
    path: str
    tag: str
    handler: Handler
    query: type[msgspec.Struct] | None
    body: type[msgspec.Struct] | None
    scope: Scope | None
    answers: Mapping[int, Any]
    by_queue: bool = False
    media: str = JSON
    headers: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    problems: tuple[Kind, ...] = ()
    outlives_database: bool = False

    @property
    def name(self) -> str:
        """The operation's name in the documents, the metrics and the tests."""
        return self.handler.__name__

    @property
    def parameters(self) -> list[str]:
        """The names in the path."""
        return _PARAMETER.findall(self.path)

    @property
    def is_body_optional(self) -> bool:
        """Whether the body can be omitted: all of its members can be."""
        return self.body is not None and all(
            field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT
            for field in msgspec.structs.fields(self.body)
        )

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Authenticate, decode and answer the request. Raises `Refused`."""
        call = Call(request=request, access=await self._admitted(request))
        given: dict[str, object] = {}
        query = read_query(request, self.query or _NoQuery)
        if self.query is not None:
            given["query"] = query
        if self.body is not None:
            has_none = self.is_body_optional and not request.can_read_body
            limit = OPEN_BODY_LIMIT if self.scope is None else BODY_LIMIT
            given["body"] = self.body() if has_none else await read_body(request, self.body, limit)
        try:
            return await self.handler(call, **given)
        finally:
            if self.method != hdrs.METH_GET and self.scope in {"operate", "admin"}:
                request.app[READINGS].forget()  # the client must see its own act; logging in or out is not an act

    async def _admitted(self, request: web.Request) -> Access:
        if self.scope is None:
            return EVERYTHING
        if self.outlives_database:
            access = await request.app[LET_IN].admit(request, whoever_asks)
        else:
            access = await whoever_asks(request)
        if not access.allows(self.scope):
            raise Refused(FORBIDDEN, f"The key must have the scope {self.scope}. Use a key that has it.")
        if access.queues is not None and not self.by_queue:
            raise Refused(FORBIDDEN, "This concerns all queues. Use a key that is not limited to queues.")
        return access


async def whoever_asks(request: web.Request) -> Access:
    """Authenticate the client; return its access. Raises `Refused` if it has none."""
    try:
        access = await request.app[AUTHENTICATE](request)
    except (Refused, web.HTTPException):  # a host's function may raise one of aiohttp's
        request.app[LET_IN].forget(request)
        raise
    if access is None:
        request.app[LET_IN].forget(request)
        raise Refused(UNAUTHENTICATED, "The request must show a key: Authorization: Bearer rowlock_….")
    return access


class _NoQuery(msgspec.Struct, frozen=True):
    """A query without parameters."""


class _Options(TypedDict, total=False):
    """The options of a declaration: see `Endpoint`."""

    scope: Required[Scope | None]
    answers: Required[Mapping[int, Any]]
    by_queue: bool
    media: str
    headers: Mapping[int, tuple[str, ...]]
    problems: tuple[Kind, ...]
    outlives_database: bool


class Routes:
    """The endpoints of one module, each declared above its handler.

    A handler has the parameter `call`, and optionally `query` and `body`: their annotations are the structs to which
    the request is decoded, and which the OpenAPI document shows.

    >>> routes = Routes("jobs")
    >>> @routes.post("/v1/jobs/{id}/cancel", scope="operate", by_queue=True, answers={200: Cancelled, 202: Cancelled})
    ... async def cancel(call: Call, body: CancelRequest) -> web.Response: ...
    """

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.endpoints: list[Endpoint] = []

    def get(self, path: str, **options: Unpack[_Options]) -> Callable[[Handler], Handler]:
        """Declare a read. HEAD answers the same, without the body."""
        return self._declare(hdrs.METH_GET, path, options)

    def post(self, path: str, **options: Unpack[_Options]) -> Callable[[Handler], Handler]:
        """Declare an act."""
        return self._declare(hdrs.METH_POST, path, options)

    def put(self, path: str, **options: Unpack[_Options]) -> Callable[[Handler], Handler]:
        """Declare a replacement."""
        return self._declare(hdrs.METH_PUT, path, options)

    def patch(self, path: str, **options: Unpack[_Options]) -> Callable[[Handler], Handler]:
        """Declare a partial change."""
        return self._declare(hdrs.METH_PATCH, path, options)

    def delete(self, path: str, **options: Unpack[_Options]) -> Callable[[Handler], Handler]:
        """Declare a deletion."""
        return self._declare(hdrs.METH_DELETE, path, options)

    def register(self, app: web.Application) -> None:
        """Add the endpoints to the application."""
        for endpoint in self.endpoints:
            path = endpoint.path.replace("{id}", _ID)
            app.router.add_route(endpoint.method, path, endpoint.serve)
            if endpoint.method == hdrs.METH_GET:
                app.router.add_head(path, endpoint.serve)

    def _declare(self, method: str, path: str, options: _Options) -> Callable[[Handler], Handler]:
        def declare(handler: Handler) -> Handler:
            taken = typing.get_type_hints(handler)
            self.endpoints.append(
                Endpoint(
                    method=method,
                    path=path,
                    tag=self.tag,
                    handler=handler,
                    query=taken.get("query"),
                    body=taken.get("body"),
                    **options,
                )
            )
            return handler

        return declare
