"""An invented shop whose queue has a day behind it and is busy now: what the screenshots show."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import asyncpg

from rowlock import Job, Rowlock, Schedule, Settings
from tests.waiting import eventually

log = logging.getLogger("shop.images")

WORKERS: Final = {"worker-a.shop": ["*"], "worker-b.shop": ["*"], "reports-1.shop": ["reports", "images"]}

_HISTORY: Final = {  # jobs a day, seconds each, share that fails: by queue and task
    ("email", "send_receipt"): (5200, 0.4, 0.004),
    ("email", "send_newsletter"): (2600, 0.6, 0.002),
    ("orders", "confirm_order"): (4800, 0.12, 0.001),
    ("orders", "charge_card"): (4700, 0.9, 0.02),
    ("webhooks", "call_partner"): (3900, 0.7, 0.03),
    ("images", "resize_image"): (2100, 2.4, 0.003),
    ("reports", "build_report"): (160, 21.0, 0.01),
    ("default", "clean_up_carts"): (288, 1.8, 0.0),
}
_TRACEBACK: Final = """Traceback (most recent call last):
  File "/srv/shop/tasks.py", line 84, in charge_card
    receipt = await payments.charge(order, amount=order.total, currency="EUR")
  File "/srv/shop/payments.py", line 41, in charge
    raise CardDeclined(answer["reason"])
shop.payments.CardDeclined: insufficient funds
"""


class CardDeclined(Exception):
    """The bank said no."""

    __module__ = "shop.payments"


def make_app(database_url: str) -> Rowlock:  # noqa: C901  # nine tasks
    """The shop's tasks and schedules."""
    app = Rowlock(settings=Settings(database_url=database_url))

    @app.task(queue="email", max_attempts=5)
    async def send_receipt(recipient: str, order: int) -> dict[str, object]:
        await asyncio.sleep(random.uniform(0.05, 0.3))
        return {"status": "sent", "recipient": recipient, "order": order}

    @app.task(queue="email")
    async def send_newsletter(recipient: str, issue: int) -> None:
        await asyncio.sleep(random.uniform(0.05, 0.4))

    @app.task(queue="orders", priority=8)
    async def confirm_order(order: int) -> str:
        await asyncio.sleep(random.uniform(0.02, 0.1))
        return f"order {order} confirmed"

    @app.task(queue="orders", max_attempts=3, backoff=0.05)
    async def charge_card(order: int, amount: float) -> str:
        await asyncio.sleep(random.uniform(0.01, 0.05))
        raise CardDeclined("insufficient funds" if order % 3 else "the card has expired")

    @app.task(queue="webhooks", max_attempts=8, backoff=600)
    async def call_partner(partner: str, event: str) -> None:
        raise ConnectionError(f"{partner}: connection refused")

    @app.task(queue="images", capture_logs=True, timeout=600)
    async def resize_image(job: Job, image: str, widths: list[int]) -> None:
        for number, width in enumerate(widths, start=1):
            log.info("%s: wrote %d pixels", image, width)
            await job.progress(number / (len(widths) + 1), f"{width} pixels wide")
        await asyncio.sleep(600)

    @app.task(queue="images", capture_logs=True)
    async def check_image(job: Job, image: str) -> dict[str, int]:
        log.info("%s: read 4.2 MB", image)
        log.warning("%s: the colour profile is missing, sRGB is assumed", image)
        await job.progress(1, "checked")
        return {"width": 4032, "height": 3024}

    daily = Schedule("0 6 * * *", timezone="Europe/Berlin", name="daily-report", args={"kind": "daily"})
    monthly = Schedule("30 2 1 * *", name="monthly-report", args={"kind": "monthly"}, overlap="skip")

    @app.task(queue="reports", schedule=[daily, monthly])
    async def build_report(job: Job, kind: str) -> None:
        await job.progress(0.62, "joining 18 of 29 tables")
        await asyncio.sleep(600)

    @app.task(schedule=Schedule("*/5 * * * *", jitter=20))
    async def clean_up_carts() -> int:
        return random.randrange(40)

    return app


@asynccontextmanager
async def busy_shop(app: Rowlock) -> AsyncIterator[None]:
    """The shop, busy, with its past written down, for as long as the block lasts."""
    connection = await asyncpg.connect(app.settings.database_url)
    await _write_history(connection)
    async with AsyncExitStack() as stack:
        stack.callback(connection.terminate)
        for name, queues in WORKERS.items():
            await stack.enter_async_context(app.worker(queues=queues, concurrency=8))
            await connection.execute(
                "UPDATE rowlock.worker SET hostname = $1, loop_delay_ms = 2 + floor(random() * 6)"
                " WHERE id = (SELECT id FROM rowlock.worker ORDER BY id DESC LIMIT 1)",
                name,
            )
        await _be_busy(app, connection)
        customers = asyncio.create_task(_buy(app))
        await _wait_until_counted(connection)
        yield
        customers.cancel()
        with suppress(asyncio.CancelledError):
            await customers


async def _write_history(connection: asyncpg.Connection) -> None:
    """A day of finished jobs, with a wave of them by daytime and a bad quarter of an hour, and what was said of it."""
    for table in ("finished_job", "attempt"):
        for days in (1, 0):
            await connection.execute(
                "SELECT rowlock.create_partition($1, (clock_timestamp() AT TIME ZONE 'UTC')::date - $2::integer)",
                *(table, days),
            )
    for (queue, task), (jobs, seconds, failing) in _HISTORY.items():
        await connection.execute(
            """
            WITH moment AS (
                SELECT clock_timestamp() - random() * interval '1 day' AS at FROM generate_series(1, 2 * $3::integer)
            ), chosen AS (
                SELECT at, at BETWEEN clock_timestamp() - interval '140 minutes' AND clock_timestamp()
                               - interval '120 minutes' AND $2 = 'call_partner' AS is_bad
                  FROM moment
                 WHERE random() < 0.55 + 0.4 * sin(extract(epoch FROM at) / 86400 * 2 * pi())
            ), job AS (
                SELECT at,
                       (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
                        || substr(md5(random()::text), 1, 3) || 'a' || substr(md5(random()::text), 1, 15))::uuid AS id,
                       $4::float8 * exp(0.5 * (random() + random() - 1) * 2) AS took,
                       random() * random() * CASE WHEN is_bad THEN 40 ELSE 1.5 END AS waited,
                       random() < $5::float8 OR is_bad AND random() < 0.5 AS is_failed
                  FROM chosen
            )
            INSERT INTO rowlock.finished_job (id, run_at, created_at, started_at, finished_at, attempt, max_attempts,
                errors, crashes, priority, state, queue, task, args, error)
            SELECT id, at - (took + waited) * interval '1 second', at - (took + waited) * interval '1 second',
                   at - took * interval '1 second', at, CASE WHEN is_failed THEN 3 ELSE 1 END, 3,
                   CASE WHEN is_failed THEN 3 ELSE 0 END, 0, 5, CASE WHEN is_failed THEN 'failed' ELSE 'succeeded' END,
                   $1, $2, '{}', CASE WHEN is_failed THEN
                       CASE $2 WHEN 'charge_card' THEN 'shop.payments.CardDeclined: insufficient funds'
                               WHEN 'call_partner' THEN 'ConnectionError: parcels.example: connection refused'
                               ELSE 'TimeoutError' END END
              FROM job
            """,
            *(queue, task, jobs, seconds, failing),
        )
    await connection.execute(
        "INSERT INTO rowlock.attempt"
        " (job_id, attempt, outcome, queue, task, started_at, finished_at, error_type, message, traceback)"
        " SELECT id, number, CASE number WHEN 3 THEN 'failed' ELSE 'error' END, queue, task, started_at, finished_at,"
        "        split_part(error, ': ', 1), split_part(error, ': ', 2), $1"
        "   FROM rowlock.finished_job CROSS JOIN generate_series(1, 3) AS number WHERE state = 'failed'",
        _TRACEBACK,
    )
    await connection.execute(
        """
        INSERT INTO rowlock.backlog (at, taken_at, oldest_due_at, step, queue, waiting, scheduled, running)
        SELECT at, at, CASE WHEN waiting > 0 THEN at - waiting * interval '80 ms' END, step, queue, waiting,
               30 + (20 * random())::integer, (share * busy * 6 * (0.5 + random()))::integer
          FROM (
               SELECT step, at, queue, share, busy,
                      (share * busy * 9 * random() + CASE WHEN is_bad THEN 240 ELSE 0 END * share
                       * (0.6 + 0.4 * random()))::integer AS waiting
                 FROM (
                      SELECT step, at, 0.55 + 0.4 * sin(extract(epoch FROM at) / 86400 * 2 * pi()) AS busy,
                             at BETWEEN clock_timestamp() - interval '145 minutes'
                                    AND clock_timestamp() - interval '115 minutes' AS is_bad
                        FROM unnest(ARRAY[60, 300, 900]) AS step
                       CROSS JOIN generate_series(
                           date_bin(step * interval '1 second', clock_timestamp() - interval '1 day', 'epoch'),
                           clock_timestamp(), step * interval '1 second'
                       ) AS at
                      ) AS moment
                CROSS JOIN (
                      VALUES ('*', 1.0), ('email', 0.3), ('orders', 0.35), ('webhooks', 0.2)
                     ) AS part (queue, share)
               ) AS sample
        """
    )
    await connection.execute("UPDATE rowlock.statistic_mark SET until = clock_timestamp() - interval '1 day'")


async def _wait_until_counted(connection: asyncpg.Connection) -> None:
    await eventually(
        lambda: connection.fetchval(
            "SELECT min(until) > clock_timestamp() - interval '5 minutes' FROM rowlock.statistic_mark"
        ),
        timeout=60,
    )


async def _be_busy(app: Rowlock, connection: asyncpg.Connection) -> None:
    """Have jobs of every state, schedules with a past, and operators who did things."""
    for number in range(3):
        await app.enqueue("resize_image", {"image": f"product-{4711 + number}.jpg", "widths": [320, 640, 1280]})
        await app.enqueue("check_image", {"image": f"product-{4711 + number}.jpg"})
    await app.enqueue("build_report", {"kind": "weekly"})
    for number in range(14):
        await app.enqueue("charge_card", {"order": 90_210 + number, "amount": 19.9 + number}, tags=["visa"])
        await app.enqueue("call_partner", {"partner": "parcels.example", "event": "order.shipped"})
    for number in range(40):
        await app.enqueue("send_newsletter", {"recipient": f"reader-{number}@example.com", "issue": 12}, delay=5400)
    await app.queues.scale("email", 20, by="grace")
    await app.queues.pause("webhooks", by="ada")
    for number in range(9):
        await app.enqueue("call_partner", {"partner": "maps.example", "event": f"address.{number}"})
    paused = await app.schedules.create(name="newsletter", task="clean_up_carts", cron="0 9 * * THU")
    await app.schedules.pause(paused.name, by="grace")
    cancelled = await app.enqueue("send_newsletter", {"recipient": "reader-99@example.com", "issue": 12}, delay=5400)
    await app.jobs.cancel(cancelled.id, reason="unsubscribed", by="ada")
    await connection.execute(
        "INSERT INTO rowlock.schedule_tick (schedule, tick_at, fired_at, job_id)"
        " SELECT 'clean_up_carts', tick, tick + interval '40 ms', id"
        "   FROM (SELECT date_bin('5 minutes', clock_timestamp(), '2000-01-01') - number * interval '5 minutes'"
        "                AS tick, number FROM generate_series(1, 12) AS number) AS ticks"
        "   JOIN (SELECT id, row_number() OVER () AS number FROM rowlock.finished_job"
        "          WHERE task = 'clean_up_carts' LIMIT 12) AS jobs USING (number)"
        " ON CONFLICT DO NOTHING"
    )
    await connection.execute(
        "INSERT INTO rowlock.operation (id, at, verb, target_kind, target, by, source, details)"
        " SELECT rowlock.uuid7(), clock_timestamp(), verb, kind, target, by, 'cli', $1"
        "   FROM (VALUES ('scale', 'queue', 'reports', 'grace')) AS given (verb, kind, target, by)",
        json.dumps({"concurrency": 2, "before": None}),
    )


async def _buy(app: Rowlock) -> None:
    """Have customers buy, again and again."""
    order = 100_000
    while True:
        order += 1
        await app.enqueue("confirm_order", {"order": order})
        await app.enqueue(
            "send_receipt",
            {"recipient": f"customer-{order}@example.com", "order": order},
            tags=[f"customer:{order % 7}", *(["express"] if order % 3 else [])],
        )
        if order % 3 == 0:
            await app.enqueue("charge_card", {"order": order, "amount": 19.9})
        if order % 4 == 0:
            await app.enqueue("call_partner", {"partner": "parcels.example", "event": "order.shipped"})
        if order % 5 == 0:
            await app.enqueue("send_newsletter", {"recipient": f"reader-{order}@example.com", "issue": 12}, delay=3600)
        await asyncio.sleep(random.uniform(0.5, 2.0))
