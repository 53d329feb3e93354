"""Upcasters: which are refused, which versions they lead from, and what they make of arguments."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from rowlock import InvalidArguments, InvalidOption, Rowlock, Task

Args = dict[str, Any]


def made(version: int) -> Task[..., None]:
    app = Rowlock()

    @app.task(version=version)
    async def charge(cents: int) -> None: ...

    return charge


def same(args: Args) -> Args:
    return args


@pytest.mark.parametrize(
    "version, from_version, said",
    [
        (3, 3, "from_version 3 must be below the task's version 3"),
        (3, 4, "Use 1 to 2."),
        (3, 0, "from_version 0 must be below"),
        (3, "1", "from_version '1' must be below"),
        (3, True, "from_version True must be below"),
        (1, 1, "the task's version, which is 1. Give the task version=2 or higher."),
    ],
)
def test_an_upcaster_leads_from_an_older_version(version: int, from_version: Any, said: str) -> None:  # noqa: ANN401  # anything
    task = made(version)
    with pytest.raises(InvalidOption, match=re.escape(said)):
        task.upcast(from_version=from_version)(same)
    assert not task.has_upcasters


def test_there_is_one_upcaster_a_version() -> None:
    task = made(2)
    assert task.upcast(from_version=1)(same) is same, "the function stays callable"
    with pytest.raises(InvalidOption, match="from_version 1 has an upcaster already, same"):
        task.upcast(from_version=1)(same)


def no_argument() -> Args:
    return {}


async def not_plain(args: Args) -> Args:
    return args


@pytest.mark.parametrize(
    "function, said",
    [
        (42, "needs a plain function of (args); got 42."),
        (not_plain, "not_plain at 0x"),
        (no_argument, "needs a plain function of (args); got "),
        (re.sub, "needs a plain function of (args); got sub: "),
    ],
)
def test_an_upcaster_is_a_plain_function_of_one_argument(function: Callable[[Args], Args], said: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(said)):
        made(2).upcast(from_version=1)(function)


@pytest.mark.parametrize(
    "steps, versions, gaps",
    [
        ([], [5], []),
        ([4], [5, 4], []),
        ([1, 2, 3, 4], [5, 4, 3, 2, 1], []),
        ([3, 1, 4], [5, 4, 3], [2]),
        ([1, 2], [5], [3, 4]),
    ],
)
def test_versions_from_which_a_chain_leads_to_the_present_are_understood(
    steps: list[int], versions: list[int], gaps: list[int]
) -> None:
    task = made(5)
    for step in steps:
        task.upcast(from_version=step)(same)
    assert task.upcasters.versions == versions
    assert task.upcasters.gaps == gaps
    assert task.claimed_as == ["charge" if version == 1 else f"charge@{version}" for version in versions]


def test_upcasters_are_called_in_a_row_and_their_input_is_theirs_to_change() -> None:
    task = made(3)

    @task.upcast(from_version=1)
    def _(args: Args) -> Args:
        args["cents"] = args.pop("euros") * 100
        return args

    @task.upcast(from_version=2)
    def _(args: Args) -> Args:
        return {"cents": args["cents"] + 1}

    assert task.check({"euros": 7}, 1) == ('{"euros":7}', '{"cents":701}')
    assert task.check({"cents": 7}, 2) == ('{"cents":7}', '{"cents":8}')
    assert task.check({"cents": 7}, 3) == ('{"cents":7}', '{"cents":7}')
    assert task.check({"anything": 7}, 4) == ('{"anything":7}', None)


def test_an_error_of_an_upcaster_is_told_without_values() -> None:
    task = made(2)

    @task.upcast(from_version=1)
    def explode(args: Args) -> Args:
        raise ValueError(args["secret"])

    with pytest.raises(
        InvalidArguments, match=r"Task 'charge': arguments of version 1: .*explode raised ValueError"
    ) as told:
        task.check({"secret": "hunter2"}, 1)
    assert "hunter2" not in str(told.value)
    assert isinstance(told.value.__cause__, ValueError)
