"""The commands that come to an end by themselves: migrations, jobs, and how each says what went wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import asyncpg
import click
import pytest

from rowlock import Job, Rowlock
from rowlock.cli.root import root
from rowlock.schema import REVISION
from tests.conftest import Server
from tests.db.commands import ROWLOCK, SECONDS, assert_refused, rowlock, with_tasks

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an application, to start commands in."""
    return with_tasks(tmp_path)


async def revision(url: str) -> str | None:
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("SELECT to_regclass('rowlock.rowlock_version')") is None:
            return None
        found: str | None = await connection.fetchval("SELECT version_num FROM rowlock.rowlock_version")
        return found
    finally:
        await connection.close()


async def test_migrate_creates_the_schema_once(empty_database_url: str) -> None:
    first = await rowlock("migrate", url=empty_database_url)
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith(f"The schema rowlock was migrated to revision {REVISION}")
    second = await rowlock("migrate", url=empty_database_url)
    assert (second.code, second.err) == (0, "")
    assert second.out == f"The schema rowlock is at revision {REVISION} already: nothing to do.\n"


async def test_a_role_that_may_make_no_schema_is_told_two_remedies_that_work(
    empty_database_url: str, empty_database: str, server: Server
) -> None:
    role = f"owner-{empty_database}"
    administrator = await asyncpg.connect(server.url(empty_database))
    await administrator.execute(f'CREATE ROLE "{role}" LOGIN')
    url = empty_database_url.replace("postgres@", f"{role}@", 1)
    try:
        for place in (0, 1):
            refused = await rowlock("migrate", url=url)
            assert_refused(refused, f"permission denied for database {empty_database}")
            remedies = re.findall(r"(?:GRANT|CREATE) [^;]+;", refused.err)
            await administrator.execute(remedies[place])
            assert (await rowlock("migrate", url=url)).code == 0
            await administrator.execute(
                f'DROP SCHEMA rowlock CASCADE; REVOKE CREATE ON DATABASE "{empty_database}" FROM "{role}"'
            )
    finally:
        await administrator.execute(f'DROP OWNED BY "{role}" CASCADE; DROP ROLE "{role}"')
        await administrator.close()


async def test_a_role_that_owns_the_schema_migrates_and_works_without_rights_on_the_database(
    empty_database_url: str, empty_database: str, server: Server
) -> None:
    role = f"owner_{empty_database}"
    administrator = await asyncpg.connect(server.url(empty_database))
    await administrator.execute(f"CREATE ROLE {role} LOGIN; CREATE SCHEMA rowlock AUTHORIZATION {role}")
    url = empty_database_url.replace("postgres@", f"{role}@", 1)
    try:
        first = await rowlock("migrate", url=url)
        assert (first.code, first.err) == (0, "")
        second = await rowlock("migrate", url=url)
        assert (second.code, "nothing to do" in second.out) == (0, True)
        printed = await rowlock("migrate", "--sql", url=url)
        owner = await asyncpg.connect(server.url(empty_database).replace("postgres@", f"{role}@", 1))
        await owner.execute(printed.out.partition("CREATE TABLE")[0] + "COMMIT")  # makes no schema that is there
        assert (await rowlock("jobs", "list", url=url)).code == 0
        await owner.close()
    finally:
        await administrator.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
        await administrator.close()


async def test_a_schema_that_an_application_s_alembic_uses_too_has_two_version_tables(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute("CREATE TABLE alembic_version (version_num text)")
        await connection.execute("INSERT INTO alembic_version VALUES ('0001')")
        done = await rowlock("migrate", url=empty_database_url, ROWLOCK_SCHEMA="public")
        assert done.out.startswith(f"The schema public was migrated to revision {REVISION}")
        assert await connection.fetchval("SELECT count(*) FROM public.jobs") == 0
        down = await rowlock("migrate", "--down", "base", "--yes", url=empty_database_url, ROWLOCK_SCHEMA="public")
        assert (down.code, down.err) == (0, "")
        assert [row[0] for row in await connection.fetch("SELECT version_num FROM alembic_version")] == ["0001"]
    finally:
        await connection.close()


async def test_of_two_migrations_at_once_one_finds_nothing_to_do(empty_database_url: str) -> None:
    done = await asyncio.gather(*(rowlock("migrate", url=empty_database_url) for _ in range(2)))
    assert [one.code for one in done] == [0, 0]
    assert sorted("nothing to do" in one.out for one in done) == [False, True]


async def test_printed_sql_makes_the_same_schema(empty_database_url: str, folder: Path) -> None:
    done = await rowlock("migrate", "--sql", url="postgresql://nobody@127.0.0.1:1/unused")
    assert (done.code, done.err) == (0, "")
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(done.out)
    await connection.close()
    again = await rowlock("migrate", url=empty_database_url)
    assert "nothing to do" in again.out
    enqueued = await rowlock(
        "enqueue", "hello", '{"name": "Ada"}', "--app=tasks:app", url=empty_database_url, cwd=folder
    )
    assert enqueued.code == 0


async def test_everything_is_removed_only_after_a_yes(database_url: str) -> None:
    asked = await rowlock("migrate", "--down", "base", url=database_url, stdin="n\n")
    assert asked.code == 1
    assert "all jobs" in asked.err
    assert "Nothing was removed" in asked.err
    unasked = await rowlock("migrate", "--down", "base", url=database_url)
    assert (unasked.code, "--yes" in unasked.err) == (2, True), "nobody there to answer"
    assert await revision(database_url) == REVISION
    done = await rowlock("migrate", "--down", "base", "--yes", url=database_url)
    assert (done.code, done.err) == (0, "")
    assert await revision(database_url) is None
    again = await rowlock("migrate", "--down", "base", "--yes", url=database_url)
    assert (again.code, "nothing to do" in again.out) == (0, True)
    assert (await rowlock("migrate", url=database_url)).code == 0
    assert await revision(database_url) == REVISION


ID = "0" * 32
CHANGING = (
    *("migrate", "migrate --down base --yes", "worker tasks:app", "api tasks:app --port 0", "dev tasks:app --port 0"),
    *(f"jobs cancel {ID}", "jobs cancel --everything --yes", f"jobs delete {ID} --yes", f"jobs discard {ID}"),
    *(f"jobs retry {ID}", f"jobs run-again {ID}", f"jobs run-now {ID}", f"jobs reschedule {ID} --priority 1"),
    *("queues pause mail", "queues resume mail", "queues drain mail", "queues scale mail 1"),
    *(f"workers scale {ID} 1", "workers quiet --all", "workers resume --all", "workers stop --all --yes"),
    *("schedules create nightly hello @daily", "schedules edit nightly --cron @daily", "schedules pause nightly"),
    *("schedules resume nightly", "schedules run nightly", "schedules delete nightly", "schedules prune"),
    *("retention keep mail --failed 1d", "keys create shop --scope read", "keys revoke shop"),
)
GOING_ON = (
    *("enqueue", "enqueue-many", "top", "stats", "jobs list", "jobs show", "jobs logs", "jobs watch", "jobs result"),
    *("dead-letters list", "dead-letters groups", "unclaimed", "queues list", "queues show", "workers list"),
    *("workers show", "tasks list", "limits", "schedules list", "schedules show", "retention show", "operations"),
    *("keys list", "doctor", "audit", "torture"),
)
"""What only looks, enqueues as applications do, or has a server of its own."""


def leaves(group: click.Group, *before: str) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, *before, name)
        else:
            yield " ".join((*before, name))


def test_each_command_either_changes_something_or_goes_on_with_any_schema() -> None:
    changing = {name for name in leaves(root) if any(f"{one} ".startswith(f"{name} ") for one in CHANGING)}
    assert changing.isdisjoint(GOING_ON)
    assert changing | set(GOING_ON) == set(leaves(root))


@pytest.mark.parametrize("arguments", CHANGING)
async def test_schema_of_a_newer_release_is_refused(
    arguments: str, database_url: str, connection: Connection, folder: Path
) -> None:
    await connection.execute("UPDATE rowlock.rowlock_version SET version_num = '9999'")
    assert_refused(await rowlock(*arguments.split(), url=database_url, cwd=folder), "pip install --upgrade rowlock")
    assert await revision(database_url) == "9999"


@pytest.mark.parametrize(
    "arguments", ['enqueue hello {"name":"Ada"} --app tasks:app', "jobs list", "queues list", "keys list", "stats"]
)
async def test_on_the_schema_of_a_newer_release_one_looks_and_enqueues(
    arguments: str, database_url: str, connection: Connection, folder: Path
) -> None:
    await connection.execute("UPDATE rowlock.rowlock_version SET version_num = '9999'")
    assert (await rowlock(*arguments.split(), url=database_url, cwd=folder)).code == 0


@pytest.mark.parametrize(
    "arguments", ["worker tasks:app", "api --port 0", "enqueue hello", "jobs list", f"jobs show {'0' * 32}"]
)
async def test_missing_schema_names_the_command_that_makes_it(
    arguments: str, empty_database_url: str, folder: Path
) -> None:
    assert_refused(await rowlock(*arguments.split(), url=empty_database_url, cwd=folder), "Run: rowlock migrate")


@pytest.mark.parametrize("arguments", ["migrate", "worker tasks:app", "api --port 0", "enqueue hello", "jobs list"])
@pytest.mark.parametrize(
    "url, said",
    [
        ("postgresql://ada:secret@127.0.0.1:1/app", "ConnectionRefused"),
        ("postgresql://ada:secret@host.invalid/app", "gaierror"),
        ("postgresql://ada:secret@127.0.0.1:port/app", "cannot be read"),
        ("postgresql://ada:secret@127.0.0.1/app?sslmode=secret", "sslmode"),
        ("secret", "must begin with postgresql://"),
    ],
    ids=["closed port", "unknown host", "no port", "wrong option", "garbage"],
)
async def test_server_that_cannot_be_reached_is_explained(arguments: str, url: str, said: str, folder: Path) -> None:
    done = await rowlock(*arguments.split(), url=url, cwd=folder)
    assert_refused(done, said)
    assert ":secret@" not in done.err


@pytest.mark.parametrize("arguments", ["migrate", "jobs list"])
async def test_missing_database_is_named(arguments: str, database_url: str) -> None:
    url = re.sub(r"/test_\d+", "/not_there", database_url)
    assert_refused(await rowlock(*arguments.split(), url=url), 'database "not_there" does not exist')


async def test_enqueued_job_is_listed_and_shown(database_url: str, folder: Path) -> None:
    at = {"url": database_url, "cwd": folder}
    enqueued = await rowlock("enqueue", "fail", '{"text": "[red]no"}', "--app=tasks:app", "--priority=9", **at)  # type: ignore[arg-type]
    assert (enqueued.code, enqueued.err) == (0, "")
    job = enqueued.out.strip()
    later = await rowlock("enqueue", "fail", "-", "--app=tasks:app", "--delay=60", stdin='{"text": ""}', **at)  # type: ignore[arg-type]
    assert later.code == 0
    listed = await rowlock("jobs", "list", "--state", "queued", "--json", url=database_url)
    assert [(one["id"], one["priority"]) for one in json.loads(listed.out)] == [(job, 9)]
    both = json.loads((await rowlock("jobs", "list", "--task", "fail", "--json", url=database_url)).out)
    assert [one["id"] for one in both] == [later.out.strip(), job]
    assert both[0]["state"] == "scheduled"
    page = await rowlock("jobs", "list", "--before", both[0]["id"], url=database_url)
    assert page.out.splitlines()[1].split()[:3] == [job, "queued", "fail"]
    shown = await rowlock("jobs", "show", job, url=database_url)
    assert '"text": "[red]no"' in shown.out, "data is no markup"


async def test_a_job_is_found_by_the_metadata_that_it_was_enqueued_with(database_url: str, folder: Path) -> None:
    words = ("--metadata", "customer=42", "--metadata", "query=a=b, c")
    enqueued = await rowlock(
        "enqueue", "hello", '{"name": "Ada"}', "--app=tasks:app", *words, url=database_url, cwd=folder
    )
    assert (enqueued.code, enqueued.err) == (0, "")
    job = enqueued.out.strip()
    assert "customer=42, query=a=b, c" in " ".join((await rowlock("jobs", "show", job, url=database_url)).out.split())
    listed = json.loads((await rowlock("jobs", "list", *words, "--json", url=database_url)).out)
    assert [(one["id"], one["metadata"]) for one in listed] == [(job, {"customer": "42", "query": "a=b, c"})]
    other = await rowlock("jobs", "list", "--metadata", "customer=43", "--json", url=database_url)
    assert json.loads(other.out) == []
    done = await rowlock("jobs", "cancel", "--metadata", "customer=42", "--yes", url=database_url)
    assert (done.code, done.out) == (0, "cancel: 1 job\n")
    for wrong in (("customer",), ("=42",), ("a=1", "--metadata", "a=2")):
        assert_refused(
            await rowlock("jobs", "list", "--metadata", *wrong, url=database_url),
            "metadata must have" if wrong[0] != "customer" else "metadata must be",
        )


async def test_progress_and_log_lines_of_a_job_are_shown(database_url: str) -> None:
    async with Rowlock(database_url) as app:

        @app.task(capture_logs=True)
        async def resize(job: Job) -> None:
            await job.progress(0.4, "[red]resizing")
            logging.getLogger("shop").warning("picture \x1b[31m%d", 7)

        @app.task
        async def silent() -> None: ...

        handle, other = await resize.enqueue(), await silent.enqueue()
        await app.worker().drain()
    shown = await rowlock("jobs", "show", str(handle.id), url=database_url)
    assert "40% [red]resizing (attempt 1, " in shown.out
    lines = await rowlock("jobs", "logs", str(handle.id), url=database_url)
    assert (lines.code, lines.out.count("\n")) == (0, 1)
    assert lines.out.startswith("1  ")
    assert lines.out.endswith("warning  picture \\x1b[31m7\n")
    told = json.loads((await rowlock("jobs", "logs", "--json", str(handle.id), url=database_url)).out)
    assert (told["id"], [line["logger"] for line in told["lines"]]) == (str(handle.id), ["shop"])
    none = await rowlock("jobs", "logs", str(other.id), url=database_url)
    assert (none.code, none.out) == (0, "")
    assert "no capture_logs" in none.err


async def test_unique_key_is_held_by_the_first_job(database_url: str, folder: Path) -> None:
    command = ("enqueue", "hello", '{"name": "Ada"}', "--app=tasks:app", "--unique=welcome:1")
    first = await rowlock(*command, url=database_url, cwd=folder)
    second = await rowlock(*command, url=database_url, cwd=folder)
    assert (second.code, second.out) == (0, first.out)
    assert '"welcome:1"' in second.err
    third = await rowlock(*command, "--json", url=database_url, cwd=folder)
    assert json.loads(third.out) == {"id": first.out.strip(), "task": "hello", "is_duplicate": True}


async def test_rules_of_uniqueness_are_options(database_url: str, folder: Path) -> None:
    command = ("enqueue", "hello", '{"name": "Ada"}', "--app=tasks:app", "--unique-by=name")
    first = await rowlock(*command, "--unique-until=start", "--delay=60", url=database_url, cwd=folder)
    second = await rowlock(*command, "--on-duplicate=replace", url=database_url, cwd=folder)
    assert (second.code, second.out) == (0, first.out)
    assert "made of its arguments" in second.err
    shown = json.loads((await rowlock("jobs", "show", first.out.strip(), "--json", url=database_url)).out)
    assert shown["state"] == "queued", "and no longer scheduled"
    assert_refused(
        await rowlock(*command, "--on-duplicate=raise", url=database_url, cwd=folder), first.out.strip(), code=1
    )


async def test_jobs_of_a_file_are_enqueued_all_or_none(database_url: str, connection: Connection, folder: Path) -> None:
    at = {"url": database_url, "cwd": folder}
    good = '{"task": "hello", "args": {"name": "Ada"}, "priority": 9}'
    lines = await rowlock("enqueue-many", "--app=tasks:app", stdin=f"{good}\n\n{good}\n", **at)  # type: ignore[arg-type]
    assert (lines.code, lines.err, len(lines.out.split())) == (0, "", 2)
    (folder / "jobs.json").write_text(
        f'[{good}, {{"task": "fail", "args": {{"text": "x"}}, "unique": "k", "delay": 60}}]'
    )
    array = await rowlock("enqueue-many", "jobs.json", "--app=tasks:app", "--json", **at)  # type: ignore[arg-type]
    assert [job["task"] for job in json.loads(array.out)] == ["hello", "fail"]
    again = await rowlock("enqueue-many", "jobs.json", "--app=tasks:app", **at)  # type: ignore[arg-type]
    assert "1 of them are not new" in again.err
    count = await connection.fetchval("SELECT count(*) FROM rowlock.job")
    for bad, said in (
        (f'{good}\n{{"task": "hello"}}', "Job 2 is invalid, so no job was enqueued"),
        (f'{good}\n{{"task": "hello", "arg": 1}}', "Job 2 must be"),
        ("[1", "must be an array"),
        ("{", "Job 1 must be"),
        (" ", "at least one job"),
    ):
        assert_refused(await rowlock("enqueue-many", "--app=tasks:app", stdin=bad, **at), said)  # type: ignore[arg-type]
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == count


async def test_task_that_nobody_registered_is_refused(database_url: str) -> None:
    unknown = await rowlock("enqueue", "hello", url=database_url)
    assert_refused(unknown, '"hello" is not known')
    assert "--app" in unknown.err


@pytest.mark.parametrize(
    "arguments, said",
    [
        (['{"nam": "Ada"}'], "nam"),
        (['{"name": 1}'], "name"),
        (['{"name": "\\u0000"}'], "NUL"),
        (['{"name": "Ada"}', "--priority", "10"], "; got 10"),
        (['{"name": "Ada"}', "--delay", "-1"], "; got -1"),
        (['{"name": "Ada"}', "--delay", "1", "--run-at", "2030-01-01T00:00:00Z"], "both"),
        (['{"name": "Ada"}', "--max-attempts", "0"], "; got 0"),
        (['{"name": "Ada"}', "--timeout", "0"], "; got 0"),
        (['{"name": "Ada"}', "--queue", "a b"], '; got "a b"'),
        (['{"name": "Ada"}', "--unique", ""], "unique"),
        (['{"name": "Ada"}', "--metadata", "customer"], "metadata must be"),
        (['{"name": "Ada"}', "--metadata", "a b=c"], "metadata must have"),
    ],
)
async def test_job_that_makes_no_sense_is_refused(
    arguments: list[str], said: str, database_url: str, connection: Connection, folder: Path
) -> None:
    done = await rowlock("enqueue", "--app", "tasks:app", "hello", *arguments, url=database_url, cwd=folder)
    assert_refused(done, said)
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 0


@pytest.mark.parametrize("job", ["nonsense", "0198a5a0-0000-7000-8000-000000000000"])
async def test_unknown_job_is_exit_code_1(job: str, database_url: str) -> None:
    assert_refused(await rowlock("jobs", "show", job, url=database_url), job, code=1)


@pytest.mark.parametrize("arguments", ["retention show", "jobs list --json", "--help"])
async def test_command_whose_reader_has_gone_ends_as_others_do(arguments: str, database_url: str) -> None:
    read, write = os.pipe()
    os.close(read)
    process = await asyncio.create_subprocess_exec(
        ROWLOCK,
        *arguments.split(),
        stdout=write,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"ROWLOCK_DATABASE_URL": database_url},
    )
    os.close(write)
    _, said = await asyncio.wait_for(process.communicate(), SECONDS)
    assert (process.returncode, said) == (141, b"")


async def test_controls_of_direction_are_shown_and_not_obeyed(database_url: str) -> None:
    turned = "invoice\u202efdp.exe\u2066\u061c"
    async with Rowlock(database_url) as app:

        @app.task
        async def send(name: str) -> str:
            return name

        job = await send.using(tags=[turned]).enqueue(turned)
        await app.worker().drain()
    for command in (
        "list",
        "list --json",
        "show ID",
        "show ID --json",
        "result ID",
        "result ID --json",
        "watch ID --json",
    ):
        done = await rowlock("jobs", *command.replace("ID", str(job.id)).split(), url=database_url)
        assert done.code == 0, done.err
        assert not set(done.out) & set("\u202e\u2066\u061c"), command
    document = json.loads((await rowlock("jobs", "result", str(job.id), "--json", url=database_url)).out)
    assert document["result"] == turned
