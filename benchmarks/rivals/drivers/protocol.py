"""What every Python driver program has in common: its commands, its clock, and what it prints.

`python -m benchmarks.rivals.drivers.<name> <command> <options as JSON>` prints lines of JSON. A worker prints
`loaded` once it has imported everything, waits for a line on its standard input (so that several start together),
prints `ready`, then how many jobs it has handled, if that changed, every `report` seconds, until its standard input is
closed. All times are nanoseconds of CLOCK_MONOTONIC, which all processes of one machine share (Node's
`process.hrtime` is the same).
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import string
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

WAIT_SECONDS = 0.01
TICK_SECONDS = 0.01
WARM_UP = 3
FRAME_BYTES = len('{"number":1000000,"body":""}')

Payload = Mapping[str, Any]


class Producer(Protocol):
    """One client that enqueues, on a connection of its own."""

    async def one(self, payload: Payload) -> None:
        """Enqueue one job, committed."""
        ...

    async def many(self, payloads: Sequence[Payload]) -> None:
        """Enqueue all of them, committed, in the fastest way that the system documents."""
        ...


@dataclass(slots=True)
class Tally:
    """What a worker has handled: a count, and in the mode `stamp` when each job's handler began."""

    mode: str
    handled: int = 0
    first: int = 0
    starts: list[tuple[int, int]] = field(default_factory=list)

    def count(self) -> None:
        """One more job was handled."""
        if not self.handled:
            self.first = time.monotonic_ns()
        self.handled += 1

    async def handle(self, number: int) -> None:
        """Do the job: nothing (`noop`), note the time (`stamp`), or wait 10 ms (`wait`)."""
        if self.mode == "stamp":
            self.starts.append((number, time.monotonic_ns()))
        elif self.mode == "wait":
            if not self.first:
                self.first = time.monotonic_ns()
            await asyncio.sleep(WAIT_SECONDS)
        self.count()


class Driver(Protocol):
    """One system, used as its documentation says."""

    def __init__(self, url: str, settings: Mapping[str, Any]) -> None: ...

    async def prepare(self) -> None:
        """Make the system's tables."""
        ...

    def producer(self) -> AbstractAsyncContextManager[Producer]:
        """A client, for the time of the block."""
        ...

    async def work(self, tally: Tally, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Work until told to stop, then stop gracefully: what was handled is recorded when this returns."""
        ...


def run(driver: type[Driver]) -> None:
    """Run the command that the command line names, on uvloop if it is installed."""
    logging.disable(logging.WARNING)
    command, options = sys.argv[1], json.loads(sys.argv[2])
    work = _COMMANDS[command](driver(options["url"], options["settings"]), options)
    try:
        import uvloop  # noqa: PLC0415  # an extra
    except ModuleNotFoundError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def say(**line: object) -> None:
    """Print one line of JSON, at once."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class Bodies:
    """Arguments of about `size` bytes of JSON: random letters, different for each job, that do not compress away."""

    def __init__(self, size: int) -> None:
        self._length = max(1, size - FRAME_BYTES)
        self._letters = "".join(random.choices(string.ascii_letters + string.digits, k=self._length + 4096))

    def __getitem__(self, number: int) -> dict[str, Any]:
        begin = number * 61 % 4096
        return {"number": number, "body": self._letters[begin : begin + self._length]}


async def prepare(driver: Driver, _options: Mapping[str, Any]) -> None:
    """Make the tables."""
    await driver.prepare()
    say(result={})


async def bulk(driver: Driver, options: Mapping[str, Any]) -> None:
    """Enqueue `jobs` in calls of `batch`; the clock runs only inside the calls, not while `stage` prepares bytes."""
    bodies, seconds = Bodies(options["size"]), 0.0
    async with driver.producer() as producer:
        for begin in range(0, options["jobs"], options["batch"]):
            payloads: Any = [bodies[n] for n in range(begin, min(begin + options["batch"], options["jobs"]))]
            if stage := getattr(producer, "stage", None):
                payloads = await stage(payloads)
            began = time.perf_counter()
            await producer.many(payloads)
            seconds += time.perf_counter() - began
    say(result={"seconds": seconds})


async def single(driver: Driver, options: Mapping[str, Any]) -> None:
    """Enqueue `jobs` one by one, with `clients` connections at once, after a few each that are not timed."""
    bodies, clients = Bodies(options["size"]), options["clients"]
    numbers = iter(range(options["jobs"]))

    async def enqueue(producer: Producer) -> None:
        for number in numbers:
            await producer.one(bodies[number])

    async with AsyncExitStack() as stack:
        producers = [await stack.enter_async_context(driver.producer()) for _ in range(clients)]
        for producer in producers:
            for _ in range(WARM_UP):
                await producer.one(bodies[0])
        began = time.perf_counter()
        await asyncio.gather(*map(enqueue, producers))
        seconds = time.perf_counter() - began
    say(result={"seconds": seconds, "warm_up": WARM_UP * clients})


async def trickle(driver: Driver, options: Mapping[str, Any]) -> None:
    """Enqueue `jobs` one by one, due a random while (`gap` seconds on average) after the last one was; note when."""
    bodies, sent, committed = Bodies(options["size"]), [], []
    async with driver.producer() as producer:
        due = time.perf_counter()
        for number in range(options["jobs"]):
            due += options["gap"] * random.uniform(0.5, 1.5)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            payload = bodies[number]
            sent.append(time.monotonic_ns())
            await producer.one(payload)
            committed.append(time.monotonic_ns())
    say(result={"sent": sent, "committed": committed})


async def stream(driver: Driver, options: Mapping[str, Any]) -> None:
    """Enqueue `rate` jobs a second for `seconds`, in one call each 10 ms; late ticks are made up for."""
    bodies, sent = Bodies(options["size"]), []
    total = int(options["rate"] * options["seconds"])
    async with driver.producer() as producer:
        await producer.many([bodies[0]])
        began, done = time.perf_counter(), 0
        while done < total:
            await asyncio.sleep(TICK_SECONDS)
            due = min(total, int((time.perf_counter() - began) * options["rate"]))
            payloads = [bodies[1 + n] for n in range(done, due)]
            if payloads:
                sent.append((1 + done, time.monotonic_ns()))
                await producer.many(payloads)
                done = due
        seconds = time.perf_counter() - began
    say(result={"sent": sent, "seconds": seconds, "jobs": total + 1})


async def work(driver: Driver, options: Mapping[str, Any]) -> None:
    """Run a worker until standard input is closed, and say how far it is."""
    tally, stop, loop = Tally(options["mode"]), asyncio.Event(), asyncio.get_running_loop()
    say(loaded=True)
    await asyncio.to_thread(sys.stdin.readline)

    def await_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(stop.set)

    async def report() -> None:
        said = 0
        while True:
            await asyncio.sleep(options["report"])
            if (handled := tally.handled) != said:
                said = handled
                say(handled=handled, at=time.monotonic_ns(), first=tally.first)

    threading.Thread(target=await_end, daemon=True).start()
    reporter = asyncio.create_task(report())
    await driver.work(tally, lambda: say(ready=True), stop)
    reporter.cancel()
    say(handled=tally.handled, at=time.monotonic_ns(), first=tally.first)
    say(result={"handled": tally.handled, "starts": tally.starts})


_COMMANDS = {
    "prepare": prepare,
    "bulk": bulk,
    "single": single,
    "trickle": trickle,
    "stream": stream,
    "work": work,
}
