"""The acts of `rowlock jobs`, `dead-letters`, `unclaimed` and `rowlock operations`."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import asyncpg
import pytest

from rowlock import Rowlock
from tests.db.commands import assert_refused, rowlock, with_tasks

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_tasks(tmp_path)


async def enqueued(connection: Connection, count: int = 1, queue: str = "greetings") -> list[str]:
    return [
        str(await connection.fetchval("SELECT rowlock.enqueue('hello', '{\"name\": \"Ada\"}', queue => $1)", queue))
        for _ in range(count)
    ]


async def failed(connection: Connection, count: int = 1) -> list[str]:
    """Dead letters, as the worker leaves them."""
    rows = await connection.fetch(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args, error) "
        "SELECT rowlock.uuid7(), 'fail', 'failed', 1, 0, now(), now(), now(), 1, 1, 5, 'default', '{\"text\": \"x\"}', "
        "'ValueError: no good' FROM generate_series(1, $1) RETURNING id",
        count,
    )
    return sorted(str(row["id"]) for row in rows)


async def test_ids_are_cancelled_one_by_one_whatever_becomes_of_the_others(
    database_url: str, connection: Connection
) -> None:
    first, last = await enqueued(connection, 2)
    done = await rowlock("jobs", "cancel", first, str(uuid4()), last, "--reason", "enough", url=database_url)
    assert (done.code, done.out) == (1, f"{first} cancelled\n{last} cancelled\n")
    assert "There is no job" in done.err
    assert len(done.err.splitlines()) == 1, "what it did is on standard output alone"
    again = await rowlock("jobs", "cancel", first, url=database_url)
    assert_refused(again, "has cancelled already", code=1)
    listed = await rowlock("operations", "--json", url=database_url)
    told = json.loads(listed.out)
    assert {(one["verb"], one["target"]) for one in told} == {("cancel", first), ("cancel", last)}
    assert {(one["by"], one["source"]) for one in told} == {(getpass.getuser(), "cli")}
    shown = await rowlock("operations", "--target", first, url=database_url)
    assert f"job {first}" in shown.out
    assert '"reason":"enough"' in shown.out


async def test_a_filter_is_tried_dry_then_asked_for_then_done(database_url: str, connection: Connection) -> None:
    jobs = await enqueued(connection, 3)
    await enqueued(connection, queue="other")
    options = ("jobs", "cancel", "--queue", "greetings", "--newer-than", "1h", "--args-contain", '{"name": "Ada"}')
    dry = await rowlock(*options, "--dry-run", url=database_url)
    assert (dry.code, dry.out) == (0, "Would cancel 3 jobs\n" + "".join(f"  {job}\n" for job in sorted(jobs)))
    refused = await rowlock(*options, url=database_url, stdin="n\n")
    assert (refused.code, refused.out) == (1, "")
    assert "Cancel 3 jobs?" in refused.err
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 4
    done = await rowlock(*options, url=database_url, stdin="y\n")
    assert (done.code, done.out) == (0, "cancel: 3 jobs\n")
    nothing = await rowlock(*options, url=database_url)
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "No such jobs.\n")
    rest = await rowlock("jobs", "cancel", "--everything", "--yes", "--json", url=database_url)
    assert json.loads(rest.out)["count"] == 1


async def scheduled(connection: Connection, count: int = 1) -> list[str]:
    return [
        str(await connection.fetchval("SELECT rowlock.enqueue('hello', delay => '1 hour', deadline => now() + '9 h')"))
        for _ in range(count)
    ]


async def test_waiting_jobs_are_rescheduled_by_their_ids(database_url: str, connection: Connection) -> None:
    first, last = await scheduled(connection, 2)
    options = ("--delay", "2h", "--priority", "9", "--to-queue", "bulk")
    done = await rowlock("jobs", "reschedule", first, str(uuid4()), last, *options, url=database_url)
    assert (done.code, done.out) == (1, f"{first} scheduled\n{last} scheduled\n")
    assert "There is no job" in done.err
    rows = await connection.fetch("SELECT queue, priority, run_at > now() + interval '1.9 hours' FROM rowlock.job")
    assert [tuple(row) for row in rows] == [("bulk", 9, True)] * 2
    at = await rowlock("jobs", "reschedule", last, "--run-at", "2001-01-01T12:00", "--json", url=database_url)
    assert (at.code, json.loads(at.out)) == (0, {last: "queued"})
    now = await rowlock("jobs", "run-now", first, url=database_url)
    assert (now.code, now.out) == (0, f"{first} queued\n")
    late = await rowlock("jobs", "reschedule", first, "--delay", "20h", url=database_url)
    assert_refused(late, "delay must end before")
    told = json.loads((await rowlock("operations", "--target", first, "--json", url=database_url)).out)
    assert {(one["verb"], one["by"], one["source"]) for one in told} == {("reschedule", getpass.getuser(), "cli")}


async def test_all_that_a_filter_means_are_run_now_or_moved(database_url: str, connection: Connection) -> None:
    await scheduled(connection, 3)
    options = ("jobs", "run-now", "--task", "hello", "--state", "scheduled")
    dry = await rowlock(*options, "--dry-run", url=database_url)
    assert (dry.code, dry.out.splitlines()[0]) == (0, "Would run now 3 jobs")
    refused = await rowlock(*options, url=database_url, stdin="n\n")
    assert (refused.code, refused.out) == (1, "")
    assert "Run now 3 jobs?" in refused.err
    done = await rowlock(*options, "--yes", url=database_url)
    assert (done.code, done.out) == (0, "run now: 3 jobs\n")
    moving = ("jobs", "reschedule", "--queue", "default", "--to-queue", "bulk", "--yes")
    moved = await rowlock(*moving, "--json", url=database_url)
    assert json.loads(moved.out)["count"] == 3
    late = await rowlock("jobs", "reschedule", "--task", "hello", "--delay", "20h", "--yes", url=database_url)
    assert (
        late.out
        == "reschedule: 0 jobs\n3 others were skipped: they would be due after they expire or after their deadline.\n"
    )


async def test_finished_jobs_are_deleted_for_good_once_somebody_has_said_so(
    database_url: str, connection: Connection
) -> None:
    first, last, other = await failed(connection, 3)
    (waiting,) = await scheduled(connection)
    refused = await rowlock("jobs", "delete", first, last, url=database_url, stdin="n\n")
    assert (refused.code, refused.out) == (1, "")
    assert "Delete 2 jobs for good?" in refused.err
    nobody = await rowlock("jobs", "delete", first, url=database_url)
    assert (nobody.code, nobody.out) == (2, "")
    assert "use --yes" in nobody.err
    assert await connection.fetchval("SELECT count(*) FROM rowlock.finished_job") == 3
    done = await rowlock("jobs", "delete", first, url=database_url, stdin="y\n")
    assert (done.code, done.out) == (0, f"{first} deleted\n")
    done = await rowlock("jobs", "delete", last, waiting, "--yes", "--json", url=database_url)
    assert (done.code, json.loads(done.out)) == (1, {last: "deleted"})
    assert "Cancel it first" in done.err
    assert [str(row["id"]) for row in await connection.fetch("SELECT id FROM rowlock.finished_job")] == [other]
    assert_refused(await rowlock("jobs", "show", first, url=database_url), "There is no job", code=1)


async def test_dead_letters_are_listed_retried_and_discarded(
    database_url: str, connection: Connection, folder: Path
) -> None:
    jobs = await failed(connection, 3)
    found = json.loads((await rowlock("doctor", "--json", url=database_url)).out)["findings"]
    (dead,) = [finding for finding in found if finding["check"] == "dead letters"]
    assert (dead["status"], dead["detail"].partition(",")[0]) == ("warn", "3 jobs failed for good")
    groups = await rowlock("dead-letters", "groups", url=database_url)
    assert groups.out.splitlines()[1].split()[:2] == ["3", "fail"]
    assert json.loads((await rowlock("dead-letters", "groups", "--json", url=database_url)).out)[0]["jobs"] == 3
    others = await rowlock("dead-letters", "list", "--error-kind", "ValueError", "--json", url=database_url)
    assert json.loads(others.out) == []
    alike = await rowlock("dead-letters", "list", "--error-kind", "ValueError: no good", "--json", url=database_url)
    assert sorted(one["id"] for one in json.loads(alike.out)) == jobs
    refused = await rowlock(
        "jobs", "retry", jobs[0], "--args", '{"text": 7}', "--app", "tasks:app", url=database_url, cwd=folder
    )
    assert_refused(refused, "text")
    done = await rowlock("jobs", "retry", jobs[0], "--args", '{"text": "other"}', url=database_url)
    assert (done.code, done.out) == (0, f"{jobs[0]} queued\n")
    async with Rowlock(database_url) as app:
        assert (await app.get(jobs[0])).args == {"text": "other"}
    assert (await rowlock("jobs", "discard", jobs[1], url=database_url)).out == f"{jobs[1]} discarded\n"
    assert "discarded_at" in (await rowlock("jobs", "show", jobs[1], url=database_url)).out
    dead = await rowlock("dead-letters", "list", "--json", url=database_url)
    assert [job["id"] for job in json.loads(dead.out)] == [jobs[2]]
    again = await rowlock("jobs", "run-again", jobs[1], "--json", url=database_url)
    new = json.loads(again.out)[jobs[1]]
    assert new != jobs[1]
    assert await connection.fetchval("SELECT args FROM rowlock.jobs WHERE id = $1", new) is not None
    many = await rowlock("jobs", "retry", "--error", "no good", "--yes", url=database_url)
    assert (many.code, many.out) == (0, "retry: 1 job\n")
    assert (await rowlock("dead-letters", "list", url=database_url)).err == "No dead letters.\n"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("cancel",), "Jobs must be named"),
        (("cancel", str(uuid4()), "--queue", "a"), "not both"),
        (("cancel", "--older-than", "yesterday"), "90s, 15m, 2h or 7d"),
        (("cancel", "--state", "failed", "--yes"), "that of live jobs"),
        (("run-now",), "Jobs must be named"),
        (("run-now", "--state", "failed", "--yes"), "that of waiting jobs"),
        (("reschedule", str(uuid4())), "must change something"),
        (("reschedule", str(uuid4()), "--delay", "soon"), "90s, 15m, 2h or 7d"),
        (("reschedule", str(uuid4()), "--delay", "1h", "--run-at", "2031-01-01"), "must not both be given"),
        (("reschedule", str(uuid4()), "--priority", "10"), "; got 10"),
        (("delete",), "Missing argument"),
        (("retry", "--error", "x", "--args", "{}"), "with exactly one ID"),
        (("retry", "--args-contain", "[]", "--yes"), "JSON object"),
        (("discard", "--state", "queued", "--yes"), "state must be that of dead letters"),
    ],
)
async def test_what_makes_no_sense_is_refused_in_one_line(
    arguments: tuple[str, ...], said: str, database_url: str
) -> None:
    assert_refused(await rowlock("jobs", *arguments, url=database_url), said)


async def test_due_jobs_that_nobody_takes_are_listed_with_the_reason(database_url: str, connection: Connection) -> None:
    done = await rowlock("unclaimed", url=database_url)
    assert (done.code, done.out, done.err) == (0, "", "No unclaimed jobs.\n")
    await connection.execute(
        "INSERT INTO rowlock.task (name, queue, priority, max_attempts) VALUES ('newer', 'q', 5, 1)"
    )
    made = await rowlock("enqueue", "newer", "--args-version", "2", url=database_url)
    assert (made.code, made.err) == (0, "")
    assert await connection.fetchval("SELECT args_version FROM rowlock.job") == 2
    listed = await rowlock("unclaimed", url=database_url)
    assert listed.out.splitlines()[1].split()[:4] == ["1", "newer", "2", "q"]
    assert "no worker is alive" in listed.out
    (kind,) = json.loads((await rowlock("unclaimed", "--json", url=database_url)).out)
    assert (kind["task"], kind["args_version"], kind["jobs"], kind["why"]) == ("newer", 2, 1, "no_worker")
    doctor = await rowlock("doctor", "--json", url=database_url)
    findings = {finding["check"]: finding for finding in json.loads(doctor.out)["findings"]}
    assert "newer (version 2) in the queue q" in findings["unclaimed jobs"]["detail"]
    assert findings["unclaimed jobs"]["remedy"] == "Start a worker: rowlock worker tasks:app"
