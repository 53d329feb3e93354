"""Enqueuing in the transaction of a FastAPI request.

Without `from __future__ import annotations`: FastAPI could not resolve what the functions here define.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from typing import Annotated, Any, TypeAlias

import asyncpg
import pytest
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import NullPool, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from rowlock import InvalidOption, Rowlock, Settings
from rowlock.integrations.fastapi import Enqueuer, enqueuing

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as made:
        yield made


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://", 1))
    yield made
    await made.dispose()


async def get(app: FastAPI, path: str, on_answer: Callable[[], Awaitable[object]] | None = None) -> tuple[int, Any]:
    """Ask the application as its server would; `on_answer` is called when the answer begins to be sent."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if on_answer is not None and not sent:
            await on_answer()
        sent.append(dict(message))

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
    }
    scope |= {"raw_path": path.encode(), "query_string": b"", "headers": [], "scheme": "http", "server": ("test", 80)}
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.fixture(params=["function", "request"])
def app(queue: Rowlock, engine: AsyncEngine, request: pytest.FixtureRequest) -> FastAPI:
    opened: list[AsyncSession] = []

    async def open_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session, session.begin():
            opened.append(session)
            yield session

    Opened = Annotated[AsyncSession, Depends(open_session, scope=request.param)]  # noqa: N806  # a type
    Jobs = Annotated[Enqueuer, Depends(enqueuing(Opened))]  # noqa: N806  # see above

    @queue.task
    async def greet(name: str, *, loudly: bool = False) -> str:
        return name

    app = FastAPI()
    app.state.opened = opened

    @app.get("/commit")
    async def commit(session: Opened, jobs: Jobs) -> str:
        assert opened == [session]
        return str((await jobs.enqueue(greet, "ada", loudly=True)).id)

    @app.get("/fail")
    async def fail(jobs: Jobs) -> None:
        await jobs.enqueue(greet, "ada")
        raise HTTPException(409, "sold out")

    @app.get("/later")
    async def later(jobs: Jobs) -> str:
        return str((await jobs.enqueue(greet.using(delay=60, priority=9), "ada")).id)

    @app.get("/wrong")
    async def wrong(jobs: Jobs) -> None:
        await jobs.enqueue(len, "ada")  # type: ignore[arg-type]  # the mistake

    return app


async def test_job_is_there_once_the_request_has_committed(app: FastAPI, queue: Rowlock) -> None:
    status, job = await get(app, "/commit")
    assert status == 200
    assert (await queue.get(job)).args == {"name": "ada", "loudly": True}
    assert len(app.state.opened) == 1


@pytest.mark.parametrize("app", ["function"], indirect=True)
async def test_with_the_scope_of_the_function_the_job_is_committed_before_the_answer(
    app: FastAPI, connection: Connection
) -> None:
    counts: list[int] = []

    async def count() -> None:
        counts.append(await connection.fetchval("SELECT count(*) FROM rowlock.job"))

    await get(app, "/commit", on_answer=count)
    assert counts == [1]


async def test_request_that_fails_leaves_no_job(app: FastAPI, connection: Connection) -> None:
    assert await get(app, "/fail") == (409, {"detail": "sold out"})
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 0


@pytest.mark.parametrize("path, count", [("/commit", 1), ("/fail", 0)])
async def test_plain_handler_enqueues_in_its_plain_session(
    path: str, count: int, queue: Rowlock, database_url: str, connection: Connection
) -> None:
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool)

    def open_session() -> Iterator[Session]:
        with Session(engine) as session, session.begin():
            yield session

    Plain = Annotated[Session, Depends(open_session, scope="function")]  # noqa: N806  # a type
    Jobs = Annotated[Enqueuer, Depends(enqueuing(Plain))]  # noqa: N806  # see above

    @queue.task
    async def greet(name: str) -> str:
        return name

    app = FastAPI()

    @app.get("/commit")
    def commit(session: Plain, jobs: Jobs) -> str:
        assert session.in_transaction()
        return str(jobs.enqueue_sync(greet, "ada").id)

    @app.get("/fail")
    def fail(jobs: Jobs) -> None:
        jobs.enqueue_sync(greet.using(priority=9), "ada")
        raise HTTPException(409, "sold out")

    await get(app, path)
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == count


async def test_options_are_given_by_using(app: FastAPI, queue: Rowlock) -> None:
    _, job = await get(app, "/later")
    stored = await queue.get(job)
    assert (stored.priority, stored.state) == (9, "scheduled")


async def test_what_is_no_task_is_refused(app: FastAPI) -> None:
    with pytest.raises(InvalidOption, match=r"task must be a function that @app.task decorates"):
        await get(app, "/wrong")


@pytest.mark.parametrize("given, message", [(None, "must return a session; got None"), (42, "got a value of type int")])
async def test_session_of_an_unknown_kind_is_refused_at_the_request(given: object, message: str) -> None:
    async def open_session() -> object:
        return given

    app = FastAPI()

    @app.get("/")
    async def ask(jobs: Annotated[Enqueuer, Depends(enqueuing(Depends(open_session)))]) -> None:
        raise AssertionError(jobs)

    with pytest.raises(InvalidOption, match=message):
        await get(app, "/")


@pytest.mark.parametrize("given", [None, AsyncSession, Annotated[AsyncSession, "text"]], ids=str)
def test_what_is_no_dependency_is_refused_at_once(given: object) -> None:
    with pytest.raises(InvalidOption, match=r"a dependency; got .* Pass the annotation that your handlers"):
        enqueuing(given)


def test_function_alone_is_refused_since_it_could_be_another_session_than_the_handlers() -> None:
    async def open_session() -> None: ...

    with pytest.raises(InvalidOption, match=r"got open_session\. .* Depends\(open_session, scope="):
        enqueuing(open_session)
