"""The older of two versions of one application, for the test of a rolling deploy: amounts are whole euros."""

from __future__ import annotations

import asyncio

from rowlock import Rowlock

app = Rowlock()


@app.task
async def charge(account: int, euros: int) -> dict[str, int]:
    """Say which code ran, and what it saw."""
    await asyncio.sleep(0.005)
    return {"code": 1, "account": account, "euros": euros}


@app.task
async def note(text: str) -> str:
    """Get another parameter, with a default, in the newer version."""
    return text


@app.task
async def audit(account: int) -> int:
    """Be gone in the newer version."""
    return account
