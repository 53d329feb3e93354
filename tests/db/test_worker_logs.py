"""What `rowlock worker` logs of its handlers: each line once, in one form, with its attempt."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.db.commands import SECONDS, line_with, rowlock, started, stopped

TALKATIVE = """
import logging
import structlog
from rowlock import Rowlock

app = Rowlock()

@app.task(capture_logs=True)
async def speak() -> None:
    logging.getLogger("shop").warning("plain %s", "text")
    structlog.get_logger("shop").info("bought", amount=3)
"""


async def test_captured_lines_stand_once_in_the_log_of_the_worker_and_with_the_attempt(
    database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(TALKATIVE)
    async with started("worker", "shop:app", url=database_url, cwd=tmp_path) as worker:
        await line_with(worker.stderr, "worker_started")
        job_id = (await rowlock("enqueue", "speak", url=database_url)).out.strip()
        plain = json.loads(await line_with(worker.stderr, "plain"))
        structured = json.loads(await line_with(worker.stderr, "bought"))
        assert await stopped(worker) == 0
    assert (plain["event"], plain["level"], plain["job_id"], plain["attempt"]) == ("plain text", "warning", job_id, 1)
    assert (structured["event"], structured["amount"], structured["job_id"]) == ("bought", 3, job_id)
    kept = json.loads((await rowlock("jobs", "logs", job_id, "--json", url=database_url)).out)
    assert [line["text"] for line in kept["lines"]] == ["plain text", "bought amount=3"]


APPLICATION = """
import asyncio
import logging.config
import sys

from rowlock import Rowlock

if sys.argv[1:] == ["configured"]:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"job": {"()": "rowlock.logs.JobContextFilter"}},
            "formatters": {"plain": {"format": "%(levelname)s|%(name)s|%(job_id)s|%(task)s|%(message)s"}},
            "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "plain", "filters": ["job"]}},
            "root": {"level": "INFO", "handlers": ["out"]},
        }
    )

app = Rowlock()


def backoff(attempt: int, error: BaseException) -> float:
    card = "4242-4242"
    raise LookupError("no backoff")


@app.task(max_attempts=2, backoff=backoff)
async def charge(card: str) -> None:
    logging.getLogger("shop").info("about to charge")
    raise ValueError("declined")


@charge.on_failure
async def tell(job, error):
    card = job.args["card"]
    raise RuntimeError("nobody is there")


async def main() -> None:
    handle = await charge.enqueue("4242-4242")
    print(handle.id, flush=True)
    worker = app.worker()
    async with worker:
        try:
            await handle.result(timeout=60)
        except Exception:
            pass
    await app.close()


asyncio.run(main())
"""


async def run_application(folder: Path, url: str, *arguments: str) -> tuple[str, str]:
    """The id of the job that the application above runs, and what it logged."""
    (folder / "main.py").write_text(APPLICATION)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "main.py", *arguments),
        cwd=folder,
        env=os.environ | {"ROWLOCK_DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    assert process.returncode == 0, err.decode()
    return out.decode().strip(), err.decode()


async def test_an_embedded_worker_logs_by_the_application_s_own_set_up(database_url: str, tmp_path: Path) -> None:
    job_id, said = await run_application(tmp_path, database_url, "configured")
    assert f"INFO|shop|{job_id}|charge|about to charge\n" in said
    assert f"WARNING|rowlock.worker|{job_id}|charge|attempt_failed " in said
    assert "retry_in=" in said.partition("|attempt_failed ")[2].splitlines()[0]
    assert f"ERROR|rowlock.worker|{job_id}|charge|job_failed " in said
    assert "INFO|rowlock.worker|None|None|worker_started " in said
    failed = said.partition("|job_failed ")[2]
    assert "detail=declined" in failed.splitlines()[0]
    assert "ValueError: declined\n" in failed


async def test_tracebacks_show_no_arguments_where_nothing_is_set_up(database_url: str, tmp_path: Path) -> None:
    _, said = await run_application(tmp_path, database_url)
    assert "LookupError: no backoff" in said
    assert "RuntimeError: nobody is there" in said
    assert "ValueError: declined" in said
    assert "4242-4242" not in said
