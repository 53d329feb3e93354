"""A shop with Flask and SQLAlchemy: an order and its job in one transaction, without an event loop."""

import os
from typing import Any

from flask import Flask, abort, request
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from rowlock import JobNotFound, Rowlock

queue = Rowlock()  # on ROWLOCK_DATABASE_URL, or DATABASE_URL
engine = create_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1))


class Base(DeclarativeBase):
    """The shop's tables."""


class Order(Base):
    """An order of a customer."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    item: Mapped[str]


@queue.task
def send_receipt(customer: str, item: str) -> str:
    """Stand in for a mail."""
    return f"To {customer}: thank you for buying a {item}."


app = Flask(__name__)


@app.cli.command("create-tables")
def create_tables() -> None:
    """Create the shop's tables."""
    Base.metadata.create_all(engine)


@app.post("/orders")
def order() -> tuple[dict[str, str], int]:
    """Store an order, and have its receipt sent: both, or neither."""
    customer, item = request.args["customer"], request.args["item"]
    with Session(engine) as session, session.begin():
        session.add(Order(customer=customer, item=item))
        handle = send_receipt.using(connection=session).enqueue_sync(customer, item)
        if item == "unicorn":
            abort(409, "Sold out.")
    return {"job": str(handle.id)}, 201


@app.get("/jobs/<job_id>")
def status(job_id: str) -> dict[str, Any]:
    """What has become of a job."""
    try:
        job = queue.run_sync(queue.get(job_id))
    except JobNotFound as error:
        abort(404, str(error))
    return {"state": job.state, "result": job.result}
