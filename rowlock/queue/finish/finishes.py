"""Record outcomes: fenced, in batches, and never blocked by a result that cannot be stored.

Outcomes that arrive while one batch is in flight form the next: this adds no delay under a low load, and the batches
grow by themselves under a high one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar
from uuid import UUID

import asyncpg

from rowlock import logs, steady
from rowlock.errors import RowlockError
from rowlock.queue.connect.server_errors import CONNECTION_LOST
from rowlock.queue.jobs.lifecycle import Again, Ended

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from asyncpg import Record

    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.queue.jobs.results import ErrorText

log = logs.get_logger("rowlock.worker")

LARGEST_BATCH: Final = 1000
LARGEST_UNSUCCESSFUL_BATCH: Final = 100
LARGEST_RESULTS: Final = 16 * 1024 * 1024
"""The characters of results in one statement: far below the gigabyte that PostgreSQL accepts."""
NOT_STORABLE: Final = (
    asyncpg.DataError,  # seam: not storable
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""The errors of a row that the database refuses at every try."""
NOT_IN_TIME: Final = (TimeoutError, asyncpg.QueryCanceledError)
CLOCK_STEP: Final = timedelta(days=1)
"""By how much the server's clock may go back: an attempt ends after its job was due, by this clock."""
PAUSE_FIRST: Final = 0.1
PAUSE_MOST: Final = 2.0

Outcome = TypeVar("Outcome", "Success", "Unsuccess")


class Success(Protocol):
    """An attempt that succeeded: the claimed row, the result as JSON text, and the time at which it began, by the
    clock of leases (`rowlock.steady`).
    """

    claimed: Record
    result: str | None
    began: float


class Unsuccess:
    """An attempt of another outcome: the decision on its job, and the reason."""

    __slots__ = ("began", "claimed", "decision", "error")

    def __init__(self, claimed: Record, decision: Again | Ended, error: ErrorText | None, began: float) -> None:
        self.claimed = claimed
        self.decision = decision
        self.error = error
        self.began = began

    def without_error(self) -> Unsuccess:
        """The same outcome, without the text that the database refused."""
        return Unsuccess(self.claimed, self.decision, None, self.began)


Note: TypeAlias = Callable[[Sequence[Success | Unsuccess], Collection[UUID], float], object]


def _note_nothing(_outcomes: Sequence[Success | Unsuccess], _refused: Collection[UUID], _sent_at: float) -> None:
    """Count nothing."""


class Finishes:
    """The outcomes of the attempts of one worker id, on their way into the database.

    An outcome that outlives its lease is recorded if the job was not rescued yet, and refused otherwise: the fence in
    the database decides. `refused` counts the stale ones. `unstorable` makes the outcome of an attempt whose result the
    database refused. `note` is called with the recorded outcomes, the refused jobs among them, and the time of sending.
    """

    def __init__(
        self,
        connection: ControlConnection,
        worker: UUID,
        unstorable: Callable[[Success, Exception], Unsuccess],
        note: Note = _note_nothing,
    ) -> None:
        self._connection = connection
        self._worker = worker
        self._unstorable = unstorable
        self._note = note
        self._instead: dict[UUID, Unsuccess] = {}
        self._successes: list[Success] = []
        self._unsuccesses: list[Unsuccess] = []
        self._sending: Sequence[Success | Unsuccess] = ()
        self._may_repeat = False
        self._arrived = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self.refused = 0

    async def connect(self) -> None:
        """Reconnect if the connection was lost, so that no job is claimed that could not be finished."""
        if not self._connection.is_open:
            await self._connection.open()

    def succeeded(self, success: Success) -> None:
        """Record a success, soon."""
        self._successes.append(success)
        if len(self._successes) == 1:
            self._arrived.set()
            self._settled.clear()

    def ended(self, unsuccess: Unsuccess) -> None:
        """Record another outcome, soon."""
        self._unsuccesses.append(unsuccess)
        self._arrived.set()
        self._settled.clear()

    def was_recorded(self, success: Success) -> None:
        """Note a success that the handler's own transaction has recorded."""
        self._note([success], (), steady.seconds())

    @property
    def pending(self) -> int:
        """How many outcomes wait to be recorded."""
        return len(self._successes) + len(self._unsuccesses)

    def known(self) -> set[UUID]:
        """The jobs whose outcomes wait to be recorded, or are on their way."""
        return {outcome.claimed["id"] for outcome in (*self._successes, *self._unsuccesses, *self._sending)}

    async def flush(self) -> None:
        """Wait until all outcomes so far are in the database."""
        await self._settled.wait()

    async def run(self) -> None:
        """Send batch after batch, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._successes or self._unsuccesses:
                if self._successes:
                    size = _batch_size(self._successes)
                    if self._may_repeat:  # seam: one outcome each
                        size = _one_each(self._successes[:size])
                    batch, self._successes = self._successes[:size], self._successes[size:]
                    self._sending = batch
                    await self._send(batch, self._record_successes, self._record_one_success)
                if self._unsuccesses:
                    size = _one_each(self._unsuccesses[:LARGEST_UNSUCCESSFUL_BATCH])
                    few, self._unsuccesses = self._unsuccesses[:size], self._unsuccesses[size:]
                    self._sending = few
                    await self._send(few, self._record_unsuccesses, self._record_one_unsuccess)
                self._sending = ()
            self._may_repeat = False
            self._settled.set()

    async def _send(
        self,
        batch: Sequence[Outcome],
        record: Callable[[Sequence[Outcome]], Awaitable[set[UUID]]],
        record_one: Callable[[Outcome], Awaitable[set[UUID]]] | None,
        *,
        pause: float = PAUSE_FIRST,
        is_repeated: bool = False,
    ) -> None:
        """Record a batch, however often the connection is lost; row by row if the database refuses one.

        A batch that is not done in time is sent again in halves: a slow database must not get the same batch for ever.
        """
        sent_at = steady.seconds()
        while True:
            try:
                refused = await record(batch)
                if refused and is_repeated:
                    refused -= await self._recorded(batch, refused)
            except NOT_STORABLE as error:
                if record_one is None:
                    log.exception("outcome_not_stored", job_id=str(batch[0].claimed["id"]), error=type(error).__name__)
                    return
                for outcome in batch:
                    await self._send([outcome], lambda alone: record_one(alone[0]), None, is_repeated=is_repeated)
                return
            except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError) as error:
                # The database may go back in time meanwhile, and hand out again jobs that have ended here.
                self._may_repeat = True
                log.warning("finish_delayed", jobs=len(batch), error=type(error).__name__)  # seam: finish delayed
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter
                pause, is_repeated = min(pause * 2, PAUSE_MOST), True
                if isinstance(error, NOT_IN_TIME) and len(batch) > 1:
                    half = len(batch) // 2
                    for part in (batch[:half], batch[half:]):
                        await self._send(part, record, record_one, pause=pause, is_repeated=True)
                    return
            else:
                self._settle(batch, refused, sent_at)
                return

    async def _recorded(self, batch: Sequence[Success | Unsuccess], refused: set[UUID]) -> set[UUID]:
        """The refused jobs that an earlier try, whose answer was lost, has recorded."""
        asked = [outcome.claimed for outcome in batch if outcome.claimed["id"] in refused]
        rows = await self._connection.fetch(
            "list_recorded",
            self._worker,
            [claimed["id"] for claimed in asked],
            [claimed["attempt"] for claimed in asked],
            min(claimed["run_at"] for claimed in asked) - CLOCK_STEP,
        )
        return {row["id"] for row in rows}

    def _settle(self, batch: Sequence[Success | Unsuccess], refused: set[UUID], sent_at: float) -> None:
        if self._instead:
            batch = [self._instead.pop(outcome.claimed["id"], outcome) for outcome in batch]
        self._note(batch, refused, sent_at)
        if not refused:
            return
        for outcome in batch:
            if outcome.claimed["id"] in refused:
                self.refused += 1
                log.warning(
                    "finish_refused",
                    job_id=str(outcome.claimed["id"]),
                    task=outcome.claimed["task"],
                    attempt=outcome.claimed["attempt"],
                    why="the job was rescued from this worker, or ended by an operator, before this attempt finished",
                )

    async def _record_successes(self, batch: Sequence[Success]) -> set[UUID]:
        now = steady.seconds()
        rows = await self._connection.fetch(
            "succeed",
            self._worker,
            [success.claimed["id"] for success in batch],
            [success.claimed["attempt"] for success in batch],
            [success.result for success in batch],
            [now - success.began for success in batch],
        )
        return _ids(rows)

    async def _record_unsuccesses(self, batch: Sequence[Unsuccess]) -> set[UUID]:
        refused: set[UUID] = set()
        if ended := [(outcome, outcome.decision) for outcome in batch if isinstance(outcome.decision, Ended)]:
            states = [decision.state.value for _, decision in ended]
            refused |= await self._tell("fail", [outcome for outcome, _ in ended], states)
        if again := [(outcome, outcome.decision) for outcome in batch if isinstance(outcome.decision, Again)]:
            delays = [decision.delay for _, decision in again]
            refused |= await self._tell("again", [outcome for outcome, _ in again], delays)
        return refused

    async def _tell(self, statement: str, batch: Sequence[Unsuccess], what: Sequence[Any]) -> set[UUID]:
        now = steady.seconds()
        rows = await self._connection.fetch(
            statement,
            self._worker,
            [outcome.claimed["id"] for outcome in batch],
            [outcome.claimed["attempt"] for outcome in batch],
            [
                None if isinstance(outcome.decision, Again) and not outcome.decision.has_begun else now - outcome.began
                for outcome in batch
            ],
            what,
            [outcome.decision.outcome for outcome in batch],
            [outcome.decision.counts for outcome in batch],
            [outcome.error and outcome.error.type for outcome in batch],
            [outcome.error and outcome.error.message for outcome in batch],
            [outcome.error and outcome.error.traceback for outcome in batch],
        )
        return _ids(rows)

    async def _record_one_success(self, success: Success) -> set[UUID]:
        try:
            return await self._record_successes([success])
        except NOT_STORABLE as error:
            unsuccess = self._instead[success.claimed["id"]] = self._unstorable(success, error)
            return await self._record_one_unsuccess(unsuccess)

    async def _record_one_unsuccess(self, unsuccess: Unsuccess) -> set[UUID]:
        try:
            return await self._record_unsuccesses([unsuccess])
        except NOT_STORABLE as error:
            log.exception("error_text_not_stored", job_id=str(unsuccess.claimed["id"]), error=type(error).__name__)
            return await self._record_unsuccesses([unsuccess.without_error()])


def _ids(rows: Sequence[Record]) -> set[UUID]:
    """The refused jobs of a finish; the rows of null are its notifications."""
    return {row["id"] for row in rows if row["id"] is not None} if rows else set()


def _batch_size(successes: Sequence[Success]) -> int:
    """How many of the successes go into one statement: as many as fit, and at least one."""
    characters = 0
    for number, success in enumerate(successes[:LARGEST_BATCH]):
        if success.result is not None:
            characters += len(success.result)
            if characters > LARGEST_RESULTS:
                return max(number, 1)
    return LARGEST_BATCH


def _one_each(outcomes: Sequence[Outcome]) -> int:
    """The number of first outcomes that belong to different jobs: a statement accepts one outcome for each job."""
    jobs = set[UUID]()
    for number, one in enumerate(outcomes):
        if one.claimed["id"] in jobs:
            return number
        jobs.add(one.claimed["id"])
    return len(outcomes)
