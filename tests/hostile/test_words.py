"""What the API and the command line refuse, they refuse in the words of JSON: nobody there has to know Python."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import click
import pytest

from rowlock import JobFilter
from rowlock.cli.root import COMMANDS, root
from tests.hostile.corpus import AGES, NUMBERS, OPTIONS, TIMES
from tests.hostile.world import Refusal, World

OF_PYTHON: Final = re.compile(
    r"\b(datetime|timedelta|UUID|Decimal)\(|datetime\.|\btimedelta\b|<(class|function)"
    r"|\b(True|False|None|NoneType|dict|str|tuple)\b"
    r"|(?<!\w)'[^']*'(?!\w)|\\x[0-9a-f]{2}"
)
"""A value as Python prints it, or a name that is Python's alone."""
VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    1.5,
    10**30,
    "",
    "it's\n\"\\\u202e",
    "-5",
    "2030-01-31T09:00:00",
    [],
    ["x'y", 1],
    {"x": None},
)
TEXTS: Final = ("", "it's \u202e", "-5", "true", "2030-01-31T09:00:00", "9999-12-31T23:59:59Z", "P1D")
ARGUMENTS: Final = ("it's \u202e", "-5", "2030-01-31")
NOT_DRIVEN: Final = {"worker", "api", "dev", "torture", "top", "doctor", "audit", "migrate"}
"""These serve, take long, or are about other things than jobs."""


def told(texts: dict[str, str]) -> dict[str, str]:
    """Those that have words of Python's."""
    return {text: what for what, text in texts.items() if OF_PYTHON.search(text)}


def resolved(schema: Any, document: Any) -> Any:  # noqa: ANN401  # JSON
    while "$ref" in schema:
        found = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    return schema


def requests(document: Any) -> Iterator[tuple[str, str, dict[str, str], Any]]:  # noqa: ANN401  # JSON
    """The method, path, query and body of many requests, each with one thing wrong."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "application/json" not in str(operation) or path == "/v1/events":
                continue
            where = re.sub(r"\{\w+\}", "no'thing", path)
            parameters = [resolved(one, document) for one in operation.get("parameters", ())]
            for name in (one["name"] for one in parameters if one["in"] == "query"):
                yield from ((method, where, {name: text}, None) for text in TEXTS)
            if "requestBody" not in operation:
                yield method, where, {}, None
                continue
            content = resolved(operation["requestBody"], document)["content"]["application/json"]
            schema = resolved(content["schema"], document)
            example = (
                content.get("example") or next(iter(content.get("examples", {"": {"value": {}}}).values()))["value"]
            )
            yield from ((method, where, {}, value) for value in VALUES)
            for name in (*schema.get("properties", ()), "un'known"):
                yield from ((method, where, {}, {**example, name: value}) for value in VALUES)


async def test_what_the_api_refuses_has_no_word_of_python_s(full: World) -> None:
    document = json.loads(await full.get("/openapi.json"))
    texts = {}
    for method, path, query, body in requests(document):
        data = None if body is None and method == "get" else json.dumps(body)
        headers = {"Content-Type": "application/json"}
        async with full.http.request(method, path, params=query, data=data, headers=headers) as response:
            if response.status >= 400:
                assert response.content_type == "application/problem+json"
                texts[f"{method} {path} {query} {data}"] = str((await response.json(content_type=None))["detail"])
    assert len(texts) > 500
    assert told(texts) == {}


async def test_options_of_jobs_that_the_api_refuses_have_no_word_of_python_s(full: World) -> None:
    texts = {}
    for name, options in OPTIONS.items():
        try:
            await full.post("/v1/jobs", json.dumps({"task": "echo", **options.given}).encode())
        except Refusal as refusal:
            texts[name] = json.loads(str(refusal))["detail"]
    assert told(texts) == {}


async def test_arguments_that_the_api_refuses_have_no_word_of_python_s(full: World) -> None:
    @full.app.task
    async def pack(number: int, names: list[str], extra: dict[str, int], due: datetime) -> None: ...

    good: dict[str, Any] = {"number": 1, "names": ["a"], "extra": {"a": 1}, "due": "2030-01-31T09:00:00Z"}
    texts = {}
    for name in good:
        for value in (None, True, "x'y", 1.5, ["x", 1], {"x": "y"}):
            try:
                await full.post("/v1/jobs", json.dumps({"task": "pack", "args": {**good, name: value}}).encode())
            except Refusal as refusal:
                texts[f"{name} {value}"] = json.loads(str(refusal))["detail"]
    assert len(texts) > 10
    assert told(texts) == {}


def commands(group: click.Group, *before: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in COMMANDS if group is root else group.commands:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)
        elif name not in NOT_DRIVEN:
            yield (*before, name), command


def lines() -> Iterator[tuple[str, ...]]:
    """Many command lines, each with one thing wrong."""
    for words, command in commands(root):
        required = [
            "x'y"
            for one in command.params
            if isinstance(one, click.Argument) and one.required
            for _ in range(max(one.nargs, 1))
        ]
        options = {one.name for one in command.params}
        required += [word for name, word in (("dry_run", "--dry-run"), ("yes", "--yes")) if name in options]
        yield (*words, *required)
        for option in command.params:
            if (
                isinstance(option, click.Option)
                and not option.is_flag
                and not isinstance(option.type, click.Choice | click.types.IntParamType)
            ):
                yield from ((*words, *required, f"{option.opts[0]}={text}") for text in ARGUMENTS)


@pytest.mark.parametrize("part", range(4))
async def test_what_the_command_line_refuses_has_no_word_of_python_s(full: World, part: int) -> None:
    texts = {}
    for words in list(lines())[part::4]:
        if "--follow" in words or "watch" in words:
            continue
        try:
            await asyncio.wait_for(full.rowlock(*words), 30)
        except Refusal as refusal:
            if "See: rowlock" not in str(refusal):  # click's own words, of a line that cannot be read
                texts[" ".join(words)] = str(refusal).replace("""'{"name": "value"}'""", "")  # quoted for the shell
    assert texts
    assert told(texts) == {}


EDGES: Final = {
    "delay": (*NUMBERS, *AGES),
    **dict.fromkeys(("expires", "deadline"), (*NUMBERS, *TIMES, *AGES)),
    **dict.fromkeys(("older_than", "newer_than", "succeeded", "failed", "cancelled"), AGES),
    **dict.fromkeys(("run_at", "created_after", "created_before"), TIMES),
    "concurrency": NUMBERS,
}
"""What is tried for options that take text, and for arguments."""


def edges(given: dict[str, str]) -> Iterator[tuple[str, ...]]:
    """Command lines with one number or time at its edge; `given` are the arguments, by name."""
    for words, command in commands(root):
        right = {
            one.name: given.get(f"{words[0]} {one.name}", given.get(one.name, ""))
            for one in command.params
            if isinstance(one, click.Argument) and one.name in {*given, "name", "args_json"}
        }
        for name in sorted(right.keys() & EDGES.keys()):
            yield from ((*words, "--", *(right | {name: text}).values()) for text in EDGES[name])
        flags = {one.name for one in command.params}
        for option in command.params:
            if not isinstance(option, click.Option) or option.is_flag:
                continue
            is_number = isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
            is_filter = "dry_run" in flags and option.name not in {"delay", "run_at", "priority"}
            for text in NUMBERS if is_number else EDGES.get(option.name or "", ()):
                yield (*words, f"{option.opts[0]}={text}", *(["--dry-run"] if is_filter else right.values()))


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
async def test_numbers_and_times_at_their_edges_are_taken_or_refused_in_words(
    zone: str, full: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finished,) = await full.app.jobs.list(JobFilter(state="succeeded"))
    (waiting,) = await full.app.jobs.list(JobFilter(state="scheduled"))
    (worker,) = await full.app.workers.list()
    given = {
        "job_id": str(finished.id),
        "job_ids": str(waiting.id),
        "worker_id": str(worker.id),
        "concurrency": "1",
        "queues name": "default",
        "schedules name": "nightly",
        "keys name": "other",
        "queue": "default",
        "task": "echo",
        "cron": "@daily",
        "args_json": "{}",
    }
    texts = {}
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for words in edges(given):
            try:
                await asyncio.wait_for(full.rowlock(*words), 30)
            except Refusal as refusal:
                if "See: rowlock" not in str(refusal):
                    texts[" ".join(words)] = str(refusal)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert len(texts) > 50
    assert told(texts) == {}


def test_no_option_takes_what_is_not_a_finite_number() -> None:
    every = {name: root.get_command(click.Context(root), name) for name in COMMANDS}
    commands_of = [
        *((name, command) for name, command in every.items() if command is not None),
        *((" ".join(words), command) for words, command in commands(root)),
    ]
    taken = [
        f"{name} {option.opts[0]} {text}"
        for name, command in commands_of
        for option in command.params
        if isinstance(option.type, click.types.FloatParamType)
        for text in ("nan", "inf", "1e400")
        if is_taken(option, text)
    ]
    assert taken == []


def is_taken(option: click.Parameter, text: str) -> bool:
    try:
        option.type.convert(text, option, None)
    except click.BadParameter:
        return False
    return True
