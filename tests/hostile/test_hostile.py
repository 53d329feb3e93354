"""Whatever somebody hands to a queue, it is refused in words, or read back as the same value; others go on."""

from __future__ import annotations

import contextlib
import json
import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from tests.hostile.corpus import EITHER, OPTIONS, REFUSED, ROWS, TAKEN
from tests.hostile.world import BY_POSTGRES, WRITERS, Refusal, World, read_everything, read_job

_TABLES: Final = sorted({name.split(".")[0].split()[0] for name in ROWS})


def same(given: str, read: object, writer: str) -> bool:
    """Whether a JSON text was read back as its value, a float as a float."""
    value = json.loads(given, parse_float=_as_jsonb_reads if writer == "sql" else float)
    return bool(value == read) and isinstance(value, float) == isinstance(read, float)


def _as_jsonb_reads(number: str) -> float:
    """From SQL, `jsonb` has read the text: to it, a number without a fraction is a whole one."""
    return float(number) if "." in format(Decimal(number), "f") else int(Decimal(number))


async def written(world: World, writer: str, text: str, folder: Path, **options: Any) -> Any:  # noqa: ANN401
    """The id of the job, or the refusal."""
    try:
        return await WRITERS[writer](world, text, options, folder)
    except Refusal as refusal:
        return refusal


@pytest.mark.slow
@pytest.mark.parametrize("writer", WRITERS)
async def test_a_value_is_read_back_as_it_was_written(writer: str, world: World, tmp_path: Path) -> None:
    most = 100_000 if writer == "command" else math.inf  # an argument of a program ends at 128 KiB
    values = {name: text for name, text in TAKEN.items() if len(text) < most}
    ids = {name: await written(world, writer, text, tmp_path) for name, text in values.items()}
    assert {name: told for name, told in ids.items() if isinstance(told, Refusal)} == {}
    await read_everything(world, "none")
    await world.app.worker().drain()
    for name, job_id in ids.items():
        job = await world.app.get(job_id)
        assert job.state == "succeeded", (name, job.error)
        assert same(values[name], job.args["value"], writer), name
        assert same(values[name], job.result, writer), name
        assert same(values[name], world.received[job_id], writer), name
        detail = json.loads(await world.get(f"/v1/jobs/{job_id}"))
        assert same(values[name], detail["args"]["value"], writer), name
        assert same(values[name], detail["result"], writer), name
    await read_everything(world, "finished_job" if writer == "task" else "none")


@pytest.mark.parametrize("writer", WRITERS)
async def test_a_value_that_cannot_be_kept_is_refused_in_words(writer: str, world: World, tmp_path: Path) -> None:
    told = {name: await written(world, writer, text, tmp_path) for name, text in REFUSED.items()}
    assert {name: one for name, one in told.items() if not isinstance(one, Refusal)} == {}
    assert await world.connection.fetchval("SELECT count(*) FROM rowlock.job") == 0


@pytest.mark.parametrize("writer", WRITERS)
async def test_whatever_is_taken_can_be_shown(writer: str, world: World, tmp_path: Path) -> None:
    ids = [await written(world, writer, text, tmp_path) for text in EITHER.values()]
    neighbour = await world.echo.enqueue("neighbour")
    await read_everything(world, "job")
    await world.app.worker().drain()
    assert (await world.app.get(neighbour.id)).state == "succeeded"
    for job_id in ids:
        if not isinstance(job_id, Refusal):
            await read_job(world, job_id)
    await read_everything(world, "finished_job")


@pytest.mark.parametrize("writer", WRITERS)
async def test_options_are_taken_or_refused_alike_by_every_writer(writer: str, world: World, tmp_path: Path) -> None:
    taken = {}
    for name, options in OPTIONS.items():
        told = await written(world, writer, "1", tmp_path, **options.given)
        if options.is_taken is not None:  # SQL takes a time before the year 1 as: now
            taken[name] = not isinstance(told, Refusal)
    assert taken == {name: options.is_taken for name, options in OPTIONS.items() if options.is_taken is not None}
    await read_everything(world, "job")
    await world.app.worker().drain()
    await read_everything(world, "finished_job")


_SAVED: Final = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'rowlock' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> 'alembic_version'
"""


async def save(world: World) -> list[str]:
    """Keep a copy of all tables."""
    tables = [row["relname"] for row in await world.connection.fetch(_SAVED)]
    await world.connection.execute(
        "CREATE SCHEMA saved;" + ";".join(f"CREATE TABLE saved.{table} AS TABLE rowlock.{table}" for table in tables)
    )
    return tables


async def restore(world: World, tables: list[str]) -> None:
    """Put them back."""
    order = sorted(tables, key=lambda table: table in {"schedule_tick", "api_session"})
    await world.connection.execute(
        f"TRUNCATE {', '.join(f'rowlock.{table}' for table in tables)};"
        + ";".join(f"INSERT INTO rowlock.{table} SELECT * FROM saved.{table}" for table in order)
    )


def rounds(table: str) -> list[dict[str, str]]:
    """The statements on the table, divided so that no two of a round write one column."""
    found: list[tuple[set[str], dict[str, str]]] = []
    for name, statement in ROWS.items():
        if name.split(".")[0].split()[0] != table:
            continue
        is_update = statement.startswith(f"UPDATE rowlock.{table} SET ")
        columns = set(re.findall(r"\b(\w+) = ", statement.partition(" WHERE ")[0])) if is_update else {"all"}
        for taken, round_ in found:
            if "all" not in taken | columns and not taken & columns:
                taken.update(columns)
                round_[name] = statement
                break
        else:
            found.append((columns, {name: statement}))
    return [round_ for _, round_ in found]


@pytest.mark.slow
@pytest.mark.parametrize("table", _TABLES)
async def test_a_row_made_by_hand_is_refused_or_takes_nothing_else_with_it(table: str, full: World) -> None:
    tables = await save(full)
    wrong: dict[str, str] = {}
    for statements in rounds(table):
        taken = []
        for name, statement in statements.items():
            with contextlib.suppress(*BY_POSTGRES, asyncpg.SyntaxOrAccessError):
                await full.connection.execute(statement)
                taken.append(name)
        if not taken:
            continue
        try:
            await read_everything(full, table)
            neighbour = await full.echo.enqueue("neighbour")
            await full.app.worker().drain()
            job = await full.app.get(neighbour.id)
            assert (job.state, job.result) == ("succeeded", "neighbour")
        except Exception as error:  # noqa: BLE001  # all of them are told at once
            wrong[", ".join(taken)] = f"{type(error).__name__}: {error}"[:500]
        await restore(full, tables)
    assert wrong == {}


def test_the_corpus_has_what_python_reads_in_its_own_way() -> None:
    assert math.isinf(json.loads(EITHER["beyond the largest double"]))
