"""The application of the acceptance tests: its workers are real processes."""

from __future__ import annotations

import asyncio
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
async def send_email(recipient: str, subject: str, body: str) -> str:
    """Pretend."""
    return f"{recipient}: {subject} ({len(body)})"
