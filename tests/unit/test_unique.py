"""What a `Unique` accepts, and the keys that it makes of arguments."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rowlock import InvalidArguments, InvalidOption, Job, Rowlock, Unique
from rowlock.queue.jobs.unique import parse_unique


@pytest.fixture
def app() -> Rowlock:
    return Rowlock("postgresql://nobody@127.0.0.1:1/none")


REFUSED: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((), {}, r"either key or by \(argument names\); got neither"),
    (("k",), {"by": ["a"]}, r"either key or by \(argument names\); got both"),
    (("",), {}, "unique must have 1 to 512 bytes; got 0"),
    (("é" * 257,), {}, "unique must have 1 to 512 bytes; got 514"),
    ((7,), {}, "unique must be text; got 7"),
    (("a\0",), {}, "NUL"),
    ((), {"by": "recipient"}, r"by must be a list .* by=\['recipient'\], .*; got 'recipient'"),
    ((), {"by": [1]}, r"by must be a list .*; got \[1\]"),
    ((), {"by": []}, r"by must name at least one argument, each once; got \[\]"),
    ((), {"by": ["a", "a"]}, r"by must name at least one argument, each once; got \['a', 'a'\]"),
    (("k",), {"until": "end"}, "until must be one of 'finish', 'start'; got 'end'"),
    (("k",), {"on_duplicate": "ignore"}, "on_duplicate must be one of .*; got 'ignore'"),
    (("k",), {"period": 0}, "period must be greater than zero; got 0"),
    (("k",), {"period": -1.5}, "period must be greater than zero; got -1.5"),
    (("k",), {"period": "1h"}, "period must be seconds or a timedelta, at most a hundred years; got '1h'"),
    (("k",), {"period": float("nan")}, "a hundred years; got nan"),
    (("k",), {"period": 1, "until": "start"}, "either period or until='start'; got both"),
    (("k",), {"across_tasks": 1}, "across_tasks must be True or False; got 1"),
]


@pytest.mark.parametrize("args, options, words", REFUSED, ids=[words for _, _, words in REFUSED])
def test_what_makes_no_sense_is_refused_by_name_and_value(
    args: tuple[Any, ...], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidOption, match=words):
        Unique(*args, **options)


def test_rules_are_a_value() -> None:
    rules = Unique(by=["a", "b"], period=60)
    assert rules == Unique(by=("a", "b"), period=timedelta(minutes=1))
    assert hash(rules) == hash(Unique(by=("a", "b"), period=60.0))
    assert (rules.by, rules.period, rules.until, rules.on_duplicate) == (
        ("a", "b"),
        timedelta(0, 60),
        "finish",
        "return",
    )
    with pytest.raises(AttributeError):
        rules.key = "k"  # type: ignore[misc]  # frozen


def test_text_is_a_key_and_anything_else_is_refused() -> None:
    assert parse_unique("k") == Unique("k")
    assert parse_unique(None) is None
    with pytest.raises(InvalidOption, match=r"unique must be text \(the key\) or a rowlock\.Unique; got 7"):
        parse_unique(7)


def test_a_key_is_stored_in_the_scope_of_its_task_or_of_none(app: Rowlock) -> None:
    @app.task
    async def send(n: int) -> None: ...

    assert send.using(unique="a:b").job(1).unique_key == "send:a:b"
    assert send.using(unique=Unique("a:b", across_tasks=True)).job(1).unique_key == ":a:b"
    assert send.job(1).unique_key is None


def test_a_key_made_of_arguments_depends_on_these_and_no_others(app: Rowlock) -> None:
    @app.task(unique=Unique(by=["to", "tags"]))
    async def send(job: Job, to: str, tags: set[str], *, copies: int = 1) -> None: ...

    key = send.job("ada", {"a", "b", "c"}).unique_key
    assert key is not None
    assert len(key) == len("send:") + 64
    assert send.job("ada", {"c", "b", "a"}, copies=7).unique_key == key
    assert send.job(to="ada", tags={"b", "a", "c"}).unique_key == key
    assert send.job("bob", {"a", "b", "c"}).unique_key != key
    assert send.job("ada", {"a", "b"}).unique_key != key
    assert send.using(unique=Unique(by=["tags", "to"])).job("ada", {"a", "b", "c"}).unique_key == key
    assert send.using(unique="other").job("ada", set()).unique_key == "send:other", "the call's instead of the task's"


def test_an_argument_left_to_its_default_is_the_same_as_that_value(app: Rowlock) -> None:
    @app.task(unique=Unique(by=["subject"]))
    async def send(to: str, subject: str = "Hi") -> None: ...

    assert send.job("ada").unique_key == send.job("bob", "Hi").unique_key
    assert send.job("ada").unique_key != send.job("ada", "Bye").unique_key


def test_a_new_parameter_with_a_default_does_not_change_the_key_of_all_arguments(app: Rowlock) -> None:
    async def send(to: str, weight: float) -> None: ...

    async def newer(to: str, weight: float, extra: int | None = None) -> None: ...

    rules = Unique(by="arguments")
    old, new = app.task(name="old", unique=rules)(send), app.task(name="new", unique=rules)(newer)
    key = (old.job("ada", 1.0).unique_key or "").partition(":")[2]
    assert (new.job("ada", 1).unique_key or "").partition(":")[2] == key, "1 is 1.0 for a float"
    assert (new.job("ada", 1, None).unique_key or "").partition(":")[2] == key
    assert (new.job("ada", 1, 2).unique_key or "").partition(":")[2] != key


def test_names_that_the_task_does_not_have_are_refused_when_they_are_given(app: Rowlock) -> None:
    async def send(job: Job, to: str) -> None: ...

    for names in (["recipient"], ["to", "job"]):
        with pytest.raises(InvalidOption, match=f"has no argument '{names[-1]}': it has to"):
            app.task(unique=Unique(by=names))(send)
    task = app.task(send)
    with pytest.raises(InvalidOption, match="has no argument 'job'"):
        task.using(unique=Unique(by=["job"]))


def test_a_default_that_json_cannot_hold_is_left_out_or_refused(app: Rowlock) -> None:
    missing = object()

    @app.task
    async def send(to: str, copy: object = missing) -> None: ...

    assert send.using(unique=Unique(by="arguments")).job("ada").unique_key is not None
    assert send.using(unique=Unique(by=["copy"])).job("ada", "x").unique_key is not None
    with pytest.raises(InvalidArguments, match="argument 'copy'"):
        send.using(unique=Unique(by=["copy"])).job("ada")
