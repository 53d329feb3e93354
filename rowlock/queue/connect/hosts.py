"""Connect to the one of several servers that accepts writes; a silent server does not delay the next one."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from rowlock.queue.connect.resolving import ResolvingLoop

if TYPE_CHECKING:
    from asyncpg import Record

    Connection: TypeAlias = asyncpg.Connection[Record]
    Dialling: TypeAlias = asyncio.Task[Connection]

HEAD_START: Final = 0.5
"""Seconds before the next host is dialled as well, or until this one fails, if that is sooner."""
AGAIN: Final = 1.0
"""Seconds after which a host that was not yet a primary is dialled again, while another one does not answer at all."""

_TAKES_WRITES: Final = ("read-write", "primary")


async def connect(dsn: str, *, timeout: float, **options: Any) -> Connection:  # noqa: ANN401  # asyncpg's
    """Connect like asyncpg, to a server that accepts writes, unless the DSN or the environment requests another kind.

    asyncpg dials the hosts one after the other: a dead machine that sends no answer would use up the whole time. At
    most one host accepts writes, so this takes the first that says so.
    """
    said = parse_qs(urlsplit(dsn).query).get("target_session_attrs") or [os.environ.get("PGTARGETSESSIONATTRS", "")]
    asked = said[-1] or _TAKES_WRITES[0]
    options["target_session_attrs"] = asked
    hosts = hosts_of(dsn)
    if len(hosts) < 2 or asked not in _TAKES_WRITES:
        return await _connect(dsn, timeout=timeout, **options)
    return await _Race(dsn, hosts, options).run(timeout)


async def _connect(dsn: str, **options: Any) -> Connection:  # noqa: ANN401  # asyncpg's
    connection: Connection = await asyncpg.connect(dsn, **{**options, "loop": ResolvingLoop()})
    connection._loop = asyncio.get_running_loop()  # type: ignore[attr-defined]  # noqa: SLF001  # itself, from here on
    return connection


def hosts_of(dsn: str) -> list[tuple[str, int | None]]:
    """The hosts that the DSN names, with their ports if it has any. asyncpg reports an invalid DSN."""
    url = urlsplit(dsn)
    query = parse_qs(url.query)
    netloc = url.netloc.partition("@")[2] if "@" in url.netloc else url.netloc
    specs = netloc or query.get("host", [""])[-1]
    if "," not in specs:
        return [(specs, None)]
    ports = [""] if netloc else query.get("port", [""])[-1].split(",")
    hosts = []
    for number, spec in enumerate(specs.split(",")):
        host, colon, port = (spec, "", "") if spec.startswith("/") else spec.rpartition(":")
        if not colon or port.endswith("]"):  # the colons of an IPv6 address are inside [ ]
            host, port = spec, ""
        given = ports[min(number, len(ports) - 1)] or port
        host = unquote(host) if netloc else host
        hosts.append((host.strip("[]"), int(given) if given else None))
    return hosts


class _Race:
    """The attempts on all hosts for one connection."""

    def __init__(self, dsn: str, hosts: list[tuple[str, int | None]], options: dict[str, Any]) -> None:
        self._dsn = dsn
        self._hosts = hosts
        self._options = options
        self._errors: dict[int, BaseException] = {}
        self._dialling: dict[Dialling, int] = {}
        self._has_failed = asyncio.Event()

    async def run(self, timeout: float) -> Connection:
        """Return the first connection. Raises when each host has refused, or the time is over."""
        for number in range(len(self._hosts)):
            self._dial(number, after=HEAD_START * number)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    done, _ = await asyncio.wait(self._dialling, return_when=asyncio.FIRST_COMPLETED)
                    for dialling in done:
                        number = self._dialling.pop(dialling)
                        error = dialling.exception()
                        if error is None:
                            return dialling.result()
                        self._errors[number] = error
                        self._dial(number, after=AGAIN)
                    self._has_failed.set()
                    if len(self._errors) == len(self._hosts):
                        raise self._telling()
        except TimeoutError as error:
            silent = [str(host) for number, (host, _) in enumerate(self._hosts) if number not in self._errors]
            raise TimeoutError(f"no answer within {timeout:g} s from {', '.join(silent)}") from error
        finally:
            await self._end()

    def _dial(self, number: int, *, after: float) -> None:
        self._dialling[asyncio.create_task(self._connect(number, after))] = number

    async def _connect(self, number: int, after: float) -> Connection:
        if number in self._errors:
            await asyncio.sleep(after)
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(after):
                    await self._has_failed.wait()
        host, port = self._hosts[number]
        return await _connect(self._dsn, host=host, port=port, **self._options)  # within the race's time

    def _telling(self) -> BaseException:
        """The most informative error: all hosts but one are expected to report that they are not the primary."""
        errors = [self._errors[number] for number in range(len(self._hosts))]
        other = [error for error in errors if not isinstance(error, asyncpg.TargetServerAttributeNotMatched)]
        return other[0] if other else errors[0]

    async def _end(self) -> None:
        for dialling in self._dialling:
            dialling.cancel()
        for late in await asyncio.gather(*self._dialling, return_exceptions=True):
            if not isinstance(late, BaseException):
                late.terminate()
