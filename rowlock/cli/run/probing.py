"""Serve a worker process's probes on a port of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rowlock import logs
from rowlock.api.probes import create_probes
from rowlock.api.serving import serving

if TYPE_CHECKING:
    from rowlock.queue.connect.database import Database
    from rowlock.worker.worker import Worker

log = logs.get_logger("rowlock.cli")


@asynccontextmanager
async def probing(worker: Worker, database: Database, host: str, port: int) -> AsyncIterator[None]:
    """Serve `/metrics`, `/healthz` and `/readyz` during the block. Raises `ConfigurationError`."""
    probes = create_probes(worker, database)
    async with serving(probes, host, port, what="The worker", option="--metrics-port") as url:
        log.info("metrics_served", url=f"{url}/metrics")
        yield
