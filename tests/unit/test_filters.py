"""The filter: what it refuses when it is made, and what it says."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from rowlock import InvalidOption, JobFilter


@pytest.mark.parametrize(
    "name, value",
    [
        ("state", "done"),
        ("queue", "no queue"),
        ("task", ""),
        ("after", "yesterday"),
        ("before", 7),
        ("older_than", -1),
        ("older_than", math.nan),
        ("newer_than", "1 hour"),
        ("newer_than", timedelta(days=40_000)),
        ("error", ""),
        ("error", "a\0b"),
        ("error", 7),
        ("args", {}),
        ("args", [1]),
        ("args", {"a": "\0"}),
        ("args", {"a": math.inf}),
        ("args", {"a": object()}),
    ],
)
def test_nonsense_is_refused_by_its_name(name: str, value: Any) -> None:  # noqa: ANN401  # nonsense of all kinds
    with pytest.raises(InvalidOption, match=rf"^{name}\b"):
        JobFilter(**{name: value})


def test_only_a_filter_that_says_nothing_is_empty() -> None:
    assert JobFilter().is_empty
    for which in (JobFilter(state="queued"), JobFilter(older_than=0), JobFilter(discarded=False)):
        assert not which.is_empty


def test_what_it_says_is_plain_data_for_the_audit() -> None:
    which = JobFilter(queue="email", after=UUID(int=1), older_than=timedelta(minutes=1), args={"account": 7})
    assert which.described() == {
        "queue": "email",
        "after": "00000000-0000-0000-0000-000000000001",
        "older_than": 60.0,
        "args": {"account": 7},
    }
