"""Crash points: the connection cut, or the process killed, before, within and after each message of each operation."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.lifecycle import FINAL
from rowlock.torture.audit import write_audit
from rowlock.torture.checker import check
from rowlock.torture.history import Act, Acted, Enqueue, Enqueued, History, Process
from tests.conftest import _database
from tests.torture import operations
from tests.torture.operations import ARMED, CALLER, Order, Site
from tests.torture.stage import LONG, Children, Stage, open_stage
from tests.torture.wire import Aim, How, Trap
from tests.waiting import eventually

if TYPE_CHECKING:
    import psycopg

    from tests.conftest import Server
    from tests.torture.stage import Connection

KILLS = (How.KILL_BEFORE, How.KILL_AFTER)
ALL = os.environ.get("ROWLOCK_CRASH_POINTS") == "all"
"""Whether to visit those points too that can hardly tell anything new."""
LANES = 2
"""How many points are visited at once: while one waits for the server, another one can use Python."""
MOST_WRONG = 20
LONGEST = 10.0
"""Seconds that one point may take: far less than a lease, so that nothing waits for one to run out."""


@dataclass(kw_only=True)
class Visit:
    """One crash point, or a run without one, and what came of it."""

    ids: list[UUID]
    is_killed: bool
    outcomes: dict[UUID, list[str]] = field(default_factory=dict)
    acts: list[str] = field(default_factory=list)
    found: dict[UUID, Mapping[str, Any]] = field(default_factory=dict)
    survivors_work: int = 0

    def states(self) -> list[str | None]:
        """The final states of the jobs, in their order; None for one that does not exist."""
        return [self.found[job]["state"] if job in self.found else None for job in self.ids]


Prepare = Callable[[Stage], Awaitable[list[UUID]]]
Check = Callable[[Stage, Visit], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation whose messages are crash points.

    `frames` are the messages that it is known to consist of, at least. `worker`: it is a worker that, cut off, does all
    the work itself, and does not leave it to another one.
    """

    run: Callable[[Site], Awaitable[None]]
    aim: Aim
    frames: str
    prepare: Prepare
    check: Check
    worker: bool = False
    during: Callable[[Stage, Site], Coroutine[None, None, None]] | None = None


def new_ids(number: int) -> Prepare:
    async def prepare(_: Stage) -> list[UUID]:
        return [uuid7() for _ in range(number)]

    return prepare


def waiting(*tasks: str) -> Prepare:
    async def prepare(stage: Stage) -> list[UUID]:
        ids = [uuid7() for _ in tasks]
        await stage.survivor.enqueue(dict(zip(ids, tasks, strict=True)))
        return ids

    return prepare


async def enqueued_before(stage: Stage) -> list[UUID]:
    finished, live, missing = (uuid7() for _ in range(3))
    await stage.survivor.enqueue({finished: "points.work"})
    await stage.survivor.work()
    await stage.survivor.enqueue({live: "points.work"})
    return [finished, live, missing]


async def dead_letters(stage: Stage) -> list[UUID]:
    ids = await waiting("points.doomed", "points.doomed")(stage)
    await stage.survivor.fail()
    return ids


async def running(stage: Stage) -> list[UUID]:
    ids = await waiting("points.work", "points.work")(stage)
    stage.survivor.held = await stage.survivor.claim()
    return ids


async def of_a_dead_worker(stage: Stage) -> list[UUID]:
    job, dead = uuid7(), uuid7()
    await stage.survivor.enqueue({job: "points.work"})
    await stage.survivor.register(dead, 1, LONG)
    await stage.survivor.claim(dead)
    await stage.connection.execute(
        "UPDATE rowlock.worker SET expires_at = clock_timestamp() - interval '2 seconds' WHERE id = $1", dead
    )
    await rescue_is_due(stage.connection)
    return [job]


async def rescue_is_due(connection: Connection) -> None:
    await connection.execute("UPDATE rowlock.duty SET next_run_at = now() WHERE name = 'rescue'")


async def anything(stage: Stage, visit: Visit) -> None: ...


async def all_or_nothing(stage: Stage, visit: Visit) -> None:
    assert len(set(visit.states())) == 1


async def with_the_callers_row(stage: Stage, visit: Visit) -> None:
    await all_or_nothing(stage, visit)
    rows = await stage.connection.fetch("DELETE FROM mine RETURNING job")
    assert [row["job"] for row in rows] == visit.ids[:1] * (visit.states()[0] is not None)


async def at_first_go(stage: Stage, visit: Visit) -> None:
    assert visit.states() == ["succeeded"] * len(visit.ids)
    if not visit.is_killed:
        assert {(row["attempt"], row["crashes"]) for row in visit.found.values()} == {(1, 0)}


async def stored_once(stage: Stage, visit: Visit) -> None:
    *there_before, state = visit.states()
    assert there_before == ["succeeded", "succeeded"]
    assert state == "succeeded" or (visit.is_killed and state is None)
    assert {row["attempt"] for row in visit.found.values()} == {1}


async def retried(stage: Stage, visit: Visit) -> None:
    state = visit.states()[0]
    assert state == "succeeded" or (visit.is_killed and "done" not in visit.acts and state == "failed")
    await has_operations(stage, visit, "retry", int(state == "succeeded"))


async def cancelled(stage: Stage, visit: Visit) -> None:
    state = visit.states()[0]
    assert state == "cancelled" or (visit.is_killed and not {"done", "requested"} & set(visit.acts))
    requested = sum(act in {"done", "requested"} for act in visit.acts)
    least = max(int(state == "cancelled"), requested)
    await has_operations(stage, visit, "cancel", least, least + visit.acts.count("unknown"))


async def has_operations(stage: Stage, visit: Visit, verb: str, least: int, most: int | None = None) -> None:
    sql = "SELECT count(*) FROM rowlock.operation WHERE verb = $1 AND target = $2"
    found = await stage.connection.fetchval(sql, verb, str(visit.ids[0]))
    assert least <= found <= (least if most is None else most)


async def failed_and_put_back(stage: Stage, visit: Visit) -> None:
    states = visit.states()
    if not visit.is_killed:
        assert states == ["failed", "succeeded"]
        assert [visit.found[job]["attempt"] for job in visit.ids] == [1, 2]
        assert [visit.found[job]["errors"] for job in visit.ids] == [1, 1]
    assert None not in states


async def rescued_once(stage: Stage, visit: Visit) -> None:
    assert visit.states() == ["succeeded"]
    if not visit.is_killed:
        assert [(row["attempt"], row["crashes"]) for row in visit.found.values()] == [(2, 1)]


async def with_one_effect(stage: Stage, visit: Visit) -> None:
    assert set(visit.states()) == {"succeeded"}
    sql = "SELECT job, attempt FROM rowlock_audit.effect WHERE job = ANY($1)"
    rows = await stage.connection.fetch(sql, visit.ids)
    assert sorted((row["job"], row["attempt"]) for row in rows) == [
        (job, visit.found[job]["attempt"]) for job in visit.ids
    ]


async def renewed_twice(stage: Stage, site: Site) -> None:
    """Wait until the lease is renewed anew, and let the handler go."""
    await site.started.wait()
    sql = "SELECT xmin::text FROM rowlock.worker WHERE pid = $1 AND hostname <> 'here' AND expires_at > now()"
    for _ in range(2):
        before = await stage.clock.fetchval(sql, os.getpid())

        async def is_renewed(before: str = before) -> bool:
            now = await stage.clock.fetchval(sql, os.getpid())
            return now is not None and now != before

        await eventually(is_renewed)
    site.released.set()


async def keep_looking(stage: Stage, site: Site) -> None:
    """Time passes: the worker hears again that it should look, and the rescue falls due again."""
    await stage.wire.sprung.wait()
    while True:
        await rescue_is_due(stage.clock)
        await stage.clock.execute("SELECT pg_notify('rowlock.wakeup', 'cancel:' || id) FROM rowlock.worker")
        await asyncio.sleep(0.01)


def client(ready: int | None, skip: int = 2) -> Aim:
    """A connection of the application's, warmed up: the statement that says so, and its release, are passed over."""
    return Aim(application="rowlock client", marker=ARMED, skip=skip, ready=ready)


OPERATIONS = {
    "enqueue": Operation(
        run=operations.enqueue_plain,
        aim=client(None),
        prepare=new_ids(1),
        check=anything,
        frames=">P>D>H<1<t<T>B>E>S<2<C<Z",
    ),
    "enqueue, from connecting on": Operation(
        run=operations.enqueue_cold,
        aim=Aim(application="rowlock client"),
        prepare=new_ids(1),
        check=anything,
        frames=">startup<R<S<K<Z>P>D>H<1<t<T>B>E>S<2<C<Z",
    ),
    "enqueue in the caller's transaction": Operation(
        run=operations.enqueue_in_transaction,
        aim=Aim(application=CALLER, marker=ARMED, skip=1),
        prepare=new_ids(3),
        check=with_the_callers_row,
        frames=">Q<C<Z>B>E>S<2<C<Z>B>E>S<2<C<Z>B>E>S<2<C<Z>Q<C<Z>X",
    ),
    "enqueue many": Operation(
        run=operations.enqueue_many,
        aim=client(8),
        prepare=new_ids(4),
        check=all_or_nothing,
        frames=">Q<C<Z>B>E>S<2<D<Z>Q>d>c<G<C<Z>Q>d>c<G<C<Z>B>E>S<2<C<Z>B>E>S<2<C<Z>Q<C<Z",
    ),
    "enqueue with a key": Operation(
        run=operations.enqueue_unique, aim=client(1), prepare=new_ids(1), check=anything, frames=">P<1>B>E>S<2<D<C<Z"
    ),
    "enqueue again": Operation(
        run=operations.enqueue_again,
        aim=client(13, skip=7),  # the COPY that is refused is passed over, too
        prepare=enqueued_before,
        check=stored_once,
        frames=">Q<C<Z>B>E>S<2<D<C<Z>B>E>S<2<D<C<Z>B>E>S<2<C<Z>B>E>S<2<C<Z>B>E>S<2<D<C<Z>B>E>S<2<C<Z"
        ">B>E>S<2<C<Z>B>E>S<2<C<Z>B>E>S<2<C<Z>B>E>S<2<C<Z>B>E>S<2<C<Z>Q<C<Z",
    ),
    "claim": Operation(
        run=operations.work,
        aim=Aim(application="rowlock claim", marker=b"looked_until", ready=1),
        prepare=waiting("points.work", "points.work"),
        check=at_first_go,
        worker=True,
        frames=">P>D>H<1<t<T>B>E>S<2<D<D<D<C<Z",
    ),
    "heartbeat": Operation(
        run=operations.renew,
        aim=Aim(application="rowlock lease", marker=b"-- Renew", ready=1),
        prepare=waiting("points.waits"),
        check=at_first_go,
        worker=True,
        during=renewed_twice,
        frames=">P>D>H<1<t<T>B>E>S<2<D<C<Z",
    ),
    "finish": Operation(
        run=operations.work,
        aim=Aim(application="rowlock finish", marker=b"-- Record", ready=1),
        prepare=waiting(*["points.work"] * 3),
        check=at_first_go,
        worker=True,
        frames=">P>D>H<1<t<T>B>E>S<2<C<Z",
    ),
    "finish without success": Operation(
        run=operations.work,
        aim=Aim(application="rowlock finish", marker=b"-- Record", ready=2),
        prepare=waiting("points.doomed", "points.flaky"),
        check=failed_and_put_back,
        worker=True,
        frames=">P>D>H<1<t<T>B>E>S<2<C<Z>P>D>H<1<t<T>B>E>S<2<C<Z",
    ),
    "finish in the job's transaction": Operation(
        run=operations.work_one_by_one,  # the second transaction counts: the connection knows its statements by then
        aim=Aim(application="rowlock transactions", marker=b"BEGIN", skip=6, ready=5),
        prepare=waiting("torture.exactly_once", "torture.exactly_once"),
        check=with_one_effect,
        worker=True,
        frames=">Q<C<Z>B>E>S<2<C<Z>B>E>S<2<D<C<Z>B>E>S<2<C<Z>Q<C<Z",
    ),
    "retry": Operation(
        run=operations.retry,
        aim=client(10),
        prepare=dead_letters,
        check=retried,
        frames=">Q<C<Z>B>E>S<2<D<C<Z>B>E>S<2<D<C<Z>B>E>S<2<C<Z>B>E>S<2<D<C<Z>B>E>S<2<D<C<Z>Q<C<Z",
    ),
    "cancel": Operation(
        run=operations.cancel,
        aim=client(7),
        prepare=waiting("points.work", "points.work"),
        check=cancelled,
        frames=">Q<C<Z>B>E>S<2<D<C<Z>B>E>S<2<C<Z>B>E>S<2<D<C<Z>Q<C<Z",
    ),
    "cancel what runs": Operation(
        run=operations.cancel,
        aim=client(7),
        prepare=running,
        check=cancelled,
        frames=">Q<C<Z>B>E>S<2<D<C<Z>B>E>S<2<C<Z>B>E>S<2<D<C<Z>Q<C<Z",
    ),
    "hear of a cancel": Operation(
        run=operations.work_cancelled,
        aim=Aim(application="rowlock attention", marker=b"somebody wants cancelled", skip=5, ready=1),
        prepare=waiting("points.waits"),
        check=cancelled,
        worker=True,
        during=keep_looking,
        frames=">B>E>S<2<D<C<Z",
    ),
    "rescue": Operation(
        run=operations.work,
        aim=Aim(application="rowlock upkeep", marker=b"-- Claim a duty", ready=2),
        prepare=of_a_dead_worker,
        check=rescued_once,
        worker=True,
        during=keep_looking,
        frames=">P>D>H<1<t<T>B>E>S<2<D<C<Z>P>D>H<1<t<T>B>E>S<2<D<C<Z",
    ),
}


@pytest.fixture(autouse=True)
def _haste(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in operations.HASTE.items():
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


@pytest.mark.parametrize("name", OPERATIONS)
async def test_nothing_is_lost_at_any_message(
    name: str, stages: list[Stage], children: list[Children], record_property: Callable[[str, object], None]
) -> None:
    operation, first = OPERATIONS[name], stages[0]
    await visit(first, operation, "clean", None, None)
    frames = list(first.wire.seen)
    assert contains(frames, operation.frames), f"These are not the messages that were expected: {''.join(frames)}"
    points = [(at, how) for at in range(len(frames)) for how in How if is_a_point(frames, at, how)]
    if not ALL:  # by chance the odd or the even ones
        points = points[random.randrange(2) :: 2]
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
