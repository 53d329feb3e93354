"""The tasks whose jobs the dashboard shows in its tests: one for each way a job can go."""

from __future__ import annotations

import asyncio
import logging

from rowlock import Cancel, Fail, Job, Rowlock, Snooze

log = logging.getLogger("shop")


def register(app: Rowlock, release: asyncio.Event) -> None:
    """Declare the tasks; the event ends the jobs of `wait_for_release`."""

    @app.task(queue="sums", priority=6, max_attempts=4)
    async def add(x: int, y: int = 1) -> dict[str, int]:
        return {"sum": x + y}

    @app.task(max_attempts=1)
    async def explode(how: str, message: str = "no good") -> None:
        raise {"error": ValueError(message), "fail": Fail(message), "cancel": Cancel(message)}[how]

    @app.task
    async def echo(value: object = None) -> object:
        return value

    @app.task(capture_logs=True)
    async def tell(job: Job, text: str, message: str = "half way") -> str:
        log.warning(text)
        await job.progress(0.5, message)
        return text

    @app.task
    async def snooze() -> None:
        raise Snooze(3600)

    @app.task
    async def wait_for_release() -> str:
        await release.wait()
        return "released"

    @app.task(sensitive=True)
    async def whisper(secret: str) -> str:
        return secret
