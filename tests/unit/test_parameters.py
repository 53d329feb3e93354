"""A task's signature: what can be stored, and what is refused at the decoration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

import pytest

from rowlock.errors import InvalidOption
from tests.unit.arguments_examples import LIMIT, Address, Job, Point, Unknown, arguments, stored, taking

# Signatures


def test_a_method_is_a_task_of_its_other_parameters() -> None:
    class Mailer:
        def send(self, recipient: str) -> None: ...

    assert stored(Mailer().send, "a") == {"recipient": "a"}


def refused_signature(function: Callable[..., object]) -> str:
    with pytest.raises(InvalidOption) as caught:
        arguments(function)
    assert "Task 'shop.task'" in str(caught.value)
    return str(caught.value)


def test_signatures_that_json_cannot_fill_are_refused_with_a_remedy() -> None:
    def positional(value: str, /) -> None: ...
    def many(*values: str) -> None: ...
    def keywords(**values: str) -> None: ...
    def mangled(__value: str) -> None: ...  # noqa: PYI063  # that is the point
    def two(job: Job[Any], other: Job[Any]) -> None: ...

    assert "parameter `value` of positional() is positional-only. Remove the `/`" in refused_signature(positional)
    assert "parameter `values` of many() accepts any number of arguments. Use one list" in refused_signature(many)
    assert "parameter `values` of keywords() accepts any keyword arguments. Use one dict" in refused_signature(keywords)
    assert "parameter `__value` of mangled() starts with two underscores. Rename it" in refused_signature(mangled)
    assert "parameter `other` of two() is the second parameter for the job, after `job`" in refused_signature(two)
    assert "cannot be read" in refused_signature(dict.update)


@pytest.mark.parametrize(
    "hint, reason",
    [
        (Unknown, "Unknown` has no form in JSON. Use plain data"),
        (list[Unknown | None], "Unknown` has no form in JSON"),
        (dict[str, tuple[int, complex]], "`complex` has no form in JSON"),
        (Job[Any] | None, "Job` has no form in JSON"),
        (Callable[[], int], "has no form in JSON"),
        (str | UUID, "more than one str-like type"),
        (Point | Address, "more than one dict-like type"),
        ("Missing", "cannot be resolved (name 'Missing' is not defined)"),
        ("list[", "cannot be resolved"),
    ],
)
def test_an_annotation_that_cannot_be_checked_is_refused_with_its_parameter(hint: object, reason: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        taking(hint)
    assert "Task 'shop.task': parameter `value` of handler()" in str(caught.value)
    assert reason in str(caught.value)


def test_a_return_annotation_is_not_looked_at() -> None:
    def handler() -> Unknown: ...  # type: ignore[empty-body]  # only its signature matters

    assert arguments(handler).encode((), {}, limit=LIMIT) == "{}"


def test_foreign_metadata_in_an_annotation_is_ignored() -> None:
    unhashable: list[str] = []
    single = taking(Annotated[int, unhashable], 1)
    assert single.encode((), {}, limit=LIMIT) == "{}"
    assert single.bind("{}") == ((1,), {})
    assert single.bind('{"value": 2}') == ((2,), {})
