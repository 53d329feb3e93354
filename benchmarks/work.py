"""A worker process of the benchmarks: works until SIGTERM, then prints what CPU time its work took."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

import structlog

from benchmarks.tasks import app
from rowlock.worker.process import settle_in


async def work(concurrency: int) -> None:
    """Run a worker until it is told to stop."""
    settle_in()
    worker = app.worker(concurrency=concurrency)
    before = time.process_time()
    await worker.run()
    await app.close()
    print(json.dumps({"cpu_seconds": time.process_time() - before}))


def main() -> None:
    """Run on uvloop if it is installed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concurrency", type=int, required=True)
    concurrency = parser.parse_args().concurrency
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        import uvloop  # noqa: PLC0415  # an extra
    except ModuleNotFoundError:
        asyncio.run(work(concurrency))
    else:
        uvloop.run(work(concurrency))


if __name__ == "__main__":
    main()
