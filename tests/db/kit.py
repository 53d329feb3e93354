"""An application whose tests use the kit."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from rowlock import Cancel, Fail, Job, Retry, Rowlock, Snooze

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
app = Rowlock("postgresql://localhost:1/nowhere")
"""As an application has it: made once, at import, for another database."""
seen: list[Any] = []


@app.task(queue="email", max_attempts=3, backoff=60)
async def send(to: str, subject: str = "Hi", *, wrong: bool = False) -> str:
    seen.append(to)
    if wrong:
        raise LookupError(to)
    return f"sent to {to}"


@app.task
async def follow(job: Job, to: str) -> int:
    await send.enqueue(to)
    return job.attempt


@app.task
async def decide(how: str) -> None:
    raise {"snooze": Snooze(60), "cancel": Cancel(), "retry": Retry(60), "fail": Fail("no")}[how]


@app.task
async def again() -> None:
    await again.enqueue()


@app.task(timeout=0.01)
async def slow() -> None:
    await asyncio.sleep(60)


@app.task
def plain(number: int) -> int:
    return number + 1


@app.task
async def unfit() -> object:
    return object()
