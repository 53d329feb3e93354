"""The operations whose messages are crash points: what they need, what they consist of, and what must come of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rowlock.queue.jobs.identifiers import uuid7
from tests.torture import operations
from tests.torture.operations import ARMED, CALLER, Site
from tests.torture.stage import LONG, Stage
from tests.torture.wire import Aim
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.torture.stage import Connection


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


def client(ready: int | None, skip: int = 1) -> Aim:
    """A connection of the application's, warmed up: the statement that says so is passed over."""
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
        aim=client(13, skip=5),  # the COPY that is refused is passed over, too
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
        aim=Aim(application="rowlock attention", marker=b"AND cancel_requested_at", ready=1),
        prepare=waiting("points.waits"),
        check=cancelled,
        worker=True,
        during=keep_looking,
        frames=">P>D>H<1<t<T>B>E>S<2<D<C<Z",
    ),
    "rescue": Operation(
        run=operations.work,
        aim=Aim(application="rowlock upkeep", marker=b"UPDATE rowlock.duty", ready=2),
        prepare=of_a_dead_worker,
        check=rescued_once,
        worker=True,
        during=keep_looking,
        frames=">P>D>H<1<t<T>B>E>S<2<D<C<Z>P>D>H<1<t<T>B>E>S<2<D<C<Z",
    ),
}
