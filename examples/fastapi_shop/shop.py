"""A shop with FastAPI and SQLAlchemy: an order and its job in one transaction, the worker inside the web server."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from rowlock import JobNotFound, Rowlock
from rowlock.integrations.asgi import asgi
from rowlock.integrations.fastapi import Enqueuer, enqueuing
from rowlock.integrations.starlette import lifespan

queue = Rowlock()  # on ROWLOCK_DATABASE_URL, or DATABASE_URL
engine = create_async_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://", 1))


class Base(DeclarativeBase):
    """The shop's tables."""


class Order(Base):
    """An order of a customer."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    item: Mapped[str]


@queue.task
async def send_receipt(customer: str, item: str) -> str:
    """Stand in for a mail."""
    return f"To {customer}: thank you for buying a {item}."


@asynccontextmanager
async def tables(_app: FastAPI) -> AsyncIterator[None]:
    """The shop's own lifespan: around that of the queue."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


async def open_session() -> AsyncIterator[AsyncSession]:
    """One transaction a request: committed if the handler returns, rolled back if it raises."""
    async with AsyncSession(engine) as session, session.begin():
        yield session


# scope="function": the commit comes before the answer, so a client that gets a 201 finds order and job in the database.
Session = Annotated[AsyncSession, Depends(open_session, scope="function")]
Jobs = Annotated[Enqueuer, Depends(enqueuing(Session))]

app = FastAPI(lifespan=lifespan(queue, within=tables, concurrency=10))
app.mount("/queue", asgi(queue))  # the dashboard; make a key to log in with: rowlock keys create ada --scope admin


@app.post("/orders", status_code=201)
async def order(customer: str, item: str, session: Session, jobs: Jobs) -> dict[str, str]:
    """Store an order, and have its receipt sent: both, or neither."""
    session.add(Order(customer=customer, item=item))
    handle = await jobs.enqueue(send_receipt, customer, item)
    if item == "unicorn":
        raise HTTPException(409, "Sold out.")
    return {"job": str(handle.id)}


@app.get("/jobs/{job_id}")
async def status(job_id: UUID) -> dict[str, str | None]:
    """What has become of a job."""
    try:
        job = await queue.get(job_id)
    except JobNotFound as error:
        raise HTTPException(404, str(error)) from error
    return {"state": job.state, "result": job.result}
