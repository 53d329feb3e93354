"""Bugs on purpose: each is one that such a queue could have, breaks a promise, and has to be seen by the harness.

`python -m tests.torture.seeded` makes each of them in a copy of the package, and lets the harness loose on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
SQL: Final = "rowlock/queue/sql/"
SCHEMA: Final = "rowlock/migrations/versions/0001_initial/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """In this file, the text `old`, which occurs there exactly once, becomes `new`."""

    file: str
    old: str
    new: str

    def applied(self, text: str) -> str:
        """The file's text with the change. Raises `ValueError` unless the old text is there exactly once."""
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"{self.file} has {found} times, not once: {self.old!r}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Torture:
    """Half a minute or so of `rowlock torture`. `faults`: only these, all if it is empty."""

    faults: str = ""
    times: float = 3
    minutes: float = 0.4
    seed: int = 1
    rate: float = 400

    def words(self) -> list[str]:
        """What follows `python`."""
        words = ["-m", "rowlock", "torture", "--seed", str(self.seed), "--minutes", str(self.minutes)]
        words += ["--rate", str(self.rate)]
        return [*words, "--times", str(self.times), *(["--only", self.faults] if self.faults else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pytest:
    """Tests on a real server, where half a minute of chance would be too little, or says too little."""

    selection: str
    chosen: str = ""

    def words(self) -> list[str]:
        """What follows `python`."""
        words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "--no-header", self.selection]
        return [*words, *(["-k", self.chosen] if self.chosen else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """One bug. `promise` is what it breaks; `caught_by` has the rules, or the tests, one of which has to say so."""

    name: str
    promise: str
    changes: tuple[Change, ...]
    engine: Torture | Pytest
    caught_by: tuple[str, ...]


SHORT_WAITS: Final = (
    Change(file="rowlock/torture/run.py", old="DRAIN_SECONDS: Final = 900.0", new="DRAIN_SECONDS: Final = 60.0"),
    Change(file="rowlock/torture/run.py", old="STUCK_SECONDS: Final = 60.0", new="STUCK_SECONDS: Final = 20.0"),
)
"""For all of them: what a bug has left for ever need not be waited for as long as what is only slow."""

_FENCE: Final = """\
       AND worker = $1
       AND CASE WHEN (id, attempt) IN (SELECT outcome.id, outcome.attempt FROM outcome) THEN true ELSE false END
"""
_NOT_DONE: Final = ("lost", "unfinished", "jobs left unfinished")
_MACHINE: Final = "tests/db/test_lifecycle_machine.py"
_STORY: Final = "test_whatever_happens_the_tables_say_what_the_documentation_says"

BUGS: Final = (
    Bug(
        name="success without a fence",
        promise="the outcome of an attempt that has lost its job is refused",
        changes=(Change(file=f"{SQL}succeed.sql", old=_FENCE, new="       AND $1::uuid IS NOT NULL\n"),),
        engine=Torture(faults="freeze", times=15),
        caught_by=("stale outcomes accepted", "illegal transitions", "more than one final state"),
    ),
    Bug(
        name="fence without the attempt",
        promise="an outcome is that of the attempt that is running, not of an earlier one of the same worker",
        changes=(
            Change(
                file=f"{SQL}succeed.sql",
                old="       AND CASE WHEN (id, attempt) IN (SELECT outcome.id, outcome.attempt FROM outcome) "
                "THEN true ELSE false END\n",
                new="",
            ),
        ),
        engine=Pytest(selection=_MACHINE),
        caught_by=(_STORY,),
    ),
    Bug(
        name="rescue by elapsed time",
        promise="a job is taken from its worker only when the lease has run out, however long the job takes",
        changes=(
            Change(
                file=f"{SQL}rescue.sql",
                old="           ARRAY(SELECT expired.id FROM expired)",
                new="           ARRAY(SELECT slow.worker FROM rowlock.job AS slow\n"
                "                  WHERE slow.state = 'running' AND slow.started_at < now() - interval '3 seconds')",
            ),
        ),
        engine=Torture(faults="delay"),
        caught_by=("unjustified rescues",),
    ),
    Bug(
        name="lost connection acknowledged",
        promise="a job whose enqueue is acknowledged is there",
        changes=(
            Change(
                file="rowlock/queue/storing.py",
                old="            raise _unknown(given, error) from error\n",
                new="            return given, {}\n",
            ),
        ),
        engine=Torture(faults="cut,delay,server", times=8, rate=1000),
        caught_by=("lost",),
    ),
    Bug(
        name="unique key by SELECT and INSERT",
        promise="of all writers at the same time, one gets the key",
        changes=(
            Change(
                file=f"{SCHEMA}tables.sql",
                old="    CONSTRAINT unique_key_pkey PRIMARY KEY (key),\n    CONSTRAINT unique_key_length",
                new="    CONSTRAINT unique_key_length",
            ),
            Change(
                file=f"{SCHEMA}functions.sql",
                old="        VALUES (take_key.key, take_key.job_id, take_key.until_start, clock_timestamp() + "
                "take_key.period)\n        ON CONFLICT DO NOTHING;",
                new="        SELECT take_key.key, take_key.job_id, take_key.until_start, clock_timestamp() + "
                "take_key.period\n         WHERE NOT EXISTS (SELECT FROM rowlock.unique_key AS k WHERE k.key = "
                "take_key.key);",
            ),
        ),
        engine=Pytest(selection="tests/db/test_unique_races.py", chosen="of_forty"),
        caught_by=("test_of_forty_connections_a_third_of_which_roll_back_one_job_has_the_key",),
    ),
    Bug(
        name="notifications without a poll",
        promise="a job that falls due is started, also if no notification says so",
        changes=(
            Change(
                file="rowlock/worker/doze.py",
                old="            due = await self._claims.until_next()\n",
                new="            due, pause = None, 3600.0\n",
            ),
            Change(
                file="rowlock/worker/doze.py",
                old="            pause = min(pause, self._ear.due_in())\n",
                new="            pass\n",
            ),
        ),
        engine=Torture(faults="delay"),
        caught_by=_NOT_DONE,
    ),
    Bug(
        name="cursors that settle at once",
        promise="a job is found whose transaction commits late",
        changes=(
            Change(
                file="rowlock/queue/cursors.py",
                old="            self._newest = self._untagged = newest\n",
                new="            self._settled = self._newest = newest\n",
            ),
            Change(file="rowlock/worker/upkeep.py", old="NET_EVERY: Final = 60.0", new="NET_EVERY: Final = 1e9"),
        ),
        engine=Torture(faults="pin"),
        caught_by=_NOT_DONE,
    ),
    Bug(
        name="no scan behind the newest position",
        promise="a job whose transaction commits late is found without waiting for the net",
        changes=(
            Change(
                file="rowlock/queue/cursors.py",
                old="        return not is_lagging or now >= self._rescan_at\n",
                new="        return not is_lagging and not self._newest\n",
            ),
        ),
        engine=Pytest(selection="tests/db/test_claims.py"),
        caught_by=(
            "test_no_committed_job_is_missed_and_none_is_claimed_twice",
            "test_nothing_is_missed_while_a_long_writing_transaction_is_open",
            "test_a_claim_rolled_back_by_another_worker_is_found_again",
        ),
    ),
    Bug(
        name="lease by the worker's clock",
        promise="leases count by the database's clock, whatever the machines' clocks say",
        changes=(
            Change(
                file=f"{SQL}renew_lease.sql",
                old="   SET expires_at = clock_timestamp() + $2::interval,",
                new="   SET expires_at = to_timestamp($5::float8) + $2::interval,",
            ),
            Change(
                file="rowlock/worker/lease.py",
                old='connection.fetch("renew_lease", worker, self._settings.lease, delay, memory)',
                new='connection.fetch("renew_lease", worker, self._settings.lease, delay, memory, time.time())',
            ),
        ),
        engine=Torture(faults="kill"),
        caught_by=("unjustified rescues", "lapsed leases", *_NOT_DONE),
    ),
    Bug(
        name="rescue takes the attempt back",
        promise="the numbers of attempts only go up: they are the fence",
        changes=(
            Change(
                file=f"{SQL}rescue.sql",
                old="started_at = NULL, crashes = crashes + 1,",
                new="started_at = NULL, attempt = attempt - 1, crashes = crashes + 1,",
            ),
        ),
        engine=Torture(faults="kill"),
        caught_by=("illegal transitions",),
    ),
    Bug(
        name="archived whatever the fence says",
        promise="a job has one final state",
        changes=(
            Change(
                file=f"{SQL}succeed.sql",
                old="""\
    SELECT gone.id, gone.run_at, gone.created_at, statement_timestamp() - outcome.elapsed * interval '1 second',
           statement_timestamp(), gone.worker,
           gone.timeout, gone.attempt, gone.max_attempts, gone.errors, gone.crashes, gone.priority, 'succeeded',
           gone.queue, gone.task, gone.args_version, gone.unique_key, gone.error, gone.args, outcome.result,
           gone.tags, gone.trace
      FROM gone
      JOIN outcome ON outcome.id = gone.id
""",
                new="""\
    SELECT outcome.id, coalesce(gone.run_at, now()), coalesce(gone.created_at, now()), now(), statement_timestamp(), $1,
           gone.timeout, outcome.attempt, coalesce(gone.max_attempts, 10), coalesce(gone.errors, 0),
           coalesce(gone.crashes, 0::smallint), coalesce(gone.priority, 5::smallint), 'succeeded',
           coalesce(gone.queue, 'default'), coalesce(gone.task, 'torture.quick'),
           coalesce(gone.args_version, 1::smallint), gone.unique_key, gone.error,
           coalesce(gone.args, '{}'), outcome.result, gone.tags, gone.trace
      FROM outcome
      LEFT JOIN gone ON outcome.id = gone.id
""",
            ),
        ),
        engine=Torture(faults="terminate,cut,freeze", times=10),
        caught_by=("more than one final state",),
    ),
    Bug(
        name="handlers outlive the lease",
        promise="a worker that has lost its lease stops its handlers",
        changes=(Change(file="rowlock/worker/shift.py", old='        self.slots.stop("lease")\n', new=""),),
        engine=Torture(faults="black_hole", times=10, minutes=0.5, rate=1000),
        caught_by=("overlaps",),
    ),
    Bug(
        name="handlers stopped after the lease",
        promise="a worker that cannot renew its lease stops its handlers before the lease runs out, not after",
        changes=(Change(file="rowlock/worker/lease.py", old="MARGIN: Final = 0.2\n", new="MARGIN: Final = -1.5\n"),),
        engine=Torture(faults="black_hole", times=10, minutes=0.5, rate=1000),
        caught_by=("overlaps",),
    ),
    Bug(
        name="outcomes dropped with the connection",
        promise="an outcome is recorded, however often the connection is lost",
        changes=(
            Change(
                file="rowlock/queue/finishes.py",
                old='                log.warning("finish_delayed", jobs=len(batch), error=type(error).__name__)\n',
                new='                log.warning("finish_delayed", jobs=len(batch), error=type(error).__name__)\n'
                "                return\n",
            ),
        ),
        engine=Torture(faults="server,cut,delay", times=8, rate=1000),
        caught_by=("starts without a claim", *_NOT_DONE),
    ),
    Bug(
        name="no adopting",
        promise="the jobs of a claim whose answer was lost are done",
        changes=(
            Change(
                file="rowlock/worker/main_loop.py",
                old="        if self._loop.time() < self._adopt_at:\n            return\n",
                new="        if self._loop:\n            return\n",
            ),
        ),
        engine=Torture(faults="cut,delay", times=12, minutes=0.5, rate=1000),
        caught_by=_NOT_DONE,
    ),
    Bug(
        name="enqueued again under new ids",
        promise="an enqueue whose answer was lost is not repeated in a way that can double its jobs",
        changes=(
            Change(
                file="rowlock/queue/storing.py",
                old="            raise _unknown(given, error) from error\n",
                new="            import rowlock.queue.identifiers as new\n"
                "            given = [NewJob(new.uuid7(), one.task, one.args, one.options, one.unique_key)\n"
                "                     for one in given]\n",
            ),
        ),
        engine=Torture(faults="cut,delay,server", times=8, rate=1000),
        caught_by=("unexpected", "lost"),
    ),
    Bug(
        name="again does not see finished jobs",
        promise="an enqueue that is done again stores only what is missing, also if it has finished by then",
        changes=(
            Change(
                file="rowlock/queue/storing.py",
                old="        return [job for job in jobs if job.id not in finished]\n",
                new="        return [job for job in jobs if finished is not None]\n",
            ),
        ),
        engine=Torture(faults="terminate,cut,server"),
        caught_by=("illegal transitions", "more than one final state"),
    ),
    Bug(
        name="cancel ends running jobs itself",
        promise="a running job's end is told by its worker: a cancel only asks for it",
        changes=(
            Change(
                file=f"{SQL}cancel.sql",
                old="     WHERE id = ANY(ARRAY(SELECT target.id FROM target WHERE target.state <> 'running'))\n",
                new="     WHERE id = ANY(ARRAY(SELECT target.id FROM target))\n",
            ),
        ),
        engine=Torture(faults="kill"),
        caught_by=("stale outcomes accepted", "illegal transitions"),
    ),
    Bug(
        name="cancel that does nothing",
        promise="a waiting job whose cancel is acknowledged never starts",
        changes=(
            Change(
                file=f"{SQL}cancel.sql",
                old="     WHERE id = ANY(ARRAY(SELECT target.id FROM target WHERE target.state <> 'running'))\n",
                new="     WHERE id = ANY(ARRAY(SELECT target.id FROM target WHERE target.state = 'blocked'))\n",
            ),
            Change(
                file=f"{SQL}cancel.sql",
                old="SELECT id, 'cancelled' AS answer, NULL AS told FROM gone\n",
                new="SELECT id, 'cancelled' AS answer, NULL AS told FROM target WHERE state <> 'running'\n",
            ),
        ),
        engine=Torture(faults="kill"),
        caught_by=("cancelled jobs that started",),
    ),
    Bug(
        name="key freed while its job waits for its next attempt",
        promise="a job holds its unique key until it has finished",
        changes=(
            Change(
                file=f"{SQL}again.sql",
                old="), told AS (\n",
                new="), freed AS (\n    DELETE FROM rowlock.unique_key WHERE job_id = ANY($2::uuid[])\n), told AS (\n",
            ),
        ),
        engine=Torture(faults="kill"),
        caught_by=("unique violations",),
    ),
    Bug(
        name="ticks fired without claiming them",
        promise="each tick of a schedule makes one job",
        changes=(
            Change(
                file=f"{SCHEMA}schedules.sql",
                old="    CONSTRAINT schedule_tick_pkey PRIMARY KEY (schedule, tick_at),\n",
                new="",
            ),
            Change(
                file=f"{SQL}fire_ticks.sql", old="s.next_run_at = $2::timestamptz", new="$2::timestamptz IS NOT NULL"
            ),
            Change(
                file=f"{SQL}fire_ticks.sql",
                old="s.last_job_id IS NOT DISTINCT FROM $4::uuid",
                new="($4::uuid IS NULL OR true)",
            ),
            Change(file=f"{SQL}fire_ticks.sql", old="       FOR NO KEY UPDATE OF s SKIP LOCKED\n", new=""),
        ),
        engine=Torture(faults="kill"),
        caught_by=("schedule ticks",),
    ),
    Bug(
        name="attempts without a limit",
        promise="a job fails for good after max_attempts errors",
        changes=(
            Change(
                file="rowlock/queue/lifecycle.py",
                old="    if errors + 1 >= max_attempts or not may_retry:\n",
                new="    if not may_retry:\n",
            ),
        ),
        engine=Torture(faults="kill"),
        caught_by=("starts past the limit",),
    ),
    Bug(
        name="no quarantine",
        promise="a job that takes its workers down is set aside",
        changes=(
            Change(
                file=f"{SQL}rescue.sql",
                old="           CASE WHEN crashes + 1 < $1 THEN false\n",
                new="           CASE WHEN true THEN false\n",
            ),
        ),
        engine=Torture(faults="poison", times=2),
        caught_by=("starts past the limit", *_NOT_DONE),
    ),
    Bug(
        name="claim without locks",
        promise="a job is claimed by one worker",
        changes=(
            Change(file=f"{SQL}claim.sql", old="SELECT job.ctid AS tid", new="SELECT job.id AS tid"),
            Change(
                file=f"{SQL}claim.sql",
                old="                     FOR NO KEY UPDATE SKIP LOCKED\n",
                new="",
            ),
            Change(
                file=f"{SQL}claim.sql",
                old="     WHERE ctid = ANY(ARRAY(SELECT tid FROM candidate))\n       AND worker IS NULL\n",
                new="     WHERE id = ANY(ARRAY(SELECT tid FROM candidate))\n",
            ),
        ),
        engine=Torture(faults="kill"),
        caught_by=("illegal transitions", "overlaps", "starts without a claim"),
    ),
    Bug(
        name="effects committed before the success",
        promise="what a handler writes in job.transaction() is committed with the success of its job, or not at all",
        changes=(
            Change(
                file="rowlock/worker/runtime.py",
                old="                await self._commit(transaction)\n",
                new="                await transaction.commit()\n                self._attempt.result = self._result\n",
            ),
        ),
        engine=Torture(faults="kill,delay", times=8, rate=1000),
        caught_by=("effects",),
    ),
    Bug(
        name="enqueue beside the caller's transaction",
        promise="a job of a transaction that is rolled back does not exist",
        changes=(
            Change(
                file="rowlock/queue/storing.py",
                old="        return await self._enqueue(job, connection)\n\n",
                new="        return await self._in_own_transaction([job], lambda: self._enqueue(job, None))\n\n",
            ),
        ),
        engine=Torture(faults="kill"),
        caught_by=("unexpected",),
    ),
    Bug(
        name="error texts as they are",
        promise="whatever text an error has, its outcome is recorded",
        changes=(
            Change(
                file="rowlock/queue/results.py",
                old=""" and text.isascii() and "\\0" not in text:""",
                new=""" and text.isascii():""",
            ),
            Change(file="rowlock/queue/finishes.py", old="    asyncpg.DataError,\n", new=""),
        ),
        engine=Torture(faults="kill"),
        caught_by=_NOT_DONE,
    ),
    Bug(
        name="jobs start after the lease",
        promise="no job begins in a worker whose lease has run out",
        changes=(
            Change(
                file="rowlock/worker/attempts.py",
                old="""\
        if attempt.began >= self._lease.held_until:
            self._come_too_late(attempt, on_end)
            return
        logs.JOB.set(claimed)
        job: Job | None = None
""",
                new="        logs.JOB.set(claimed)\n        job: Job | None = None\n",
            ),
        ),
        engine=Pytest(selection="tests/db/test_links.py", chosen="slept_past"),
        caught_by=("test_nothing_begins_in_a_worker_that_has_slept_past_the_end_of_its_lease",),
    ),
    Bug(
        name="cancelled calls wait for dead links",
        promise="a handler that has to stop ends before its lease does, whatever it waits for",
        changes=(
            Change(
                file="rowlock/queue/connections.py",
                old="""\
    except asyncio.CancelledError:
        throw_away(connection)
        raise
    except BaseException:
        await transaction.rollback()
""",
                new="    except BaseException:\n        await transaction.rollback()\n",
            ),
        ),
        engine=Pytest(selection="tests/db/test_links.py", chosen="ends_at_once_when_it_is_cancelled"),
        caught_by=("test_a_call_over_a_link_that_swallows_all_ends_at_once_when_it_is_cancelled",),
    ),
    Bug(
        name="lapsed leases renewed",
        promise="a lease that has run out is not renewed: others may have the jobs",
        changes=(Change(file=f"{SQL}renew_lease.sql", old="   AND expires_at > clock_timestamp()\n", new=""),),
        engine=Torture(faults="freeze", times=10),
        caught_by=("lapsed leases", "overlaps"),
    ),
)
