"""A program that operates: it waits for results, pauses, scales, acts on many jobs, and logs the answers.

`python -m rowlock.torture.operator NAME SEED API-URL…`, with the history's folder in ROWLOCK_TORTURE_FOLDER. It
stops at SIGTERM, after running calls.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import aiohttp
import structlog

from rowlock.errors import JobFailed, JobNotFound, ResultTimeout
from rowlock.torture import operated, routines, workload
from rowlock.torture.calls import Calls, Said

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from rowlock.queue.read.handle import JobHandle

TIMEOUTS: Final = (0.3, 3.0, 20.0)
"""How long it waits for results, in seconds: some end before their job."""
ASKED: Final = 30
"""How often a request without an answer is sent again."""


class Operator:
    """One process that operates. `apis` are the addresses of the HTTP APIs, which must agree."""

    def __init__(self, seed: str, apis: Sequence[str]) -> None:
        self._rng = random.Random(seed)  # noqa: S311  # the same sequence for the same seed
        self._apis = apis
        self._calls = Calls(self._rng)

    async def run(self) -> None:
        """Run until SIGTERM."""
        calls = self._calls
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, calls.stopping.set)
        alone: list[tuple[Callable[[], Awaitable[None]], float]] = [
            *[(self._result, 0.1)] * 4,
            (self._over_http, 0.3),
            (self._twice, 0.7),
            *[(self._compute, 0.5)] * 2,
            (self._orphan, 12.0),
            (self._crash, 2.0),
        ]
        shared: list[tuple[Callable[[], Awaitable[None]], float]] = [
            (partial(routine, calls), pause) for routine, pause in routines.ROUTINES
        ]
        async with calls.app, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            self._session = session
            await asyncio.gather(*(self._repeat(do, pause) for do, pause in [*alone, *shared]))
            await routines.undo(calls)

    async def _repeat(self, do: Callable[[], Awaitable[None]], seconds: float) -> None:
        while not self._calls.stopping.is_set():
            await do()
            await self._calls.pause(self._rng.uniform(0.5, 1.5) * seconds)

    # Results

    async def _result(self) -> None:
        how = self._rng.choice(["return", "return", "late", "error", "fail"])
        job = operated.answer.job(how, self._rng.choice([0.0, 0.05, 0.5, 2.0]))  # type: ignore[arg-type]  # of these
        for handle in await self._calls.enqueue([job]):
            await self._wait(handle)

    async def _wait(self, handle: JobHandle[Any], timeout: float = 0.0, **about: str) -> None:
        seconds = timeout or self._rng.choice(TIMEOUTS)

        async def wait() -> Said:
            try:
                return {"result": await handle.result(timeout=seconds)}
            except JobFailed as error:
                return {"state": error.state, "error": error.error}
            except ResultTimeout:
                return {"is_late": True}
            except JobNotFound:
                return {"is_missing": True}

        await self._calls.call("result", wait, jobs=[handle.id], about={"timeout": seconds, **about})

    async def _compute(self) -> None:
        number = self._rng.randrange(1_000_000)
        seconds = self._rng.choice([0.0, 0.3, 3.0])
        for handle in await self._calls.enqueue([operated.compute.job(number, seconds)]):
            await self._wait(handle, 20.0, square=str(number * number))

    async def _orphan(self) -> None:
        await self._calls.pause(self._rng.uniform(2.0, 6.0))
        for handle in await self._calls.enqueue([operated.compute.job(2, 4.0, is_orphan=True)]):
            await self._wait(handle, 20.0, square="4")

    async def _crash(self) -> None:
        how = self._rng.choice(["exit", "kill", "memory"])
        for handle in await self._calls.enqueue([operated.crash.job(how)]):  # type: ignore[arg-type]  # of these
            await self._wait(handle, 20.0, how=how)

    # Over HTTP

    async def _over_http(self) -> None:
        """Wait for a result over HTTP, and compare the answers of the APIs on the finished job."""
        for handle in await self._calls.enqueue([operated.answer.job("return", self._rng.choice([0.0, 0.5]))]):
            await self._ask(handle.id)

    async def _ask(self, job: UUID) -> None:
        wait = self._rng.choice([0, 3, 10])

        async def ask() -> Said:
            async with self._session.get(f"{self._rng.choice(self._apis)}/v1/jobs/{job}/result?wait={wait}") as answer:
                return {"status": answer.status, **await _json(answer)}

        said = await self._calls.call(
            "http result", ask, jobs=[job], about={"timeout": wait}, refused=(aiohttp.ClientError,)
        )
        if said is None or said["status"] != 200:
            return

        async def both() -> Said:
            answers = []
            for api in self._apis:
                async with self._session.get(f"{api}/v1/jobs/{job}") as answer:
                    answers.append({"status": answer.status, **await _json(answer)})
            return {"answers": answers}

        await self._calls.call("both", both, jobs=[job], refused=(aiohttp.ClientError,))

    async def _twice(self) -> None:
        """Send one request with an Idempotency-Key to each API, at once or one after the other, until each answers."""
        op = uuid4().hex
        body = {"task": workload.over_http.name, "args": {"op": op}}
        apis = self._rng.sample(self._apis, len(self._apis))

        async def post(api: str) -> str | None:
            for _ in range(ASKED):
                with suppress(aiohttp.ClientError, TimeoutError, OSError):
                    async with self._session.post(
                        f"{api}/v1/jobs", json=body, headers={"Idempotency-Key": op}
                    ) as answer:
                        if answer.status < 300:
                            return str((await answer.json())["id"])
                        if answer.status < 500:
                            return f"{answer.status} {await answer.text()}"
                if self._calls.stopping.is_set():
                    return None
                await asyncio.sleep(self._rng.uniform(0.1, 0.5))
            return None

        async def send() -> Said:
            if self._rng.random() < 0.5:
                return {"ids": await asyncio.gather(*(post(api) for api in apis))}
            return {"ids": [await post(api) for api in apis]}

        await self._calls.call("twice", send, about={"op": op})


async def _json(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """The answer's JSON object; nothing if it has none."""
    with suppress(ValueError, aiohttp.ContentTypeError):
        said = await answer.json(content_type=None)
        if isinstance(said, dict):
            return said
    return {}


def main(name: str, seed: str, *apis: str) -> None:  # noqa: ARG001  # the history has it from the environment
    """Run the program."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    asyncio.run(Operator(seed, apis).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
