"""The tasks of the service, and a few that show one thing each.

rowlock worker examples.article.tasks:app --queues email,reports:2,default
"""

import asyncio
import time
from typing import TypedDict

from rowlock import Job, Rowlock

app = Rowlock()


class Sent(TypedDict):
    """What `send_email` returns. Any type that JSON can hold may be a result."""

    status: str
    recipient: str
    subject: str


@app.task(queue="reports")
def process_data(value: str, duration: int) -> str:
    """Make a report. A plain function: it blocks its thread, and the worker's event loop goes on."""
    time.sleep(duration)
    return f"Processed {value} after {duration}s"


@app.task(queue="email", max_attempts=5, backoff=2.0, timeout=30)
async def send_email(recipient: str, subject: str, body: str) -> Sent:  # noqa: ARG001  # a real one would send the body
    """Send an e-mail: an `async` function that waits for a (made-up) mail server."""
    await asyncio.sleep(0.5)
    return {"status": "sent", "recipient": recipient, "subject": subject}


@app.task(queue="orders")
async def confirm_order(order: int) -> str:
    """Confirm an order: enqueued in the transaction that stores the order."""
    return f"order {order} confirmed"


@app.task(max_attempts=5, backoff=0.2)
async def call_partner(job: Job, succeeds_at: int) -> str:
    """Call a service that refuses the first calls. The worker fills the parameter annotated `Job`."""
    if job.attempt < succeeds_at:
        raise ConnectionError(f"refused at attempt {job.attempt}")
    return f"answered at attempt {job.attempt}"


@app.task(max_attempts=2, backoff=0.2)
async def charge_card(order: int) -> None:
    """Fail at each attempt: after the last one the job is a dead letter."""
    raise PermissionError(f"the card of order {order} was declined")


class Lateness(TypedDict):
    """How late an event loop was to wake up a coroutine, in milliseconds."""

    samples: int
    p99_ms: float
    max_ms: float


@app.task
async def measure_loop(seconds: float) -> Lateness:
    """Measure how late the worker's event loop is: ask for 10 ms again and again, and see when it wakes up."""
    late: list[float] = []
    until = time.perf_counter() + seconds
    while (before := time.perf_counter()) < until:
        await asyncio.sleep(0.01)
        late.append((time.perf_counter() - before - 0.01) * 1000)
    late.sort()
    return {"samples": len(late), "p99_ms": round(late[len(late) * 99 // 100], 2), "max_ms": round(late[-1], 2)}


@app.task
async def block_loop(seconds: float) -> None:
    """Do it wrong: block inside an `async` function, and with it everything else that the worker does."""
    time.sleep(seconds)  # noqa: ASYNC251  # this is what not to do


@app.task(queue="burst")
async def count_one(number: int) -> int:
    """Do next to nothing: what is measured is the queue."""
    return number
