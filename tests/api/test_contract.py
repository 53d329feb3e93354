"""What `/openapi.json` promises, asked of the API by schemathesis: a little in each run, much with `make contract`.

The server, its database and a worker are real. The number of requests is that which the server has counted.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import hypothesis
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

from rowlock import Rowlock
from rowlock.api import create_app
from rowlock.api.access import EVERYTHING, Access

CONFIGURATION: Final = Path(__file__).parent / "schemathesis.toml"
KEY: Final = "a-key-of-the-contract"
PREFIX: Final = "/queue"


async def with_the_key(request: web.Request) -> Access | None:
    return EVERYTHING if request.headers.get("Authorization") == f"Bearer {KEY}" else None


@pytest.mark.timeout(3600)
async def test_server_keeps_what_its_document_promises(
    app: Rowlock, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    is_long = pytestconfig.getoption("--hypothesis-profile") == "long"
    answers: Counter[int] = Counter()

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        answers[response.status] += 1
        return response

    site = web.Application(middlewares=[count])
    site.add_subapp("/queue", create_app(app, authenticate=with_the_key))
    extent = ["--max-examples=400", "--generation-database=none"] if is_long else ["--max-examples=5", "--generation-deterministic"]
    async with TestServer(site) as server, app.worker():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", f"--config-file={CONFIGURATION}", "run"),
            *(str(server.make_url("/queue/openapi.json")), f"--header=Authorization: Bearer {KEY}"),
            *(*extent, f"--url={server.make_url(PREFIX)}", "--request-timeout=70"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await process.communicate())[0].decode()
    print(said)  # noqa: T201  # what was found
    print(f"{answers.total()} requests: {dict(sorted(answers.items()))}")  # noqa: T201
    assert process.returncode == 0, said
