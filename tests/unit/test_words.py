"""How a value is written in a message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from rowlock.words import in_json, quoted, seconds, typed


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "null"),
        (True, "true"),
        (-5, "-5"),
        (1.5, "1.5"),
        ("it's", '"it\'s"'),
        ('a "b"\n\u202e\x9b', r'"a \"b\"\n\u202e\u009b"'),
        ("ö", '"ö"'),
        ("\ud800", r'"\ud800"'),
        (timedelta(seconds=5), "5"),
        (timedelta(milliseconds=-1500), "-1.5"),
        (datetime(2030, 1, 31, 9, tzinfo=UTC), '"2030-01-31T09:00:00Z"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Decimal("1.50"), '"1.50"'),
        ({"a": [None, ("x",)]}, '{"a": [null, ["x"]]}'),
        (b"x", "bytes"),
        (object(), "object"),
    ],
)
def test_a_value_is_written_as_python_does_for_programs_and_as_json_does_for_others(value: object, text: str) -> None:
    assert quoted(value) == repr(value)
    with in_json():
        assert quoted(value) == text
        assert seconds() == "seconds"
    assert quoted(value) == repr(value)


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __str__ = __repr__


class Broken:
    def __repr__(self) -> str:
        return "<\ud800>"


def deep() -> list[object]:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [10**5000, [-(10**5000)], Mute(), [Mute()], {Mute(): Mute()}, Broken(), deep()],
    ids=["long", "long within", "mute", "mute within", "mute by mute", "broken", "deep"],
)
def test_no_value_keeps_a_message_from_being_written(value: object) -> None:
    assert quoted(value).encode()
    with in_json():
        assert quoted(value).encode()


def test_types_have_the_names_of_json_there() -> None:
    text = "expected `int | list[str]`, got `dict`. Pass what fits `datetime`; `int` stays"
    assert typed(text) == text
    with in_json():
        assert typed(text) == ("expected `integer | array[string]`, got `object`. Pass what fits `time`; `int` stays")
        assert typed("Invalid RFC3339 encoded datetime") == "Invalid RFC 3339 time"
