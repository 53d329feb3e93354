"""A database in which every field that a job, its code or whoever enqueues it can fill holds the corpus."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from rowlock import Rowlock
from tests.browser.corpus import ALL, LONG, SHORT, SMUGGLED, TEXTS

TAGS = [*SHORT, *(text for text in TEXTS.values() if len(text) < 64 and text.isprintable())][:20]
METADATA = {f"a.b_{number}": text for number, text in enumerate(TAGS)}
REASON = " ".join(TEXTS.values())[:400]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """The jobs, by what holds the texts."""

    arguments: str
    result: str
    error: str
    logs: str
    names: str
    cancelled: str
    long: str


async def fill(app: Rowlock, connection: asyncpg.Connection) -> Hostile:
    """Have the jobs run, and add by SQL what Python's part refuses."""

    class Hostility(Exception):
        """Its name is shown, too."""

    Hostility.__name__ = Hostility.__qualname__ = TEXTS["handler"]

    @app.task(max_attempts=1)
    async def attack() -> None:
        raise Hostility(ALL)

    jobs = {
        "arguments": await app.enqueue("echo", {"value": {text: text for text in TEXTS.values()}}),
        "result": await app.enqueue("echo", {"value": list(TEXTS.values())}),
        "error": await app.enqueue("attack"),
        "logs": await app.enqueue("tell", {"text": ALL, "message": REASON}),
        "long": await app.enqueue("echo", {"value": LONG}),
        "cancelled": await app.enqueue("snooze", delay=3600, unique=TEXTS["svg"], tags=TAGS, metadata=METADATA),
    }
    await app.worker().drain()
    await app.jobs.cancel(jobs["cancelled"].id, reason=REASON, by=TEXTS["handler"])
    names = await connection.fetchval(
        "INSERT INTO rowlock.job (id, queue, task, error) VALUES (rowlock.uuid7(), $1, $2, $3) RETURNING id",
        *(SHORT[0], TEXTS["script"], ALL),
    )
    await connection.executemany(
        "INSERT INTO rowlock.job (id, queue, task) VALUES (rowlock.uuid7(), $1, $2)",
        [*((name, "echo") for name in SHORT), *(("default", text) for text in TEXTS.values())],
    )
    await _fill_the_rest(connection)
    return Hostile(names=str(names), **{name: str(handle.id) for name, handle in jobs.items()})


async def _fill_the_rest(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, expires_at)"
        " VALUES (rowlock.uuid7(), $1, 1, $2, $3, $4, 5, clock_timestamp() + interval '1 hour')",
        *(TEXTS["handler"], TEXTS["entities"], SHORT, list(TEXTS.values())),
    )
    await connection.executemany(
        "INSERT INTO rowlock.schedule (name, task, queue, cron, timezone, args, next_run_at)"
        " VALUES ($1, $2, $3, '0 0 1 1 *', 'UTC', jsonb_build_object($2::text, $2::text), '2999-01-01')",
        [(text[:100], text, SHORT[0]) for text in TEXTS.values()],
    )
    await connection.executemany(
        "INSERT INTO rowlock.operation (verb, target_kind, target, by, details)"
        " VALUES ($1, $2, $3, $4, jsonb_build_object($5::text, $5::text))",
        [
            *(("cancel", "job", text, text, text) for text in TEXTS.values()),
            (f"<b class={SMUGGLED}>verb", f"<b class={SMUGGLED}>kind", "x", None, "x"),
        ],
    )
