"""What `/openapi.json` promises, asked of the API by schemathesis: a little in each run, much with `make contract`.

The server, its database and a worker are real. The number of requests is that which the server has counted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

from rowlock import Rowlock
from rowlock.api import create_app
from rowlock.api.access.access import EVERYTHING, Access

ROOT: Final = Path(__file__).parents[2]
CONFIGURATION: Final = Path(__file__).parent / "schemathesis.toml"
DETERMINISTIC: Final = "--generation-deterministic"
KEY: Final = "a-key-of-the-contract"
PREFIX: Final = "/queue"


async def with_the_key(request: web.Request) -> Access | None:
    return EVERYTHING if request.headers.get("Authorization") == f"Bearer {KEY}" else None


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_server_keeps_what_its_document_promises(
    app: Rowlock, tmp_path: Path, pytestconfig: pytest.Config, caplog: pytest.LogCaptureFixture
) -> None:
    is_long = pytestconfig.getoption("--hypothesis-profile") == "long"
    caplog.set_level(logging.ERROR, logger="rowlock")  # else each request is told
    answers: Counter[int] = Counter()
    began = time.monotonic()

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        answers[response.status] += 1
        if answers.total() % 1000 == 0:
            print(f"{answers.total()} requests after {time.monotonic() - began:.0f} s", file=sys.stderr)  # noqa: T201
        return response

    site = web.Application(middlewares=[count])
    site.add_subapp(PREFIX, create_app(app, authenticate=with_the_key))
    extent = ["--max-examples=700", "--generation-database=none"] if is_long else ["--max-examples=3", DETERMINISTIC]
    async with TestServer(site) as server, app.worker() as worker:
        there = await what_is_there(app) | {"worker": [str(worker.id)]}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", f"--config-file={CONFIGURATION}", "run"),
            *(str(server.make_url(f"{PREFIX}/openapi.json")), f"--url={server.make_url(PREFIX)}"),
            *(f"--header=Authorization: Bearer {KEY}", "--exclude-path=/v1/events", "--request-timeout=70", *extent),
            cwd=tmp_path,
            env=os.environ
            | {"SCHEMATHESIS_HOOKS": "tests.api.contract_hooks", "PYTHONPATH": str(ROOT)}
            | {"ROWLOCK_CONTRACT_THERE": json.dumps(there)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await process.communicate())[0].decode()
    print(said)  # noqa: T201  # what was found
    print(f"{answers.total()} requests: {dict(sorted(answers.items()))}")  # noqa: T201
    assert process.returncode == 0, said


async def what_is_there(app: Rowlock) -> dict[str, list[str]]:
    """Jobs in several states, and a schedule: what an id in a path can lead to."""
    jobs = [await app.enqueue("echo", {"value": 1}, delay=delay) for delay in (None, None, 3600, 3600)]
    jobs.append(await app.enqueue("explode", {"how": "error"}))
    await app.schedules.create("nightly", "echo", "0 3 * * *")
    return {"id": [str(job.id) for job in jobs], "schedule": ["nightly"], "queue": ["default", "sums"]}
