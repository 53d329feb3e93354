"""What the scenes of the demonstration share: the connections, the console, and the table of what was checked."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import asyncpg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from examples.demo.processes import Program

_START_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was expected, and what was seen."""

    what: str
    expected: str
    seen: str
    is_met: bool


@dataclass(slots=True, kw_only=True)
class Stage:
    """The demonstration's connections and its notes."""

    console: Console
    database: asyncpg.Connection[asyncpg.Record]
    http: aiohttp.ClientSession
    programs: tuple[Program, ...]
    checks: list[Check] = field(default_factory=list)

    def scene(self, title: str) -> None:
        """Announce what comes."""
        self.console.print(f"\n[bold]{escape(title)}[/bold]")

    def say(self, text: str) -> None:
        """Say what happens."""
        self.console.print(f"  {escape(text)}", soft_wrap=True)

    def expect(self, what: str, expected: object, seen: object) -> None:
        """Note what was expected and what was seen: they should be equal."""
        self._note(Check(what=what, expected=_show(expected), seen=_show(seen), is_met=expected == seen))

    def expect_that(self, what: str, expected: str, seen: str, *, is_met: bool) -> None:
        """Note a condition that is not an equality."""
        self._note(Check(what=what, expected=expected, seen=seen, is_met=is_met))

    async def post_job(self, task: str, **args: object) -> str:
        """Enqueue a job over HTTP, and return its id."""
        async with self.http.post("/v1/jobs", json={"task": task, "args": args}) as response:
            answer = await response.json()
            self.expect(f"POST /v1/jobs {task}", 201, response.status)
        return str(answer["id"])

    async def get_result(self, job_id: str) -> list[Any]:
        """Wait for a job's end over HTTP, and return its state and its result."""
        async with self.http.get(f"/v1/jobs/{job_id}/result", params={"wait": "30"}) as response:
            answer = await response.json()
        return [answer.get("state"), answer.get("result")]

    async def wait_for_api(self) -> None:
        """Wait until the API answers that it is ready."""
        async with asyncio.timeout(_START_SECONDS):
            while not await self._is_ready():
                for program in self.programs:
                    program.check()
                await asyncio.sleep(0.05)

    async def _is_ready(self) -> bool:
        try:
            async with self.http.get("/readyz") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False

    def _note(self, check: Check) -> None:
        self.checks.append(check)
        mark = "[green]✓[/green]" if check.is_met else "[bold red]✗[/bold red]"
        self.console.print(f"  {mark} {escape(check.what)}: {escape(check.seen)}", soft_wrap=True)

    def table(self) -> Table:
        """All that was checked, as a table."""
        table = Table(title="What happened", title_justify="left")
        for name in ("", "What", "Expected", "Seen"):
            table.add_column(name, overflow="fold")
        for check in self.checks:
            mark = "[green]ok[/green]" if check.is_met else "[bold red]DIFFERS[/bold red]"
            table.add_row(mark, escape(check.what), escape(check.expected), escape(check.seen))
        return table


def _show(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
