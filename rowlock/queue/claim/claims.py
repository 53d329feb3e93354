"""Claim due jobs for one worker, by the cursors, in batches."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from rowlock import logs
from rowlock.errors import RowlockError
from rowlock.queue.claim.cursors import BEGINNING, Cursors, Lane, Position, Positions, Scan, everything_until
from rowlock.queue.claim.holdings import Holdings
from rowlock.queue.connect.server_clock import ServerClock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from uuid import UUID

    from asyncpg import Record

    from rowlock.queue.connect.sessions import ControlConnection

log = logs.get_logger("rowlock.worker")

PRIORITIES: Final = range(9, -1, -1)
SLOW_SCAN: Final = 0.002
"""Seconds. A claim slower than this reads many dead rows: worth a transaction id, so that its cursors can settle."""


MOST_QUEUES: Final = 32
"""A claim from 32 queues in which nothing is due takes 2 ms, from 128 it takes 18, from 2,000 over four seconds."""
MANY_QUEUES: Final = 1000
"""A worker that serves more logs a warning: a scan of all of them takes a fifth of a second or longer."""
REST_SHARE: Final = 4
"""While other groups have work, a group of queues without work is scanned again after this many times the duration of a
scan of all groups: so such scans take at most a fifth of the time."""


class NotLeased(RowlockError):
    """The worker's lease has expired by the database's clock: the claim searched and claimed nothing."""


class Group:
    """Queues that one statement claims from, and its cursors in them."""

    def __init__(self) -> None:
        self.queues: list[str] = []
        self.cursors = Cursors()
        self.took = 0.0
        """The duration of the last claim from them, in seconds."""
        self.rests_until = 0.0
        """Until then (by the monotonic clock) the other groups come first, because this one had no work."""
        self.has_looked_behind = False
        """Whether the last claim began behind all jobs that could have been missed."""
        self.next_due_at = math.inf
        """When the next job falls due in them, by the monotonic clock, as the last claim saw it."""
        self.xmin = self.xmax = 0
        """The oldest transaction id in use at the last claim, and the first that was not in use yet."""

    def note(self, told: Record, ended: float, *, rescan: bool) -> None:
        """Note what a claim told in its last row. `rescan`: it began behind all jobs that could have been missed."""
        self.has_looked_behind, self.xmin, self.xmax = rescan, told["xmin"], told["xmax"]
        self.next_due_at = math.inf if told["wait"] is None else ended + told["wait"].total_seconds()
        self.queues = self.queues[1:] + self.queues[:1]  # the next claim begins with another one: none waits for ever


class Claims:
    """The claims of one worker: due jobs of its queues and known tasks, in order of priority.

    One statement scans `MOST_QUEUES` queues: its duration grows with the square of their number. A worker that serves
    more has them in groups, which take turns. Some tasks may be claimed `apart`, each part by claims of its own.
    """

    def __init__(
        self,
        connection: ControlConnection,
        queues: Sequence[str],
        tasks: Sequence[str],
        *,
        max_crashes: int = 3,
        holdings: Holdings | None = None,
    ) -> None:
        self._connection = connection
        self.holdings = holdings or Holdings()
        """What the worker holds by these claims, and by those of the other parts."""
        self.tasks = list(tasks)
        """The tasks that the worker knows, including those that are claimed apart."""
        self.claimed = self.tasks
        """The tasks that are claimed here."""
        self.apart: list[Claims] = []
        self._max_crashes = max_crashes
        self.last_chance = max(max_crashes - 1, 1)
        self.paused: frozenset[str] = frozenset()
        """The queues that were paused at the last claim."""
        self.took = 0.0
        """The duration of the last claim, in seconds."""
        self.looked_until = BEGINNING.run_at
        """The time of the last claim, by the database's clock."""
        self.groups = [Group()]
        """The groups, by the time of their last scan, oldest first."""
        self._short = set[Group]()
        self._clock = ServerClock()
        self._add(dict.fromkeys(queues))

    @property
    def queues(self) -> list[str]:
        """The queues that it claims from."""
        return [queue for group in self.groups for queue in group.queues]

    def serves(self, queue: str) -> bool:
        """Whether it claims from this queue."""
        return any(queue in group.queues for group in self.groups)

    @property
    def open_queues(self) -> list[str]:
        """The queues that were not paused at the last claim."""
        return [queue for queue in self.queues if queue not in self.paused]

    @property
    def settled(self) -> Positions:
        """No claimable job can remain behind these positions."""
        return {lane: position for group in self.groups for lane, position in group.cursors.settled.items()}

    @property
    def is_dry(self) -> bool:
        """Whether the last scan of each queue found no further job, in as many claims as that took."""
        return len(self._short) == len(self.groups)

    @property
    def begins_anew(self) -> bool:
        """Whether the next claim is the first of those after which `is_dry` may be true."""
        return not self._short or self.is_dry

    def reset(self) -> None:
        """Start from the beginning: scan everything again."""
        for group in self.groups:
            group.cursors.reset()
            group.rests_until = 0.0
        self._short.clear()
        for claims in self.apart:
            claims.reset()

    def rescan(self) -> None:
        """Look behind the newest positions with the next claim, also while a long writer is open."""
        for group in self.groups:
            group.cursors.rescan()
        for claims in self.apart:
            claims.rescan()

    def divide(self, parts: Sequence[Sequence[str]]) -> None:
        """Claim the tasks of the first part here from now on, and those of each other part apart.

        Each part needs cursors of its own: positions pass over the jobs of all other tasks.
        """
        self.claimed = list(parts[0])
        crashes, holdings = self._max_crashes, self.holdings
        self.apart = [
            Claims(self._connection, self.queues, part, max_crashes=crashes, holdings=holdings) for part in parts[1:]
        ]
        self.reset()

    def serve(self, queues: Collection[str]) -> None:
        """Claim from these queues from now on."""
        for group in self.groups:
            for queue in set(group.queues).difference(queues):
                group.cursors.forget(queue)
            group.queues = [queue for queue in group.queues if queue in queues]
        surplus = len(self.groups) - max(2 * math.ceil(len(queues) / MOST_QUEUES), 1)
        for group in sorted(self.groups, key=lambda group: len(group.queues))[: max(surplus, 0)]:
            self.groups.remove(group)  # its remaining queues join other groups
        self._add(sorted(set(queues).difference(self.queues)))
        for claims in self.apart:
            claims.serve(queues)

    def _add(self, queues: Iterable[str]) -> None:
        with_room = [group for group in self.groups if len(group.queues) < MOST_QUEUES]
        for queue in queues:
            if not with_room:
                with_room.append(Group())
                self.groups.append(with_room[0])
            with_room[0].queues.append(queue)
            if len(with_room[0].queues) == MOST_QUEUES:
                del with_room[0]
        self._short.clear()

    async def claim(
        self, worker: UUID, limit: int, limits: Mapping[str, int], *, looks_ahead: bool = False
    ) -> list[Record]:
        """Claim up to `limit` due jobs, and from a queue in `limits` no more than its limit; of each queue, the most
        urgent first. If it `looks_ahead`, and finds fewer, `next_due_in` is known then.

        Returns rows of claim.sql, from one group of queues: other groups may have more, unless it `is_dry`. No row: no
        group has any. After an error the outcome is unknown: the rows may have been claimed, and are then rescued with
        the worker's lease. Raises `NotLeased` if the worker's lease has expired.
        """
        if self.is_dry:
            self._short.clear()
        began = time.monotonic()
        rows: list[Record] = []
        for group in sorted(self.groups, key=lambda group: group.rests_until > began):
            rows = await self._claim_from(group, worker, limit, limits, looks_ahead=looks_ahead)
            if len(rows) < limit:
                self._short.add(group)
            else:
                self._short.discard(group)
            if rows:
                break
            group.rests_until = time.monotonic() + REST_SHARE * len(self.groups) * group.took
        self.took = time.monotonic() - began
        return rows

    async def _claim_from(
        self, group: Group, worker: UUID, limit: int, limits: Mapping[str, int], *, looks_ahead: bool
    ) -> list[Record]:
        if len(self.groups) > 1:
            self.groups.remove(group)
            self.groups.append(group)
        cursors = group.cursors
        rescan = cursors.should_rescan()
        queues = [queue for queue in group.queues if limits.get(queue, limit) > 0]
        if not queues:
            group.next_due_at = math.inf  # what is due has no room: once it has, the claims are woken
            return []
        lanes = [Lane(queue, priority) for queue in queues for priority in PRIORITIES]
        starts = [cursors.start(lane, rescan=rescan) for lane in lanes]
        number = self.holdings.number()
        began = time.monotonic()
        rows = await self._connection.fetch(
            "claim",
            [lane.queue for lane in lanes],
            [lane.priority for lane in lanes],
            [start.run_at for start in starts],
            [start.id for start in starts],
            queues,
            [min(limit, limits.get(queue, limit)) for queue in queues],
            limit,
            self.claimed,
            worker,
            cursors.is_untagged and group.took > SLOW_SCAN,
            self.last_chance,
            number,
            self.holdings.over(),
            looks_ahead,
            self._connection.is_pooled,
        )
        ended = time.monotonic()
        group.took = ended - began
        told = rows.pop()
        if told["looked_until"] is None:
            raise NotLeased("The worker's lease has expired. Nothing was claimed.")
        if rows:
            self.holdings.claimed(number, len(rows))
        self.looked_until = told["looked_until"]
        if told["paused"] or self.paused:
            self.paused = self.paused.difference(queues).union(told["paused"])
        scan = Scan(
            reached=_reached(
                rows,
                lanes=lanes,
                starts=starts,
                limit=limit,
                limits=limits,
                end=everything_until(self.looked_until),
                paused=told["paused"],
            ),
            xid=told["xid"],
            xmin=told["xmin"],
        )
        cursors.record(scan, rescan=rescan, took=group.took)
        group.note(told, ended, rescan=rescan)
        if self._clock.has_gone_back(self.looked_until, began, ended):
            log.warning("server_clock_went_back", what="the claims scan again from the beginning")
            self.reset()  # new jobs fall due behind the positions that were reached  # seam: clock set back
        return rows

    async def is_suspect_due(self) -> bool:
        """Whether a job on its last chance is due: `last_chance` crashes or more, so that the next one is its end."""
        is_due: bool = (await self._connection.fetch("find_suspect", *self._lanes(), self.tasks, self.last_chance))[0][
            0
        ]
        return is_due

    async def claim_alone(self, worker: UUID) -> list[Record]:
        """Claim one due job on its last chance, for a worker without jobs; `claim` never claims one."""
        number = self.holdings.number()
        lanes = self._lanes()
        rows = await self._connection.fetch("claim_alone", *lanes, self.tasks, self.last_chance, worker, number)
        if rows:
            self.holdings.claimed(number, len(rows))
        return rows

    def _lanes(self) -> tuple[list[str], list[int]]:
        queues = self.queues
        lanes = [(queue, priority) for priority in PRIORITIES for queue in queues]
        return [queue for queue, _ in lanes], [priority for _, priority in lanes]

    async def adopt(self, worker: UUID, known: Collection[UUID]) -> list[Record]:
        """The jobs that this worker has claimed unknowingly, by a claim whose answer was lost. Rows as of `claim`."""
        return await self._connection.fetch("adopt", worker, list(known))

    async def trim(self, worker: UUID) -> None:
        """Shorten the rows of large claims most of whose jobs have ended."""
        if numbers := self.holdings.to_trim():
            for row in await self._connection.fetch("trim_holdings", worker, numbers):
                self.holdings.trimmed(row["number"], row["jobs"])

    @property
    def has_looked_behind(self) -> bool:
        """Whether the last claims began behind all jobs that could have been missed."""
        return all(group.has_looked_behind for group in self.groups) and all(
            claims.has_looked_behind for claims in self.apart
        )

    @property
    def xmin(self) -> int:
        """The oldest transaction id that was in use at the last claims: what older ones enqueued was seen."""
        return min([*(group.xmin for group in self.groups), *(claims.xmin for claims in self.apart)])

    @property
    def xmax(self) -> int:
        """The first transaction id that was not in use yet at the last claims."""
        return max([*(group.xmax for group in self.groups), *(claims.xmax for claims in self.apart)])

    def next_due_in(self) -> float:
        """The seconds until the next job falls due, as the last claims saw it that looked ahead; else infinite.

        0 for each of them only once: if the claim that follows has no room for it, it is no reason to hurry.
        """
        now, wait = time.monotonic(), math.inf
        for group in self.groups:
            if group.next_due_at <= now:
                group.next_due_at, wait = math.inf, 0.0
            wait = min(wait, group.next_due_at - now)
        return min([wait, *(claims.next_due_in() for claims in self.apart)])


def _reached(
    rows: Sequence[Record],
    *,
    lanes: Sequence[Lane],
    starts: Sequence[Position],
    limit: int,
    limits: Mapping[str, int],
    end: Position,
    paused: Collection[str],
) -> dict[Lane, Position]:
    """The position in each lane where the claim ended: its last claimed job, or the end of the due jobs. The lanes of
    paused queues, which it has not scanned, are missing.
    """
    reached = dict(zip(lanes, starts, strict=True))
    if paused:
        reached = {lane: start for lane, start in reached.items() if lane.queue not in paused}
    last = {(row["queue"], row["priority"]): row for row in rows}  # they come in the order of each lane
    for (queue, priority), row in last.items():
        reached[Lane(queue, priority)] = Position(row["run_at"], row["id"])
    if len(rows) < limit:
        taken = Counter(row["queue"] for row in rows)
        for lane, start in reached.items():
            if taken[lane.queue] < limits.get(lane.queue, limit):
                reached[lane] = max(end, start)
    return reached
