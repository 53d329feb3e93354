"""Enqueue over HTTP: each request has an Idempotency-Key, and is repeated until there is an answer."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import aiohttp

from rowlock.torture import testimony, workload
from rowlock.torture.history import Enqueue, Enqueued, History, Wanted

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable


LOCKED: Final = "urn:rowlock:problem:locked"
"""The answer while an open transaction blocks the key: that of a first try, whose commit is still to come."""


class Posts:
    """The requests of one process. `pause` waits for so many seconds, and returns whether the process is stopping."""

    def __init__(
        self,
        api: str,
        session: aiohttp.ClientSession,
        history: History,
        rng: random.Random,
        pause: Callable[[float], Awaitable[bool]],
    ) -> None:
        self._api = api
        self._session = session
        self._history = history
        self._rng = rng
        self._pause = pause

    async def one(self) -> None:
        """Post a job with an Idempotency-Key, and repeat it until there is an answer."""
        op = uuid4().hex
        options: dict[str, Any] = {
            "priority": self._rng.randrange(10),
            "max_attempts": 7,
            "timeout": 60,
            "delay": 0.5,
            "tags": ["http"],
            "metadata": {"op": op},
        }
        body = {"task": workload.over_http.name, "args": {"op": op}, **options}
        for _ in range(60):
            with suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self._session.post(
                    f"{self._api}/v1/jobs", json=body, headers={"Idempotency-Key": op}
                ) as answer:
                    if answer.status == 201:
                        job = UUID((await answer.json())["id"])
                        wanted = [Wanted(id=job, task=workload.over_http.name, queue="default", **options)]
                        self._history.write(Enqueue(op=op, how="http", jobs=wanted))
                        self._history.write(Enqueued(op=op, outcome="stored"))
                        testimony.note("stored", [job])
                        return
                    if answer.status < 500 and LOCKED not in (text := await answer.text()):
                        raise AssertionError(f"The API answered {answer.status}: {text}")
            if await self._pause(self._rng.uniform(0.1, 1.0)):
                return

    async def many(self) -> None:
        """Post several jobs at once, and repeat it until there is an answer. The runner finds out what was stored."""
        op, of, name = uuid4().hex, self._rng.randint(2, 8), workload.many_over_http.name
        options: dict[str, Any] = {
            "priority": self._rng.randrange(10),
            "timeout": 60,
            "tags": ["http"],
            "metadata": {"op": op},
        }
        body = {"jobs": [{"task": name, "args": {"op": op, "of": of}, **options}] * of}
        for _ in range(60):
            with suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self._session.post(
                    f"{self._api}/v1/jobs/many", json=body, headers={"Idempotency-Key": op}
                ) as answer:
                    if answer.status == 201:
                        jobs = [UUID(job["id"]) for job in (await answer.json())["jobs"]]
                        wanted = [Wanted(id=job, task=name, queue="default", **options) for job in jobs]
                        self._history.write(Enqueue(op=op, how="http", jobs=wanted, of=of))
                        self._history.write(Enqueued(op=op, outcome="stored"))
                        testimony.note("stored", jobs)
                        return
                    if answer.status < 500 and LOCKED not in (text := await answer.text()):
                        raise AssertionError(f"The API answered {answer.status}: {text}")
            if await self._pause(self._rng.uniform(0.1, 1.0)):
                return
