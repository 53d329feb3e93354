"""A shop with aiohttp and asyncpg: an order and its job in one transaction, the worker inside the web server."""

import os
from collections.abc import AsyncIterator
from typing import Final

import asyncpg
from aiohttp import web

from rowlock import JobNotFound, Rowlock
from rowlock.integrations.aiohttp import cleanup_context

DATABASE_URL: Final = os.environ["DATABASE_URL"]
POOL: Final = web.AppKey("pool", asyncpg.Pool)

queue = Rowlock()  # on ROWLOCK_DATABASE_URL, or DATABASE_URL
routes = web.RouteTableDef()


@queue.task
async def send_receipt(customer: str, item: str) -> str:
    """Stand in for a mail."""
    return f"To {customer}: thank you for buying a {item}."


@routes.post("/orders")
async def order(request: web.Request) -> web.Response:
    """Store an order, and have its receipt sent: both, or neither."""
    customer, item = request.query["customer"], request.query["item"]
    async with request.app[POOL].acquire() as connection, connection.transaction():
        await connection.execute("INSERT INTO orders (customer, item) VALUES ($1, $2)", customer, item)
        handle = await send_receipt.using(connection=connection).enqueue(customer, item)
        if item == "unicorn":
            raise web.HTTPConflict(text="Sold out.")
    return web.json_response({"job": str(handle.id)}, status=201)


@routes.get("/jobs/{id}")
async def status(request: web.Request) -> web.Response:
    """What has become of a job."""
    try:
        job = await queue.get(request.match_info["id"])
    except JobNotFound as error:
        raise web.HTTPNotFound(text=str(error)) from error
    return web.json_response({"state": job.state, "result": job.result})


async def tables(app: web.Application) -> AsyncIterator[None]:
    """The shop's own connections and table."""
    async with asyncpg.create_pool(DATABASE_URL, min_size=1) as app[POOL]:
        await app[POOL].execute("CREATE TABLE IF NOT EXISTS orders (customer text NOT NULL, item text NOT NULL)")
        yield


def create_app() -> web.Application:
    """The shop, as `web.run_app` takes it; the worker runs from its start to its end."""
    app = web.Application()
    app.add_routes(routes)
    app.cleanup_ctx.append(tables)
    app.cleanup_ctx.append(cleanup_context(queue, concurrency=10))
    return app


if __name__ == "__main__":
    web.run_app(create_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
