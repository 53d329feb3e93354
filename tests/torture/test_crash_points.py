"""Crash points: the connection cut, or the process killed, before, within and after each message of each operation."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from rowlock.queue.jobs.lifecycle import FINAL
from rowlock.torture.audit import write_audit
from rowlock.torture.checker import check
from rowlock.torture.history import Act, Acted, Enqueue, Enqueued, History, Process
from tests.conftest import _database
from tests.torture import operations
from tests.torture.operations import Order, Site
from tests.torture.points import OPERATIONS, Operation, Visit
from tests.torture.stage import Children, Stage, open_stage
from tests.torture.wire import How, Trap
from tests.waiting import eventually

if TYPE_CHECKING:
    import psycopg

    from tests.conftest import Server


KILLS = (How.KILL_BEFORE, How.KILL_AFTER)
ALL = os.environ.get("ROWLOCK_CRASH_POINTS") == "all"
"""Whether to visit those points too that can hardly tell anything new."""
LANES = 2
"""How many points are visited at once: while one waits for the server, another one can use Python."""
MOST_WRONG = 20
LONGEST = 10.0
"""Seconds that one point may take: far less than a lease, so that nothing waits for one to run out."""


@pytest.fixture(autouse=True)
def _haste(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in operations.PAUSES.items():
        monkeypatch.setattr(name, seconds)


@pytest.fixture(scope="module")
def children() -> Iterator[list[Children]]:
    made = [Children() for _ in range(LANES)]
    yield made
    for one in made:
        one.close()


@pytest.fixture
async def stages(
    server: Server, admin: psycopg.Connection, template: str, tmp_path: Path
) -> AsyncIterator[list[Stage]]:
    """A database each for so many lanes."""
    async with AsyncExitStack() as stack:
        opened = []
        for lane in range(LANES):
            name = stack.enter_context(contextmanager(_database)(admin, template))
            folder = tmp_path / str(lane)
            folder.mkdir()
            opened.append(await stack.enter_async_context(open_stage(server.url(name), server.socket_dir, folder)))
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
async def test_nothing_is_lost_at_any_message(
    name: str, stages: list[Stage], children: list[Children], record_property: Callable[[str, object], None]
) -> None:
    operation, first = OPERATIONS[name], stages[0]
    await visit(first, operation, "clean", None, None)
    frames = list(first.wire.seen)
    assert contains(frames, operation.frames), f"These are not the messages that were expected: {''.join(frames)}"
    points = [(at, how) for at in range(len(frames)) for how in How if is_a_point(frames, at, how)]
    if not ALL:  # by chance, a third of them
        points = points[random.randrange(3) :: 3]
    record_property("crash_points", len(points))
    wrong = await asyncio.gather(
        *(sweep(stage, operation, frames, points[lane::LANES], children[lane]) for lane, stage in enumerate(stages))
    )
    assert not any(wrong), "\n".join([f"{sum(map(len, wrong))} of {len(points)} crash points:", *chain(*wrong)])
    for stage in stages:
        await write_audit(stage.connection, stage.folder)
        # The leases' ends were moved by hand: no rescue has its usual reason.
        broken = [one for one in check(stage.folder).violations if one.rule != "unjustified rescues"]
        assert not broken, "\n".join(map(str, broken))


async def sweep(
    stage: Stage, operation: Operation, frames: Sequence[str], points: Sequence[tuple[int, How]], children: Children
) -> list[str]:
    """Visit crash points, one after the other; returns what is wrong."""
    wrong = []
    for at, how in points:
        killing = children if how in KILLS else None
        trap = Trap(at=at, how=how, kill=None if killing is None else killing.kill)
        try:
            await visit(stage, operation, f"{how.replace(' ', '-')}-{at}", trap, killing)
        except Exception as error:  # noqa: BLE001  # all of them are told together
            wrong.append(f"{how} message {at} ({frames[at]}): {type(error).__name__}: {error}")
            if len(wrong) == MOST_WRONG:
                break
            await stage.connection.execute("TRUNCATE rowlock.job, rowlock.unique_key, mine")
            stage.survivor.held = []
    return wrong


def is_a_point(frames: Sequence[str], at: int, how: How) -> bool:
    """Whether this is another point than those before it, for whom it is about.

    After a message is before the next one, unless that one is the answer to it: then the server has acted in one case,
    and is about to in the other. Some differ from others in nothing that the server or the process could notice, and
    are for the run of all points: a process that is killed says nothing between the messages of one answer; half a
    message is none. Of the cuts between two messages every fourth is visited, and all where an answer is about to come.
    """
    is_last_said = frames[at][0] == ">" and frames[at + 1 : at + 2] != [] and frames[at + 1][0] == "<"
    match how:
        case How.CUT_AFTER | How.KILL_AFTER:
            return is_last_said or at == len(frames) - 1
        case How.KILL_BEFORE:
            return ALL or frames[at][0] == ">" or at == 0 or frames[at - 1][0] == ">"
        case How.CUT_WITHIN:
            return ALL or at % 12 == 0 or is_last_said
        case _:
            return ALL or at % 4 == 0 or is_last_said


def contains(frames: Sequence[str], expected: str) -> bool:
    """Whether these messages come in this order, with others between them."""
    rest = iter(frames)
    return all(kind in rest for kind in re.findall("[<>][a-z]{2,}|[<>].", expected))


async def visit(stage: Stage, operation: Operation, name: str, trap: Trap | None, children: Children | None) -> None:
    """Run the operation up to a crash point, let things go on as in life, and see what has become of its jobs."""
    ids = await operation.prepare(stage)
    stage.wire.arm(operation.aim, trap)
    seen = Visit(ids=ids, is_killed=children is not None and trap is not None)
    async with asyncio.timeout(LONGEST):
        if children is not None and trap is not None:
            await run_child(stage, operation, name, ids, children)
        else:
            await run_here(stage, operation, name, ids)
        await stage.wire.settled()
        assert trap is None or stage.wire.sprung.is_set(), f"the message did not come: {''.join(stage.wire.seen)}"
        await eventually(stage.nothing_is_left_over)
        await go_on(stage, seen)
    await judge(stage, operation, name, seen)


async def run_here(stage: Stage, operation: Operation, name: str, ids: list[UUID]) -> None:
    with History(stage.folder, name) as history:
        site = Site(url=stage.wire_url, history=history, ids=ids, is_done=lambda: are_finished(stage, ids))
        if operation.during is None:
            await operation.run(site)
            return
        during = asyncio.create_task(operation.during(stage, site))
        try:
            await operation.run(site)
        finally:
            during.cancel()
            (ended,) = await asyncio.gather(during, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended


async def run_child(stage: Stage, operation: Operation, name: str, ids: list[UUID], children: Children) -> None:
    children.expect()
    order = Order(run=operation.run.__name__, url=stage.wire_url, folder=str(stage.folder), by=name, ids=ids)
    pid, code = await children.run(order)
    log = stage.survivor.history
    log.write(Process(name=name, process=pid, what="ended", code=code))


async def are_finished(stage: Stage, ids: list[UUID]) -> None:
    sql = "SELECT count(*) FROM rowlock.finished_job WHERE id = ANY($1)"

    async def is_so() -> bool:
        return bool(await stage.connection.fetchval(sql, ids) == len(ids))

    await eventually(is_so)


async def go_on(stage: Stage, seen: Visit) -> None:
    """Let the leases of all workers that are gone run out, rescue what they held, and do all that is there to do."""
    await stage.connection.execute(
        "UPDATE rowlock.worker SET expires_at = clock_timestamp() - interval '2 seconds' "
        "WHERE id <> $1 AND expires_at > now()",
        stage.survivor.id,
    )
    seen.survivors_work = await stage.survivor.rescue() + await stage.survivor.work()


async def judge(stage: Stage, operation: Operation, name: str, seen: Visit) -> None:
    """Compare what the operation was told with what there is."""
    hear(stage, name, seen)
    rows = await stage.connection.fetch(
        "SELECT id, state, attempt, errors, crashes FROM rowlock.jobs WHERE id = ANY($1)", seen.ids
    )
    seen.found = {row["id"]: dict(row) for row in rows}
    assert len(seen.found) == len(rows), "a job is there twice"
    assert {row["state"] for row in rows} <= {str(state) for state in FINAL}
    for job, outcomes in seen.outcomes.items():
        if "stored" in outcomes:
            assert job in seen.found, f"acknowledged, and lost: {outcomes}"
        elif set(outcomes) == {"nothing"}:
            assert job not in seen.found, "not stored, and there"
    assert await stage.connection.fetchval("SELECT count(*) FROM rowlock.job") == 0
    assert await stage.connection.fetchval("SELECT count(*) FROM rowlock.unique_key") == 0
    if operation.worker and not seen.is_killed:
        assert seen.survivors_work == 0, "a live worker has left its work to another one"
    await operation.check(stage, seen)


def hear(stage: Stage, name: str, seen: Visit) -> None:
    """Take in what the process was told, as it has written it down."""
    asked: dict[str, list[UUID]] = {}
    about: set[str] = set()
    for event in stage.told(name):
        match event:
            case Enqueue():
                asked[event.op] = [job.id for job in event.jobs]
            case Enqueued():
                for job in asked[event.op]:
                    seen.outcomes.setdefault(job, []).append(event.outcome)
            case Act() if event.job == seen.ids[0]:
                about.add(event.op)
            case Acted() if event.op in about:
                seen.acts.append(event.outcome)
