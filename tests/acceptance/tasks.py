"""The application of the acceptance tests: its workers are real processes."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from pathlib import Path

from rowlock import Job, Rowlock
from tests import process_tasks

app = Rowlock()
hang = app.task(executor="process")(process_tasks.hang)


@app.task
async def hold(job: Job, gate: str) -> int:
    """Run until the file `<gate>.<attempt>` exists, and return which attempt this was."""
    while not Path(f"{gate}.{job.attempt}").exists():  # noqa: ASYNC110, ASYNC240  # a file is what processes share
        await asyncio.sleep(0.01)
    return job.attempt


@app.task
async def note(text: str) -> str:
    """Return at once."""
    return text


@app.task
async def sign(job: Job, diary: str) -> int:
    """Write into a file that this attempt has begun: one line, in one write, which outlives everything here."""
    with Path(diary).open("ab", buffering=0) as file:  # noqa: ASYNC230  # a file is what processes share
        file.write(f"{job.id} {job.attempt}\n".encode())
    return job.attempt


@app.task
async def take(seconds: float) -> None:
    """Take a while."""
    await asyncio.sleep(seconds)


@app.task
async def poison(how: str) -> None:
    """Take the whole worker down."""
    match how:
        case "exit":
            os._exit(1)
        case "segfault":
            ctypes.string_at(0)
        case _:
            os.kill(os.getpid(), signal.SIGKILL)


@app.task
async def send_email(recipient: str, subject: str, body: str) -> str:
    """Pretend."""
    return f"{recipient}: {subject} ({len(body)})"


@app.task
async def pay(job: Job, gate: str, holds: str) -> None:
    """Pay once, in one transaction with the success; stand still, at the first attempt, before the commit or after."""
    done = await job.load_checkpoint() or 0
    await job.save_checkpoint(done + 1)
    async with job.transaction() as connection:
        await connection.execute("INSERT INTO payment (attempt) VALUES ($1)", job.attempt)
        job.set_result({"attempt": job.attempt, "checkpoints": done + 1})
        if holds == "before" and job.attempt == 1:
            await stand_still(f"{gate}.before")
    if holds == "after":
        await stand_still(f"{gate}.after")


async def stand_still(sign: str) -> None:
    """Say so by a file, and wait to be killed."""
    Path(sign).touch()  # noqa: ASYNC240  # a file is what processes share
    await asyncio.sleep(3600)
