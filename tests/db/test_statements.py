"""The SQL files: each can be prepared, takes the edges of the life cycle and no others, and keeps its plan."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import pytest

from rowlock import migrations
from rowlock.queue.claim.cursors import BEGINNING
from rowlock.queue.connect.sessions import LONG_QUERIES, PLANNER_SETTINGS
from rowlock.queue.connect.statements import statement, statements
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.lifecycle import EDGES, FINAL, LIVE, State
from rowlock.schema import REVISION, in_schema
from tests.db.claimants import hold, register

if TYPE_CHECKING:
    import asyncpg

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

NAMES = sorted(statements())
WORKER = UUID(int=1)
STRANGER = UUID(int=2)
NUMBERS = count(1)


def test_statements_that_may_take_long_are_there() -> None:
    assert set(NAMES) >= LONG_QUERIES


@pytest.mark.parametrize("name", NAMES)
async def test_every_statement_can_be_prepared_and_says_what_it_is(name: str, connection: Connection) -> None:
    text = statement(name, "rowlock")
    assert text.startswith("-- "), "a header says what it does"
    await connection.prepare(text)


@pytest.mark.parametrize("name", NAMES)
def test_every_statement_names_the_configured_schema_alone(name: str) -> None:
    moved = re.sub(r"--.*", "", in_schema(statement(name, "rowlock"), "elsewhere"))
    assert "rowlock." not in moved
    assert not re.search(r"(?i)\b(FROM|JOIN|INTO|UPDATE)\s+(job|finished_job|attempt|worker|duty)\b", moved)


@pytest.mark.parametrize("name", NAMES)
def test_no_statement_selects_all_columns(name: str) -> None:
    assert not re.search(r"(?i)\bselect\s+\*|\w\.\*", re.sub(r"--.*", "", statement(name, "rowlock")))


def test_the_code_works_on_the_newest_revision() -> None:
    assert migrations.head() == REVISION


async def add_job(connection: Connection, state: State, *, crashes: int = 0) -> UUID:
    job = uuid7()
    if state in FINAL:
        await connection.execute(
            "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
            "max_attempts, errors, priority, queue, args) "
            "VALUES ($1, 'noop', $2, 1, $3, now(), now(), now(), 10, 1, 5, 'default', '{}')",
            job,
            state.value,
            crashes,
        )
        return job
    is_running = state is State.RUNNING
    await connection.execute(
        "INSERT INTO rowlock.job (id, task, state, worker, attempt, crashes, started_at, run_at, due_at) "
        "VALUES ($1, 'noop', $2, $3, $4, $5, $6::interval + now(), "
        "        CASE $2 WHEN 'blocked' THEN 'infinity' ELSE now() END, CASE $2 WHEN 'blocked' THEN now() END)",
        job,
        state.value,
        WORKER if is_running else None,
        int(is_running),
        crashes,
        timedelta(0) if is_running else None,
    )
    await hold(connection)
    return job


async def state_of(connection: Connection, job: UUID) -> State | None:
    found: str | None = await connection.fetchval(
        "SELECT state FROM rowlock.job WHERE id = $1 UNION ALL SELECT state FROM rowlock.finished_job WHERE id = $1",
        job,
    )
    return None if found is None else State(found)


async def run_claim(connection: Connection, _job: UUID) -> None:
    await claim_by(connection, "claim", *claim_parameters())


def claim_parameters(limit: int = 10) -> tuple[Any, ...]:
    start = [BEGINNING.run_at] * 10, [BEGINNING.id] * 10
    lanes = ["default"] * 10, list(range(9, -1, -1))
    return *lanes, *start, ["default"], [limit], limit, ["noop"], WORKER, False, 2, next(NUMBERS), [], True, False


async def run_claim_alone(connection: Connection, _job: UUID) -> None:
    await claim_by(connection, "claim_alone", ["default"] * 10, [*range(10)], ["noop"], 2, WORKER, next(NUMBERS))


async def claim_by(connection: Connection, name: str, *parameters: object) -> None:
    """The worker is registered for its claim alone: the rescue of these tests finds a worker without a row."""
    await register(connection, WORKER)
    await connection.fetch(statement(name, "rowlock"), *parameters)
    await connection.execute("DELETE FROM rowlock.worker WHERE id = $1", WORKER)


async def run_succeed(connection: Connection, job: UUID) -> None:
    await connection.fetch(statement("succeed", "rowlock"), WORKER, [job], [1], ["{}"], [0.1])


async def run_fail(connection: Connection, job: UUID, state: str) -> None:
    await connection.fetch(
        statement("fail", "rowlock"), WORKER, [job], [1], [0.1], [state], ["error"], [True], ["E"], ["m"], ["t"]
    )


async def run_again(connection: Connection, job: UUID) -> None:
    await connection.fetch(
        statement("again", "rowlock"), WORKER, [job], [1], [0.1], [timedelta(0)], ["error"], [True], ["E"], ["m"], ["t"]
    )


async def run_end_overdue(connection: Connection, job: UUID, **times: str) -> None:
    sets = ", ".join(f"{name} = {value}" for name, value in times.items())
    await connection.execute(f"UPDATE rowlock.job SET ends_at = '-infinity', {sets} WHERE id = $1", job)
    await connection.fetch(statement("end_overdue", "rowlock"), 100)


async def run_cancel(connection: Connection, job: UUID) -> None:
    await connection.fetch(statement("cancel", "rowlock"), [job], None, None, sorted(map(str, LIVE)))


async def ended(connection: Connection, job: UUID) -> list[datetime]:
    return [row[0] for row in await connection.fetch("SELECT finished_at FROM rowlock.finished_job WHERE id = $1", job)]


async def run_retry(connection: Connection, job: UUID) -> None:
    await connection.fetch(statement("retry", "rowlock"), [job], None, None, await ended(connection, job))


async def run_discard(connection: Connection, job: UUID) -> None:
    await connection.fetch(statement("discard", "rowlock"), [job], await ended(connection, job))


async def run_reschedule(connection: Connection, job: UUID) -> None:
    later = timedelta(hours=1)
    await connection.fetch(statement("reschedule", "rowlock"), [job], None, later, 9, "elsewhere", None)


async def run_rescue(connection: Connection, _job: UUID) -> None:
    await connection.fetch(statement("rescue", "rowlock"), 3, 100, True)


@pytest.mark.parametrize("before", sorted(State))
async def test_every_statement_takes_the_edges_of_the_life_cycle_and_no_others(
    before: State, connection: Connection
) -> None:
    seen: set[tuple[State | None, str, State]] = set()
    for verb, run, crashes in (
        ("claim", run_claim, 0),
        ("claim", run_claim_alone, 2),
        ("succeed", run_succeed, 0),
        ("fail", lambda c, j: run_fail(c, j, "failed"), 0),
        ("fail", lambda c, j: run_fail(c, j, "cancelled"), 0),
        ("again", run_again, 0),
        ("rescue", run_rescue, 0),
        ("rescue", run_rescue, 2),
        ("end_overdue", lambda c, j: run_end_overdue(c, j, expires_at="now()"), 0),
        ("end_overdue", lambda c, j: run_end_overdue(c, j, deadline="now()"), 0),
        ("end_overdue", lambda c, j: run_end_overdue(c, j, cancel_requested_at="now()"), 0),
        ("cancel", run_cancel, 0),
        ("retry", run_retry, 0),
        ("discard", run_discard, 0),
        ("reschedule", run_reschedule, 0),
    ):
        job = await add_job(connection, before, crashes=crashes)
        await run(connection, job)
        after = await state_of(connection, job)
        assert after is not None, "no statement loses a job"
        if after is not before:
            seen.add((before, verb, after))
        await connection.execute("TRUNCATE rowlock.job, rowlock.finished_job")
    assert seen == {edge for edge in EDGES if edge[0] is before}


@pytest.mark.parametrize(
    "worker, attempt", [(STRANGER, 1), (WORKER, 2), (WORKER, 0)], ids=["other worker", "newer", "older"]
)
@pytest.mark.parametrize("verb", ["succeed", "fail", "again"])
async def test_an_outcome_of_another_attempt_is_refused(
    verb: str, worker: UUID, attempt: int, connection: Connection
) -> None:
    job = await add_job(connection, State.RUNNING)
    told: tuple[Any, ...] = {
        "succeed": (["{}"], [0.1]),
        "fail": ([0.1], ["failed"], ["error"], [True], ["E"], ["m"], ["t"]),
        "again": ([0.1], [timedelta(0)], ["error"], [True], ["E"], ["m"], ["t"]),
    }[verb]
    refused = await connection.fetch(statement(verb, "rowlock"), worker, [job], [attempt], *told)
    assert [row["id"] for row in refused] == [job]
    assert await state_of(connection, job) is State.RUNNING
    assert await connection.fetchval("SELECT count(*) FROM rowlock.attempt") == 0


SITUATIONS = ["empty", "full", "freshly filled", "full of dead rows"]


async def bring_about(connection: Connection, situation: str) -> None:
    """A table in this situation, with statistics that say that it is empty, except where it is full."""
    await connection.execute("ALTER TABLE rowlock.job SET (autovacuum_enabled = off)")
    await connection.execute("VACUUM ANALYZE rowlock.job")
    if situation == "empty":
        return
    await connection.execute(
        "INSERT INTO rowlock.job (id, task, priority) "
        "SELECT rowlock.uuid7(), 'noop', n % 10 FROM generate_series(1, 20000) n"
    )
    if situation == "full":
        await connection.execute("VACUUM ANALYZE rowlock.job")
    elif situation == "full of dead rows":
        await connection.execute("DELETE FROM rowlock.job")


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


async def plan_of(connection: Connection, name: str, parameters: str) -> list[dict[str, Any]]:
    for setting, value in PLANNER_SETTINGS.items():
        await connection.execute("SELECT set_config($1, $2, false)", setting, value)
    await connection.execute(f"PREPARE tried AS {statement(name, 'rowlock')}")
    given = f"({parameters})" if parameters else ""
    explained = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE tried{given}"))
    return nodes(explained[0]["Plan"])


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_the_claim_reads_the_claim_index_alone(situation: str, connection: Connection) -> None:
    await bring_about(connection, situation)
    plan = await plan_of(
        connection,
        "claim",
        "'{default}', '{5}', '{0001-01-02}', '{00000000-0000-0000-0000-000000000000}', '{default}', '{500}', 500, "
        "'{noop}', '00000000-0000-0000-0000-000000000001', false, 2, 1, '{}', true, false",
    )
    on_job = [node for node in plan if node.get("Relation Name") == "job" and "Scan" in node["Node Type"]]
    by_id = [node for node in on_job if node.get("Index Name") == "job_pkey"]
    assert ["id = ANY" in node["Index Cond"] for node in by_id] == [True], "behind a pooler: what still runs"
    assert sorted(node["Node Type"] for node in on_job) == ["Index Scan"] * 3 + ["Tid Scan"]
    found, ahead = (node for node in on_job if node["Node Type"] == "Index Scan" and node not in by_id)
    assert (found["Index Name"], ahead["Index Name"]) == ("job_claim", "job_claim")
    for column in ("queue", "priority", "run_at", "ROW"):
        assert column in found["Index Cond"], "the range begins at the cursor and ends at what is due"
    for column in ("queue", "priority", "run_at"):
        assert column in ahead["Index Cond"], "the look ahead begins behind what is due"


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", ["claim_alone", "find_suspect"])
async def test_what_runs_alone_is_looked_for_in_an_index_that_plain_jobs_never_enter(
    situation: str, name: str, connection: Connection
) -> None:
    await bring_about(connection, situation)
    assert await connection.fetchval("SELECT pg_relation_size('rowlock.job_suspect')") <= 8192, (
        "the page of an empty one"
    )
    worker = ", '00000000-0000-0000-0000-000000000001', 1" if name == "claim_alone" else ""
    plan = await plan_of(connection, name, f"'{{default}}', '{{5}}', '{{noop}}', 2{worker}")
    on_job = [node for node in plan if node.get("Relation Name") == "job" and "Scan" in node["Node Type"]]
    assert [node["Node Type"] for node in on_job if "Index Name" not in node] == ["Tid Scan"] * (name == "claim_alone")
    [index_scan] = [node for node in on_job if "Index Name" in node]
    assert index_scan["Index Name"] == "job_suspect"
    for column in ("queue", "priority", "run_at"):
        assert column in index_scan["Index Cond"]
    assert "Sort" not in {node["Node Type"] for node in plan}, "the first row of the range is the one"


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_what_nobody_takes_is_looked_for_at_the_beginning_of_each_lane(
    situation: str, connection: Connection
) -> None:
    await bring_about(connection, situation)
    plan = await plan_of(connection, "doctor_unclaimed", "20, 1000")
    on_job = [node for node in plan if node.get("Relation Name") == "job"]
    assert {node.get("Index Name") for node in on_job} == {"job_claim"}
    (first, following, beginning) = sorted(on_job, key=lambda node: len(node.get("Index Cond", "")))
    assert "Index Cond" not in first, "the first lane is where the index begins"
    assert "ROW" in following["Index Cond"], "the next one is behind it"
    for column in ("queue", "priority", "run_at"):
        assert column in beginning["Index Cond"]
    assert "Sort" not in {node["Node Type"] for node in plan if node.get("Plans", [{}])[0] in on_job}


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize(
    "name, told",
    [
        ("succeed", "'{null}', '{0.1}'"),
        ("fail", "'{0.1}', '{failed}', '{error}', '{true}', '{E}', '{m}', '{t}'"),
        ("again", "'{0.1}', '{1s}', '{error}', '{true}', '{E}', '{m}', '{t}'"),
    ],
)
async def test_a_finish_finds_its_jobs_by_the_primary_key(
    situation: str, name: str, told: str, connection: Connection
) -> None:
    await bring_about(connection, situation)
    some = "'00000000-0000-0000-0000-000000000001', '{00000000-0000-0000-0000-000000000002}', '{1}'"
    plan = await plan_of(connection, name, f"{some}, {told}")
    on_job = [node for node in plan if node.get("Relation Name") == "job" and "Scan" in node["Node Type"]]
    assert [(node["Node Type"], node["Index Name"]) for node in on_job] == [("Index Scan", "job_pkey")]
    assert "id = ANY" in on_job[0]["Index Cond"]


@pytest.mark.parametrize(
    "name, told",
    [("succeed", "'{null}', '{0.1}'"), ("fail", "'{0.1}', '{failed}', '{error}', '{true}', '{E}', '{m}', '{t}'")],
)
async def test_a_finish_asks_once_whether_anybody_waits_and_nothing_more(
    name: str, told: str, connection: Connection
) -> None:
    some = "'00000000-0000-0000-0000-000000000001', '{00000000-0000-0000-0000-000000000002}', '{1}'"
    plan = await plan_of(connection, name, f"{some}, {told}")
    gate = next(node for node in plan if "One-Time Filter" in node)
    scans = [node for node in nodes(gate) if node.get("Relation Name") == "waiter"]
    assert len(scans) == 2, "the question, and behind it the search"
    ran = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE tried({some}, {told})"))
    loops = [node["Actual Loops"] for node in nodes(ran[0]["Plan"]) if node.get("Relation Name") == "waiter"]
    assert sorted(loops) == [0, 1], "nobody waits: there is no search"


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_the_rescue_reads_the_running_jobs_alone(situation: str, connection: Connection) -> None:
    await bring_about(connection, situation)
    plan = await plan_of(connection, "rescue", "3, 100, false")
    scanned = {node["Index Name"] for node in plan if node.get("Relation Name") == "job" and "Index Name" in node}
    assert scanned == {"job_pkey"}
    assert "Seq Scan" not in {node["Node Type"] for node in plan if node.get("Relation Name") == "job"}
    walked = [node for node in plan if node.get("Relation Name") == "job" and "Scan" in node["Node Type"]]
    assert all("Index Cond" in node for node in walked), "nothing walks all of an index"


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_cancels_are_looked_for_in_an_index_that_holds_nothing_else(
    situation: str, connection: Connection
) -> None:
    await bring_about(connection, situation)
    plan = await plan_of(connection, "list_cancel_requests", "'00000000-0000-0000-0000-000000000001'")
    assert [node.get("Index Name") for node in plan if node.get("Relation Name") == "job"] == ["job_cancel"]


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_a_cancel_finds_its_jobs_by_the_primary_key(situation: str, connection: Connection) -> None:
    await bring_about(connection, situation)
    plan = await plan_of(
        connection, "cancel", "'{00000000-0000-0000-0000-000000000002}', null, null, '{queued,running}'"
    )
    on_job = [node for node in plan if node.get("Relation Name") == "job" and "Scan" in node["Node Type"]]
    assert {node.get("Index Name") for node in on_job} == {"job_pkey"}


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_a_reschedule_finds_its_jobs_by_the_primary_key(situation: str, connection: Connection) -> None:
    await bring_about(connection, situation)
    some = "'{00000000-0000-0000-0000-000000000002}', null, '1 hour', 9, 'elsewhere', '{default}'"
    plan = await plan_of(connection, "reschedule", some)
    on_job = [node for node in plan if node.get("Relation Name") == "job" and "Scan" in node["Node Type"]]
    assert {node.get("Index Name") for node in on_job} == {"job_pkey"}


@pytest.mark.parametrize("name", ["list_finished", "find_finished"])
async def test_dead_letters_are_read_without_reading_what_succeeded(name: str, connection: Connection) -> None:
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args) "
        "SELECT rowlock.uuid7(), 'noop', CASE WHEN n % 1000 = 0 THEN 'failed' ELSE 'succeeded' END, 1, 0, now(), "
        "now(), now(), 10, 1, 5, 'default', '{}' FROM generate_series(1, 20000) n"
    )
    partition = await connection.fetchval("SELECT tableoid::regclass::text FROM rowlock.finished_job LIMIT 1")
    await connection.execute("ANALYZE rowlock.finished_job")
    nobody = "'00000000-0000-0000-0000-000000000000'"
    window = "'0002-01-01', 'infinity'"
    last = f"50, '2s', {nobody}, now(), {window}" if name == "find_finished" else f"50, '2s', true, {window}"
    await connection.execute(f"PREPARE tried AS {statement(name, 'rowlock')}")
    somebody = "'ffffffff-ffff-ffff-ffff-ffffffffffff'"
    filtered = f"'failed', null, null, {nobody}, {somebody}, null, null, null, null, false{', null' * 6}"
    parameters = f"{filtered}, {last}"
    for mode in ("force_custom_plan", "force_generic_plan"):
        await connection.execute(f"SET plan_cache_mode = {mode}")
        explained = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE tried({parameters})"))
        read = [node for node in nodes(explained[0]["Plan"]) if f"rowlock.{node.get('Relation Name')}" == partition]
        assert {node["Node Type"] for node in read} <= {"Index Scan", "Index Only Scan"}, mode
        assert all("state" in node["Index Cond"] for node in read), mode


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_a_look_reads_small_indexes_alone(situation: str, connection: Connection) -> None:
    await bring_about(connection, situation)
    plan = await plan_of(
        connection, "look", "'00000000-0000-0000-0000-000000000001', '{default}', '{noop}', '3 s', '{rescue}', '{}', 2"
    )
    on_job = [node for node in plan if node.get("Relation Name") == "job"]
    assert {node.get("Index Name") for node in on_job} == {"job_cancel", "job_suspect", "job_ends"}
    for node in on_job:
        assert "Index Cond" in node or node["Index Name"] != "job_ends"


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize(
    "name, given",
    [
        ("adopt", "'00000000-0000-0000-0000-000000000001', '{}'"),
        ("list_workers", "null"),
        ("list_running_of", "'00000000-0000-0000-0000-000000000001'"),
        ("count_running", "'default'"),
        ("list_longest", "10"),
        ("forget_workers", ""),
        ("audit_running", "1000, '5 minutes', 10"),
        ("audit_workers", "'5 minutes', 10"),
    ],
)
async def test_what_runs_is_found_by_the_primary_key(
    name: str, given: str, situation: str, connection: Connection
) -> None:
    await bring_about(connection, situation)
    plan = await plan_of(connection, name, given)
    on_job = [node for node in plan if node.get("Relation Name") == "job" and "Scan" in node["Node Type"]]
    assert {node.get("Index Name") for node in on_job} == {"job_pkey"}
    assert all("id = ANY" in node.get("Index Cond", "") for node in on_job)
