"""Errors as problem documents (RFC 9457): no answer contains a traceback or SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import asyncpg
import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from rowlock import logs
from rowlock.errors import (
    DatabaseUnavailable,
    DuplicateJob,
    InvalidArguments,
    InvalidJob,
    InvalidOption,
    JobNotFound,
    KeyHeld,
    LockTimeout,
    ScheduleChanged,
    ScheduleExists,
    ScheduleNotFound,
    SchemaNotMigrated,
    SchemaTooNew,
    SchemaTooOld,
    StatementTimeout,
    UnknownTask,
    WorkerNotFound,
    WrongState,
)
from rowlock.queue.connect.server_errors import CONNECTION_LOST, NotAllowed, cancelled
from rowlock.queue.enqueue.errors import EnqueueUnknown
from rowlock.queue.jobs.results import storable_text

log = logs.get_logger("rowlock.api")

CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = 5
_DETAIL_BYTES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of problem: the parts that its documents share."""

    status: int
    title: str
    name: str | None = None

    @property
    def type(self) -> str:
        """The URI that identifies the kind to programs; `about:blank` if the status suffices."""
        return "about:blank" if self.name is None else f"urn:rowlock:problem:{self.name}"


NOT_JSON: Final = Kind(status=400, title="The body is not JSON", name="not-json")
INVALID_KEY: Final = Kind(status=400, title="The idempotency key is invalid", name="invalid-idempotency-key")
UNAUTHENTICATED: Final = Kind(status=401, title="The request is not authenticated", name="unauthenticated")
FORBIDDEN: Final = Kind(status=403, title="The key does not allow this", name="forbidden")
CROSS_SITE: Final = Kind(status=403, title="The request comes from another site", name="cross-site")
JOB_NOT_FOUND: Final = Kind(status=404, title="There is no such job", name="job-not-found")
TOO_MANY_FAILURES: Final = Kind(status=429, title="Too many wrong keys", name="too-many-failures")
NO_LOGIN: Final = Kind(status=409, title="Logging in is not possible here", name="no-login")
WRONG_STATE: Final = Kind(status=409, title="The state does not allow this", name="wrong-state")
LOCKED: Final = Kind(status=409, title="An open transaction holds a lock", name="locked")
KEY_HELD: Final = Kind(status=409, title="Another job holds the unique key", name="key-held")
WORKER_NOT_FOUND: Final = Kind(status=404, title="There is no such live worker", name="worker-not-found")
SCHEDULE_NOT_FOUND: Final = Kind(status=404, title="There is no such schedule", name="schedule-not-found")
SCHEDULE_EXISTS: Final = Kind(status=409, title="A schedule has this name already", name="schedule-exists")
KEY_REUSED: Final = Kind(status=409, title="The key belongs to another request", name="idempotency-key-reused")
DUPLICATE_JOB: Final = Kind(status=409, title="Another job holds the unique key", name="duplicate-job")
SCHEDULE_CHANGED: Final = Kind(status=412, title="The schedule was changed", name="schedule-changed")
TOO_SLOW: Final = Kind(status=408, title="The body took too long", name="body-too-slow")
TOO_LARGE: Final = Kind(status=413, title="The body is too large", name="body-too-large")
UNSUPPORTED_TYPE: Final = Kind(status=415, title="The body's type is not supported", name="unsupported-type")
INVALID_REQUEST: Final = Kind(status=422, title="The request is invalid", name="invalid-request")
INVALID_ARGUMENTS: Final = Kind(status=422, title="The arguments do not fit the task", name="invalid-arguments")
UNKNOWN_TASK: Final = Kind(status=422, title="The task is unknown", name="unknown-task")
INTERNAL: Final = Kind(status=500, title="An unexpected error", name="internal-error")
DATABASE_UNAVAILABLE: Final = Kind(status=503, title="The database does not answer", name="database-unavailable")
STATEMENT_TIMEOUT: Final = Kind(status=503, title="The database took too long", name="statement-timeout")
MISSING_RIGHT: Final = Kind(status=503, title="The database role lacks a privilege", name="missing-right")
TOO_MANY_STREAMS: Final = Kind(status=503, title="Too many streams are open", name="too-many-streams")
SCHEMA_NOT_MIGRATED: Final = Kind(status=503, title="The schema is not migrated", name="schema-not-migrated")
METRICS_UNAVAILABLE: Final = Kind(status=501, title="The metrics need another package", name="metrics-unavailable")
SCHEMA_TOO_OLD: Final = Kind(status=503, title="The schema is older than this program", name="schema-too-old")
SCHEMA_TOO_NEW: Final = Kind(status=503, title="The schema is newer than this program", name="schema-too-new")


_KINDS: Final[tuple[tuple[type[Exception], Kind, str | None, str | None], ...]] = (
    (UnknownTask, UNKNOWN_TASK, "task", None),
    (InvalidArguments, INVALID_ARGUMENTS, "args", None),
    (ScheduleExists, SCHEDULE_EXISTS, "name", None),
    (InvalidJob, INVALID_REQUEST, None, None),
    (DuplicateJob, DUPLICATE_JOB, "unique", None),
    (JobNotFound, JOB_NOT_FOUND, None, None),
    (WrongState, WRONG_STATE, None, None),
    (KeyHeld, KEY_HELD, None, None),
    (LockTimeout, LOCKED, None, None),
    (StatementTimeout, STATEMENT_TIMEOUT, None, None),
    (ScheduleNotFound, SCHEDULE_NOT_FOUND, None, None),
    (ScheduleChanged, SCHEDULE_CHANGED, None, None),
    (WorkerNotFound, WORKER_NOT_FOUND, None, None),
    # A detail replaces the message of these: it names the server and its user, which clients must not see.
    (
        DatabaseUnavailable,
        DATABASE_UNAVAILABLE,
        None,
        "The database does not answer, or refuses the login: retry later.",
    ),
    (
        NotAllowed,
        MISSING_RIGHT,
        None,
        "This program must log in to the database as the owner of Rowlock's schema. See docs/security.md and its log.",
    ),
    (SchemaTooOld, SCHEMA_TOO_OLD, None, "An older Rowlock migrated the database. Run: rowlock migrate"),
    (SchemaNotMigrated, SCHEMA_NOT_MIGRATED, None, "Rowlock's tables are missing or too old. Run: rowlock migrate"),
    (SchemaTooNew, SCHEMA_TOO_NEW, None, "A newer Rowlock migrated the database. Upgrade this program."),
)
"""Errors with a kind: the class (the first that matches), the kind, the invalid field, and a detail that replaces its
message."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A problem document. The last three members are optional extensions."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    field: str | msgspec.UnsetType = msgspec.UNSET
    error_id: str | msgspec.UnsetType = msgspec.UNSET
    job_id: UUID | msgspec.UnsetType = msgspec.UNSET


class Refused(Exception):
    """The request was refused. `field` is the invalid member of the body, or parameter of the query.

    `job_id` is the conflicting job, `retry_after` the seconds to wait.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        field: str | None = None,
        job_id: UUID | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.field = field
        self.job_id = job_id
        self.retry_after = RETRY_AFTER if retry_after is None and kind.status == 503 else retry_after


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error below into a problem document."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _of_http(request, error)
    except Exception as error:  # noqa: BLE001  # the last place that can turn it into a problem document
        refused = classify(error)
        if refused is None:
            return _unexpected(request, error)
        if refused.kind.status >= 500:
            log.warning("request_refused", problem=refused.kind.name, error=f"{type(error).__name__}: {error}")
        return respond(request, refused)


async def answer_unrouted(request: web.Request, response: web.StreamResponse) -> None:  # aiohttp awaits it
    """Turn aiohttp's refusal before any middleware (an unknown `Expect`) into a problem document."""
    if isinstance(response, web.HTTPException) and response.status >= 400:
        answered = _of_http(request, response)
        response.body = answered.body
        response.content_type, response.charset = CONTENT_TYPE, None
        response.headers[hdrs.CONTENT_LENGTH] = str(
            answered.content_length
        )  # aiohttp set the length of the former body


def classify(error: Exception) -> Refused | None:
    """Return the problem that an error means; None for an unexpected error."""
    if isinstance(error, Refused):
        return error
    for class_, kind, field, detail in _KINDS:
        if isinstance(error, class_):
            job_id = error.job_id if isinstance(error, DuplicateJob) else None
            wrong = error.option if isinstance(error, InvalidOption) else field
            return Refused(kind, detail or str(error), field=wrong, job_id=job_id)
    if isinstance(error, EnqueueUnknown):
        return Refused(
            DATABASE_UNAVAILABLE,
            "The connection to the database was lost before it answered: this job may be stored, or not. Look it up by "
            "its id before you enqueue it again. A request with an Idempotency-Key can be repeated safely.",
            job_id=error.jobs[0].id,
        )
    if isinstance(error, asyncpg.QueryCanceledError):
        return Refused(STATEMENT_TIMEOUT, str(cancelled("of this request", error)))
    if isinstance(error, CONNECTION_LOST):
        return Refused(DATABASE_UNAVAILABLE, "The connection to the database was lost: retry.")
    return None


def respond(
    request: web.BaseRequest, refused: Refused, *, error_id: str | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return the problem as a response."""
    kind = refused.kind
    problem = Problem(
        type=kind.type,
        title=kind.title,
        status=kind.status,
        detail=storable_text(str(refused), _DETAIL_BYTES),
        instance=request.rel_url.raw_path,
        field=msgspec.UNSET if refused.field is None else storable_text(refused.field, _DETAIL_BYTES),
        error_id=error_id or msgspec.UNSET,
        job_id=refused.job_id or msgspec.UNSET,
    )
    known: dict[str, str] = {hdrs.WWW_AUTHENTICATE: "Bearer"} if kind.status == 401 else {}
    if refused.retry_after is not None:
        known[hdrs.RETRY_AFTER] = str(refused.retry_after)
    return web.Response(
        body=msgspec.json.encode(problem),
        status=kind.status,
        headers=known | dict(headers or {}),
        content_type=CONTENT_TYPE,
    )


def _of_http(request: web.Request, error: web.HTTPException) -> web.Response:
    """Answer errors that aiohttp raises itself: unknown route, method not allowed, body too large."""
    match error:
        case web.HTTPRequestEntityTooLarge():
            return respond(request, Refused(TOO_LARGE, "The body is larger than this server accepts."))
        case web.HTTPNotFound():
            detail = "There is nothing at this path."
        case web.HTTPMethodNotAllowed():
            detail = f"The method must be one of {', '.join(sorted(error.allowed_methods))}; got {error.method}."
        case _:
            detail = f"{error.reason}."
    kind = Kind(status=error.status, title=error.reason)
    allow: dict[str, str] = {hdrs.ALLOW: error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}
    return respond(request, Refused(kind, detail), headers=allow)


def _unexpected(request: web.Request, error: Exception) -> web.Response:
    error_id = uuid4().hex
    log.error("request_failed", error_id=error_id, method=request.method, path=request.rel_url.raw_path, exc_info=error)
    detail = f"An unexpected error occurred. The server's log has it under {error_id}."
    return respond(request, Refused(INTERNAL, detail), error_id=error_id)
