"""The browsers of open dashboards, in a process of their own: play them until SIGTERM, then print how often they asked.

They stand for other machines, so they use only the processor time that no other process on this one wants.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
from collections.abc import Mapping, Sequence

import aiohttp

_OPEN: Sequence[tuple[int, Mapping[str, float]]] = (
    (26, {"/v1/overview": 20.0, "/v1/statistics?window=1h": 20.0}),
    (2, {"/v1/overview": 20.0, "/v1/statistics?window=24h": 20.0}),
    (2, {"/v1/overview": 20.0, "/v1/statistics?window=30d": 20.0}),
    (8, {"/v1/jobs": 5.0, "/v1/queues": 30.0, "/v1/tasks": 30.0}),
    (4, {"/v1/queues": 3.0}),
    (4, {"/v1/workers": 3.0}),
    (2, {"/v1/dead-letters/groups": 10.0}),
    (2, {"/v1/operations": 5.0}),
)
"""How many show each page, and what that asks for by itself, besides its stream of events: how often, in seconds."""

_MAY_BE_OLD = {"Cache-Control": "max-age=3"}
"""The header of the dashboard's automatic reloads."""


class Browsers:
    """As many open dashboards as are asked for: each has its stream of events, and its page asks for what it shows."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.requests = 0
        self.events = 0

    async def play(self, number: int) -> None:
        """Play so many of them until cancelled. Raises what a request raises."""
        pages = [polled for how_many, polled in _OPEN for _ in range(how_many)]
        async with asyncio.TaskGroup() as tasks:
            for polled in pages[:number]:
                tasks.create_task(self._listen())
                for path, every in polled.items():
                    tasks.create_task(self._poll(path, every))

    async def _listen(self) -> None:
        async with self._session.get("/v1/events") as response:
            response.raise_for_status()
            async for line in response.content:
                self.events += line.startswith(b"event:")

    async def _poll(self, path: str, every: float) -> None:
        await asyncio.sleep(random.uniform(0, every))
        while True:
            async with self._session.get(path, headers=_MAY_BE_OLD) as response:
                response.raise_for_status()
                await response.read()
                self.requests += 1
            await asyncio.sleep(every)


async def play(base: str, number: int) -> None:
    """Play so many browsers of the dashboard at that address until SIGTERM."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(base, connector=connector, timeout=timeout) as session:
        browsers = Browsers(session)
        playing = asyncio.ensure_future(browsers.play(number))
        await asyncio.wait({playing, stop := asyncio.ensure_future(stopped.wait())}, return_when="FIRST_COMPLETED")
        if playing.done():
            stop.cancel()
            await playing
        playing.cancel()
        await asyncio.wait({playing})
    print(json.dumps({"requests": browsers.requests, "events": browsers.events}))


def main() -> None:
    """Read the address and the number, and play."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--number", type=int, required=True)
    given = parser.parse_args()
    asyncio.run(play(given.address, given.number))


if __name__ == "__main__":
    main()
