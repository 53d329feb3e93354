"""The ways into a queue and out of it, each as people use it: none may end in a traceback."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias
from unittest import mock
from uuid import UUID

import asyncpg
from aiohttp import web
from aiohttp.test_utils import TestClient

from rowlock import Job, JobFilter, Rowlock, RowlockError, Task
from rowlock.cli.root import run
from rowlock.queue.read.reader import list_attempts

Http: TypeAlias = TestClient[web.Request, web.Application]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

BY_POSTGRES: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.StatementTooComplexError,
    asyncpg.FeatureNotSupportedError,
)
"""How PostgreSQL refuses a value."""


class Refusal(Exception):
    """The value was refused, and in a way that its user can read."""


@dataclass(kw_only=True)
class World:
    """A queue, and what talks to it. `received` is what the handlers were given, by job."""

    app: Rowlock
    http: Http
    connection: Connection
    url: str
    echo: Task[[object], object]
    stumble: Task[[object], None]
    received: dict[UUID, object] = field(default_factory=dict)

    async def rowlock(self, *arguments: str) -> str:
        """What a command of the command line prints. Raises `Refusal` where it refuses, and all that gets past it."""
        return await asyncio.to_thread(self._rowlock, arguments)

    def _rowlock(self, arguments: tuple[str, ...]) -> str:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        environ = mock.patch.dict(os.environ, {"ROWLOCK_DATABASE_URL": self.url})
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), environ:
            code = run(arguments)
        printed, said = (stream.buffer.getvalue().decode() for stream in (out, err))
        if code == 0:
            return printed
        assert said.startswith("rowlock: "), (code, printed, said)
        raise Refusal(said)

    async def get(self, path: str, **query: str) -> Any:  # noqa: ANN401  # any JSON
        """The answer to a GET, which must be one."""
        async with self.http.get(path, params=query) as response:
            text = await response.text()
            assert response.status == 200, (path, response.status, text)
            return text

    async def post(self, path: str, body: bytes) -> Any:  # noqa: ANN401  # any JSON
        """The answer to a POST. Raises `Refusal` for a problem that the client has made."""
        async with self.http.post(path, data=body, headers={"Content-Type": "application/json"}) as response:
            text = await response.text()
            assert response.status < 500, (path, response.status, text)
            if response.status >= 400:
                assert response.content_type == "application/problem+json"
                raise Refusal(text)
            return json.loads(text)


def tasks_of(app: Rowlock) -> dict[str, Any]:
    """Tasks that give back what they get, or do not."""
    received: dict[UUID, object] = {}

    @app.task
    async def echo(job: Job, value: object = None) -> object:
        received[job.id] = value
        return value

    @app.task(max_attempts=1, capture_logs=True)
    async def stumble(job: Job, value: object = None) -> None:
        await job.progress(0.5, "half-way")
        await job.save_checkpoint({"at": value})
        raise ValueError(str(value))

    return {"echo": echo, "stumble": stumble, "received": received}


# The ways in: each takes the value as JSON text, and options as HTTP has them.

Writer: TypeAlias = Callable[[World, str, dict[str, Any], Path], Awaitable[UUID]]


def _python(text: str) -> object:
    """What a Python program has that writes it."""
    try:
        return json.loads(text, parse_constant=float)
    except (ValueError, RecursionError) as error:
        raise Refusal("Python has no such value") from error


def _options(options: dict[str, Any]) -> dict[str, Any]:
    def moment(value: object) -> object:
        try:
            return datetime.fromisoformat(value) if isinstance(value, str) else value
        except ValueError as error:
            raise Refusal("Python has no such time") from error

    return {
        name: moment(value) if name in {"run_at", "deadline", "expires"} else value for name, value in options.items()
    }


@contextlib.contextmanager
def _refusals(*kinds: type[Exception]) -> Any:  # noqa: ANN401  # a generator
    try:
        yield
    except kinds as error:
        raise Refusal(str(error)) from error


async def by_task(world: World, text: str, options: dict[str, Any], _: Path) -> UUID:
    value = _python(text)
    with _refusals(RowlockError):
        given = _options(options)
        if "args_version" in given:
            raise Refusal("it is the task's")
        return (await world.echo.using(**given).enqueue(value)).id


async def by_name(world: World, text: str, options: dict[str, Any], _: Path) -> UUID:
    with _refusals(RowlockError):
        return (await world.app.enqueue("echo", {"value": _python(text)}, **_options(options))).id


async def by_many(world: World, text: str, options: dict[str, Any], _: Path) -> UUID:
    with _refusals(RowlockError):
        given = _options(options)
        if "args_version" in given:
            raise Refusal("it is the task's")
        return (await world.app.enqueue_many([world.echo.using(**given).job(_python(text))]))[0].id


async def by_transaction(world: World, text: str, options: dict[str, Any], _: Path) -> UUID:
    with _refusals(RowlockError):
        given = _options(options)
        if "args_version" in given:
            raise Refusal("it is the task's")
        async with world.connection.transaction():
            jobs = [world.echo.using(**given).job(_python(text))]
            return (await world.app.enqueue_many(jobs, connection=world.connection))[0].id


async def by_sync(world: World, text: str, options: dict[str, Any], _: Path) -> UUID:
    with _refusals(RowlockError):
        value, given = {"value": _python(text)}, _options(options)
        return (await asyncio.to_thread(world.app.enqueue_sync, "echo", value, **given)).id


def _body(text: str, options: dict[str, Any]) -> bytes:
    more = "".join(f", {json.dumps(name)}: {json.dumps(value)}" for name, value in options.items())
    return f'{{"task": "echo", "args": {{"value": {text}}}{more}}}'.encode(errors="surrogatepass")


async def by_http(world: World, text: str, options: dict[str, Any], _: Path) -> UUID:
    return UUID((await world.post("/v1/jobs", _body(text, options)))["id"])


async def by_http_many(world: World, text: str, options: dict[str, Any], _: Path) -> UUID:
    body = b'{"jobs": [' + _body(text, options) + b"]}"
    return UUID((await world.post("/v1/jobs/many", body))["jobs"][0]["id"])


_RENAMED: Final = {"unique": "unique_key", "expires": "expires_at"}
_CASTS: Final = {
    "delay": "::text::interval",
    "timeout": "::text::interval",
    "tags": "::text[]",
    "metadata": "::text::jsonb",
} | dict.fromkeys(("run_at", "deadline", "expires"), "::text::timestamptz")


async def by_sql(world: World, text: str, options: dict[str, Any], _: Path) -> UUID:
    names = "".join(
        f", {_RENAMED.get(name, name)} => ${place}{_CASTS.get(name, '')}" for place, name in enumerate(options, 2)
    )
    values = [
        f"{value} seconds"
        if name in {"delay", "timeout"}
        else json.dumps(value, ensure_ascii=False)
        if name == "metadata"
        else value
        for name, value in options.items()
    ]
    # asyncpg's own refusals of a parameter are DataErrors, too; of half a surrogate pair it is Python's.
    with _refusals(*BY_POSTGRES, UnicodeEncodeError):
        found: UUID = await world.connection.fetchval(
            f"SELECT rowlock.enqueue('echo', $1::text::jsonb{names})", f'{{"value": {text}}}', *values
        )
    return found


async def by_command(world: World, text: str, options: dict[str, Any], _: Path) -> UUID:
    words: list[str] = []
    for name, value in options.items():
        option = "--tag" if name == "tags" else f"--{name.replace('_', '-')}"
        several = [f"{key}={text}" for key, text in value.items()] if name == "metadata" else value
        words += [word for one in (several if name in {"tags", "metadata"} else [value]) for word in (option, str(one))]
    return UUID((await world.rowlock("enqueue", "echo", f'{{"value": {text}}}', *words)).strip())


async def by_file(world: World, text: str, options: dict[str, Any], folder: Path) -> UUID:
    file = folder / "jobs.json"
    file.write_bytes(_body(text, options))
    return UUID((await world.rowlock("enqueue-many", str(file))).strip())


WRITERS: Final[dict[str, Writer]] = {
    "task": by_task,
    "name": by_name,
    "many": by_many,
    "transaction": by_transaction,
    "sync": by_sync,
    "http": by_http,
    "http many": by_http_many,
    "sql": by_sql,
    "command": by_command,
    "file": by_file,
}


# The ways out.

_PAGES: Final = (
    *("/v1/jobs", "/v1/dead-letters", "/v1/dead-letters/groups", "/v1/unclaimed", "/v1/operations", "/v1/overview"),
    *("/v1/statistics", "/v1/queues", "/v1/limits", "/v1/retention", "/v1/tasks", "/v1/workers", "/v1/schedules"),
    *("/readyz", "/metrics"),
)
_COMMANDS: Final = {
    "job": ("jobs list", "jobs list --json", "stats", "unclaimed"),
    "finished_job": (
        "jobs list",
        "dead-letters list",
        "dead-letters groups",
        "jobs list --json",
        "stats",
        "retention show",
    ),
    "attempt": ("dead-letters list", "dead-letters groups"),
    "queue": ("queues list", "queues list --json", "retention show", "limits"),
    "schedule": ("schedules list", "schedules list --json"),
    "schedule_tick": ("schedules show nightly",),
    "worker": ("workers list", "workers list --json", "limits", "unclaimed"),
    "task": ("tasks list", "tasks list --json"),
    "operation": ("operations", "operations --json"),
    "api_key": ("keys list", "keys list --json"),
    "statistic": ("stats", "stats --json"),
    "backlog": ("stats",),
}
_EVERY: Final = "SELECT id FROM rowlock.job UNION ALL SELECT id FROM rowlock.finished_job"


async def read_everything(world: World, table: str) -> None:
    """Read every list, every page and every job in each way; the commands are those that show the table."""
    ids = {row["id"] for row in await world.connection.fetch(_EVERY)}
    await _read_lists(world, ids)
    for job_id in ids:
        await read_job(world, job_id)
    for path in _PAGES:
        await world.get(path)
    for (name,) in await world.connection.fetch("SELECT name FROM rowlock.schedule"):
        await world.get(f"/v1/schedules/{name}")
    for command in _COMMANDS.get(table, ()):
        await world.rowlock(*command.split())
    if table in {"job", "finished_job", "attempt", "attempt_log", "progress"}:
        which = "job" if table == "job" else "finished_job"
        for number, (job_id,) in enumerate(await world.connection.fetch(f"SELECT id FROM rowlock.{which} LIMIT 3")):
            await world.rowlock("jobs", *(("show", "--logs"), ("show", "--json"), ("logs",))[number], str(job_id))


async def _read_lists(world: World, ids: Iterable[UUID]) -> None:
    page = await world.app.jobs.list(limit=500)
    if page.following is None:
        assert {job.id for job in page} >= set(ids) - {UUID(int=0), UUID(int=2**128 - 1)}
    shown = {job["id"] for job in json.loads(await world.get("/v1/jobs", limit="500"))["jobs"]}
    assert shown == {str(job.id) for job in page}
    for state in ("queued", "scheduled", "running", "succeeded", "failed", "cancelled", "expired"):
        await world.app.jobs.list(JobFilter(state=state))
        await world.get("/v1/jobs", state=state)


async def read_job(world: World, job_id: UUID) -> None:
    """Read one job in each way."""
    job = await world.app.get(job_id)
    json.dumps([job.args, job.result])
    await list_attempts(world.app.database, job_id)
    await world.app.jobs.logs(job_id)
    json.loads(await world.get(f"/v1/jobs/{job_id}"), parse_int=str)  # Python's own reader knows no long numbers
    await world.get(f"/v1/jobs/{job_id}/logs")


async def fill(world: World) -> None:
    """Have one of everything: jobs in each state, a schedule that has fired, a worker, a key, a word of operators."""
    await world.echo.enqueue("succeeded")
    await world.stumble.enqueue("failed")
    cancelled = await world.echo.using(delay=1, unique="cancelled").enqueue("cancelled")
    await world.app.jobs.cancel(cancelled.id, reason="no longer wanted")
    await world.app.worker().drain()
    await world.echo.using(
        unique="waits",
        tags=["a"],
        metadata={"b": "c"},
        timeout=60,
        deadline=timedelta(days=1),
        expires=timedelta(hours=1),
    ).enqueue("waits")
    await world.echo.using(delay=3600).enqueue("scheduled")
    await world.app.queues.pause("elsewhere")
    await world.connection.execute(_MORE)


_MORE: Final = """
    INSERT INTO rowlock.task (name, queue, priority, max_attempts, result_ttl)
    VALUES ('stumble', 'default', 5, 1, '1 day') ON CONFLICT (name) DO UPDATE SET result_ttl = excluded.result_ttl;
    INSERT INTO rowlock.schedule (name, task, cron, next_run_at, last_tick_at)
    VALUES ('nightly', 'echo', '0 3 * * *', now() + interval '1 hour', now());
    INSERT INTO rowlock.schedule_tick (schedule, tick_at, job_id) SELECT 'nightly', now(), id FROM rowlock.job LIMIT 1;
    INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, expires_at)
    VALUES (rowlock.uuid7(), 'host', 1, '1', '{default}', '{echo}', 5, now() + interval '1 hour');
    INSERT INTO rowlock.api_key (name, hash, scopes, expires_at, last_used_at)
    VALUES ('key', sha256('x'), '{read}', now() + interval '1 day', now());
    INSERT INTO rowlock.progress (job_id, attempt, fraction, message, checkpoint)
    SELECT id, 1, 0.5, 'half-way', '{}' FROM rowlock.job ON CONFLICT DO NOTHING;
    INSERT INTO rowlock.attempt_log (job_id, attempt, started_at, created_at, lines)
    SELECT id, 1, now(), now(), '[{"after": 1, "level": "info", "logger": "shop", "text": "a line"}]'
      FROM rowlock.finished_job;
    INSERT INTO rowlock.unique_key (key, job_id, expires_at) VALUES ('echo:period', rowlock.uuid7(), now());
    INSERT INTO rowlock.statistic (at, step, queue, task, succeeded, failed, cancelled, expired, errors,
                                   duration_buckets, duration_counts, wait_buckets, wait_counts)
    VALUES (now() - interval '1 minute', 10, 'default', 'echo', 1, 0, 0, 0, 0, '{1}', '{1}', '{1}', '{1}')
        ON CONFLICT DO NOTHING;
    INSERT INTO rowlock.backlog (at, taken_at, oldest_due_at, step, queue, waiting, scheduled, running)
    VALUES (now() - interval '1 minute', now(), now(), 10, '*', 1, 1, 0) ON CONFLICT DO NOTHING
"""
