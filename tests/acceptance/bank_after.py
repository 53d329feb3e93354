"""The newer of two versions of one application: `charge` has other parameters, `refund` is new, `audit` is gone."""

from __future__ import annotations

import asyncio
from typing import Any

from rowlock import Rowlock

app = Rowlock()


@app.task(version=2)
async def charge(customer: int, cents: int) -> dict[str, int]:
    """Say which code ran, and what it saw."""
    await asyncio.sleep(0.005)
    return {"code": 2, "customer": customer, "cents": cents}


@charge.upcast(from_version=1)
def charge_in_cents(args: dict[str, Any]) -> dict[str, Any]:
    """Bring `charge(account, euros)` to `charge(customer, cents)`."""
    return {"customer": args["account"], "cents": 100 * args["euros"]}


@app.task
async def note(text: str, *, is_loud: bool = False) -> str:
    """Have a parameter more than before, which nobody gives yet."""
    return text.upper() if is_loud else text


@app.task
async def refund(customer: int) -> int:
    """Be new."""
    return customer
