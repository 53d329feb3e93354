"""What is said of retention, as far as it needs no database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rowlock import InvalidOption, Rowlock

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    "queue, given, said",
    [
        ("email", {}, "needs at least one of succeeded, failed, cancelled, expired"),
        ("no queue", {"failed": DAY}, "queue must .*; got 'no queue'"),
        ("email", {"failed": 0}, "failed must be .*; got 0"),
        ("email", {"succeeded": -DAY}, "succeeded"),
        ("email", {"expired": 3599}, "an hour"),
        ("email", {"cancelled": "7d"}, "cancelled must be .*; got '7d'"),
        ("email", {"failed": timedelta(days=365 * 101)}, "a hundred years"),
        ("email", {"failed": float("nan")}, "nan"),
        ("email", {"failed": True}, "True"),
    ],
)
async def test_what_makes_no_sense_is_refused_before_anything_connects(
    queue: str, given: dict[str, Any], said: str
) -> None:
    async with Rowlock(NOWHERE) as app:
        with pytest.raises(InvalidOption, match=said):
            await app.retention.keep(queue, **given)
