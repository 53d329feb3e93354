"""The scenes of the demonstration, in their order. Each says what it does, does it, and checks what it saw."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from uuid import UUID

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from examples.article.tasks import (
    Sent,
    app,
    block_loop,
    call_partner,
    charge_card,
    confirm_order,
    count_one,
    measure_loop,
    send_email,
)
from examples.demo.stage import Stage
from rowlock import JobFailed, JobHandle

REPORT = {"value": "report_123", "duration": 8}
EMAIL = {"recipient": "ada@example.com", "subject": "Welcome", "body": "Good to have you here."}
WAIT = timedelta(seconds=30)
BURST = 5_000
FINISHED = "SELECT count(*) FROM rowlock.finished_job WHERE task = 'count_one'"


async def play(stage: Stage) -> None:
    """Play all scenes. The report of the first one keeps a thread busy while the second one measures."""
    report = await enqueue_over_http(stage)
    await measure_event_loop(stage, report)
    await commit_with_an_order(stage)
    await roll_back_with_an_order(stage)
    await refuse_a_duplicate(stage)
    await retry_until_it_works(stage)
    await end_as_a_dead_letter(stage)
    await burst(stage)


async def enqueue_over_http(stage: Stage) -> str:
    """Enqueue a long report and an e-mail; the e-mail does not wait for the report."""
    stage.scene("1. A report of 8 seconds and an e-mail, over HTTP")
    report = await stage.post_job("process_data", **REPORT)
    email = await stage.post_job("send_email", **EMAIL)
    sent = {"status": "sent", "recipient": EMAIL["recipient"], "subject": EMAIL["subject"]}
    stage.expect("result of send_email", ["succeeded", sent], await stage.get_result(email))
    return report


async def measure_event_loop(stage: Stage, report: str) -> None:
    """Measure the worker's event loop while a plain function blocks a thread, then a coroutine blocks it."""
    stage.scene("2. The event loop while the report blocks its thread (time.sleep)")
    handle = await measure_loop.enqueue(2.0)
    late = await handle.result(WAIT)
    stage.expect("state of the report meanwhile", "running", (await app.get(report)).state)
    in_thread = f"p99 {late['p99_ms']} ms, at most {late['max_ms']} ms late ({late['samples']} samples)"
    stage.expect_that("event loop, report in a thread", "below 500 ms", in_thread, is_met=late["max_ms"] < 500)

    stage.say("For comparison, the mistake: time.sleep(1) inside an async function of the same worker.")
    handle = await measure_loop.enqueue(2.0)
    await block_loop.using(delay=0.5).enqueue(1.0)
    late = await handle.result(WAIT)
    on_loop = f"p99 {late['p99_ms']} ms, at most {late['max_ms']} ms late ({late['samples']} samples)"
    stage.expect_that("event loop, blocked by a coroutine", "above 900 ms", on_loop, is_met=late["max_ms"] > 900)

    stage.say("Waiting for the report …")
    expected = ["succeeded", f"Processed {REPORT['value']} after {REPORT['duration']}s"]
    stage.expect("result of process_data", expected, await stage.get_result(report))


async def commit_with_an_order(stage: Stage) -> None:
    """Store an order and enqueue its confirmation in one transaction, and commit."""
    stage.scene("3. A job in the application's own transaction: committed")
    await stage.database.execute("CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY, customer text NOT NULL)")
    async with stage.database.transaction():
        order = await stage.database.fetchval("INSERT INTO orders (customer) VALUES ('ada') RETURNING id")
        handle = await confirm_order.using(connection=stage.database).enqueue(order)
    stage.expect("the order's job", f"order {order} confirmed", await handle.result(WAIT))


async def roll_back_with_an_order(stage: Stage) -> None:
    """Do the same, and roll back: neither the order nor the job exists."""
    stage.scene("4. The same, rolled back")
    transaction = stage.database.transaction()
    await transaction.start()
    order = await stage.database.fetchval("INSERT INTO orders (customer) VALUES ('bob') RETURNING id")
    handle = await confirm_order.using(connection=stage.database).enqueue(order)
    await transaction.rollback()
    orders = await stage.database.fetchval("SELECT count(*) FROM orders WHERE id = $1", order)
    jobs = await stage.database.fetchval("SELECT count(*) FROM rowlock.jobs WHERE id = $1", handle.id)
    stage.expect("orders and jobs after the rollback", [0, 0], [orders, jobs])


async def refuse_a_duplicate(stage: Stage) -> None:
    """Enqueue twice with the same key: there is one job."""
    stage.scene("5. A duplicate is refused by its unique key")
    once = send_email.using(unique="welcome:ada", delay=0.5)
    first = await once.enqueue(**EMAIL)
    second = await once.enqueue(**EMAIL)
    stage.expect("is_duplicate of both, same id", [False, True, True], _comparison(first, second))
    await first.result(WAIT)
    stored = await stage.database.fetchval(
        "SELECT count(*) FROM rowlock.jobs WHERE unique_key = 'send_email:welcome:ada'"
    )
    stage.expect("jobs with this key", 1, stored)


def _comparison(first: JobHandle[Sent], second: JobHandle[Sent]) -> list[bool]:
    return [first.is_duplicate, second.is_duplicate, first.id == second.id]


async def retry_until_it_works(stage: Stage) -> None:
    """Fail twice, with growing pauses, and succeed at the third attempt."""
    stage.scene("6. Two failures, then success")
    handle = await call_partner.enqueue(succeeds_at=3)
    stage.expect("result", "answered at attempt 3", await handle.result(WAIT))
    stage.expect("failed attempts kept for the audit", ["error", "error"], await _outcomes(stage, handle.id))


async def end_as_a_dead_letter(stage: Stage) -> None:
    """Use up all attempts: the job is kept as `failed`, with its errors."""
    stage.scene("7. A dead letter")
    handle = await charge_card.enqueue(order=7)
    try:
        await handle.result(WAIT)
        state, error = "succeeded", None
    except JobFailed as failure:
        state, error = failure.state, failure.error
    stage.expect("state", "failed", state)
    stage.expect("error", "PermissionError: the card of order 7 was declined", error)
    stage.expect("attempts", ["error", "error"], await _outcomes(stage, handle.id))


async def _outcomes(stage: Stage, job_id: UUID) -> list[str]:
    rows = await stage.database.fetch("SELECT outcome FROM rowlock.attempt WHERE job_id = $1 ORDER BY attempt", job_id)
    return [row["outcome"] for row in rows]


async def burst(stage: Stage) -> None:
    """Enqueue 5,000 jobs with one COPY and watch them finish, from the database."""
    stage.scene(f"8. A burst of {BURST:,} jobs")
    await app.enqueue_many([count_one.job(number) for number in range(BURST)])
    began = time.monotonic()
    columns = TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=stage.console) as progress:
        bar = progress.add_task("finished", total=BURST)
        async with asyncio.timeout(WAIT.total_seconds()):
            while not progress.finished:
                progress.update(bar, completed=await stage.database.fetchval(FINISHED))
                await asyncio.sleep(0.01)
    seconds = time.monotonic() - began
    stage.expect("jobs finished, and different results", [BURST, BURST], list(await _count_results(stage)))
    stage.say(
        f"{BURST / seconds:,.0f} jobs/s by one worker on this machine: {seconds:.2f} s from the commit until the "
        "database showed the last one as finished."
    )


async def _count_results(stage: Stage) -> tuple[int, int]:
    row = await stage.database.fetchrow(
        "SELECT count(*), count(DISTINCT result) FROM rowlock.jobs WHERE task = 'count_one' AND state = 'succeeded'"
    )
    return (0, 0) if row is None else (row[0], row[1])
