"""What schemathesis cannot know of the queue: which jobs are there, and what a request means as a whole.

Of a request that is right by the document, the parts that the document cannot describe are made right, too: the task
that must be known, the id that must be there. It must then be accepted. Requests that are wrong are left as they are.
"""

from __future__ import annotations

import json
import os
import zlib
from typing import Any, Final
from uuid import uuid4

import schemathesis
from schemathesis.generation import GenerationMode
from schemathesis.generation.meta import TestPhase

THERE: Final[dict[str, list[str]]] = json.loads(os.environ.get("ROWLOCK_CONTRACT_THERE", "{}"))
"""By parameter of the path: what is there."""

_BULK: Final[dict[str, list[str | None]]] = {
    "cancel": ["queued", "running"],
    "reschedule": [None, "scheduled"],
    "retry": ["failed", "cancelled"],
    "discard": [None, "failed"],
}


@schemathesis.hook  # type: ignore[untyped-decorator]  # it has no types
def before_call(_context: object, case: Any, _kwargs: object) -> None:  # noqa: ANN401  # a Case has none here
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    seed = zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode())
    is_linked = case.meta.phase.name == TestPhase.STATEFUL  # its ids come from earlier answers
    for name, known in THERE.items():
        if name in (case.path_parameters or {}) and seed % 4 != 0 and not is_linked:
            case.path_parameters[name] = known[seed % len(known)]
    if "If-Match" in (case.headers or {}):
        case.headers["If-Match"] = "*"  # any other tag was never answered, or is one of long ago
    if "wait" in (case.query or {}):
        case.query["wait"] = 0.01  # else most of the time is spent on jobs that do not end
    if "args" in (case.query or {}):
        case.query["args"] = '{"value": 1}'  # JSON, as text
    if case.operation.label == "PUT /v1/retention/{queue}":
        case.body = {"succeeded": 7200}
    elif not isinstance(case.body, dict) and (
        case.operation.label.startswith("POST /v1/jobs/bulk/") or case.operation.label.endswith("/reschedule")
    ):
        case.body = {}
    if isinstance(case.body, dict):
        case.body = _whole(_sensible(case.operation.label, case.body, seed))


def _sensible(label: str, body: dict[str, Any], seed: int) -> dict[str, Any]:
    """The same, but with a meaning."""
    if label.endswith("/reschedule"):  # something is to be changed, with one time at most
        body = body | {"priority": body.get("priority") or 5, "run_at": None}
    match label.rpartition("/v1/")[2]:
        case "jobs":
            return _job(body)
        case "jobs/many":
            return body | {"jobs": [_job(one) for one in body["jobs"]]}
        case "jobs/{id}/retry" | "jobs/{id}/run-again":
            return body | {"args": None}
        case "jobs/bulk/cancel" | "jobs/bulk/retry" | "jobs/bulk/discard" | "jobs/bulk/reschedule" as path:
            states = _BULK[path.rpartition("/")[2]]
            filter_ = body.get("filter", {}) | {"state": states[seed % len(states)], "discarded": None}
            return body | {"filter": filter_, "everything": True}
        case "schedules" | "schedules/{schedule}" as path:
            name = {} if path.endswith("}") else {"name": uuid4().hex}
            return body | name | {"task": "echo", "cron": "*/5 * * * *", "args": {}, "timezone": "Europe/Berlin"}
    return body


def _whole(value: Any) -> Any:  # noqa: ANN401  # JSON
    """The same with 8 for 8.0, which is whole to JSON Schema, and to few programs."""
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _job(body: dict[str, Any]) -> dict[str, Any]:
    """A job of a task that is there, not over before it is due."""
    if body.get("delay") is not None:
        body = body | {"run_at": None}
    later = {name for name in ("expires", "deadline") if body.get(name) is not None}
    unique = {"unique": {"key": "one"} | {"on_duplicate": "skip"}} if isinstance(body.get("unique"), dict) else {}
    kept = {name: value for name, value in body.items() if not later or name not in {"delay", "run_at"}}
    return kept | {"task": "echo", "args": {"value": 1}, "args_version": 1} | unique
