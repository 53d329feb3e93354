"""How far it is from `task.enqueue` to the driver."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import rowlock
from rowlock import Rowlock, Settings

_PACKAGE = Path(rowlock.__file__).parent
MOST = 9


class Entered:
    """The functions of Rowlock's that are entered, in their order, until the driver is asked to run a statement."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:  # noqa: ANN401  # of a profile function
        if event != "call":
            return
        path, function = Path(frame.f_code.co_filename), frame.f_code.co_name
        if path.is_relative_to(_PACKAGE):
            name = f"{path.relative_to(_PACKAGE)} {function}"
            if name not in self.names:
                self.names.append(name)
        elif function == "fetch" and "asyncpg" in path.parts:
            sys.setprofile(None)


async def test_few_functions_lie_between_a_task_and_the_driver(settings: Settings) -> None:
    async with Rowlock(settings=settings) as app:

        @app.task
        async def send(number: int) -> None: ...

        await send.enqueue(0)
        entered, making = Entered(), Entered()
        sys.setprofile(making)
        send.job(1)
        sys.setprofile(None)
        sys.setprofile(entered)
        await send.enqueue(1)
        sys.setprofile(None)
        way = [name for name in entered.names if name not in making.names]
    assert way[0].endswith("enqueue")
    assert way[-1].endswith("acquire")
    assert len(way) <= MOST, way
