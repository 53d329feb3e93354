"""Arguments that would not arrive as they are: refused, without being shown."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowlock.errors import InvalidArguments
from tests.unit.arguments_examples import (
    JSON,
    LIMIT,
    SECRET,
    TEXTS,
    Checked,
    Colour,
    Order,
    Point,
    Unknown,
    arguments,
    refusal,
    refused,
    round_trip,
    send_email,
    taking,
)

# Values that are refused


@pytest.mark.parametrize(
    "hint, value, reason",
    [
        (str, 1, "expected `str`, got `int`. Pass a value that fits `str`"),
        (int, True, "expected `int`, got `bool`"),
        (int, SECRET, "expected `int`, got `str`"),
        (list[Point], [{"x": SECRET}], "expected `int`, got `str` at `value[0].x`"),
        (Colour, SECRET, "invalid enum value"),
        (Literal["a"], SECRET, "invalid enum value"),
        (UUID, SECRET, "invalid UUID"),
        (Annotated[str, msgspec.Meta(max_length=3)], SECRET, "length <= 3"),
        (Checked, {"code": SECRET}, "its class refuses it (ValueError)"),
        (Order, {"number": SECRET}, "Order refuses it (number: int_parsing)"),
        (str, UUID(int=1), "a `UUID` would be read back as `str`"),
        (Any, datetime(2024, 1, 1, tzinfo=UTC), "a `datetime` would be read back as `str`"),
        (Any, [Point(1)], "Point` would be read back as `dict`"),
        (Any, {"a": {1}}, "a `set` would be read back as `list`"),
        (Any, b"x", "a `bytes` would be read back as `str`"),
        (Any, Order(number=1), "Order` would be read back as `dict`"),
        (Any, {1: 2}, "a key of type `int` would become text. Annotate the type of the keys"),
        (dict[str, int], {1: 2}, "a key of type `int` would become text"),
        (Any, {None: 1}, "a dict's key of type `NoneType` has no form in JSON"),
        (Any, {True: 1}, "a dict's key of type `bool` has no form in JSON"),
        (Any, {(1, 2): 1}, "a dict's key of type `tuple` has no form in JSON"),
        (Any, [Unknown()], "has no form in JSON"),
        (Any, object, "has no form in JSON"),
        (Any, float("nan"), "NaN or Infinity"),
        (float | None, float("-inf"), "NaN or Infinity"),
        (float, float("inf"), "expected `float`, got `null`"),
        (Point, Point(1, float("nan")), "NaN or Infinity"),
        (float, 2**60 + 1, "a `int` would be read back as `float`"),
        (
            datetime,
            datetime(1900, 1, 1, tzinfo=timezone(timedelta(seconds=3601))),
            "would be read back as another",
        ),
        (str, "a\0b", "NUL"),
        (Any, [{"a": "\0"}], "NUL"),
        (Any, {"\0": 1}, "NUL"),
        (str, "a\ud800", "half of a surrogate pair"),
        (Any, {"a": ["\udfff"]}, "half of a surrogate pair"),
        (Any, {"\udfff": 1}, "half of a surrogate pair"),
    ],
)
def test_a_value_that_would_not_arrive_is_refused_without_being_shown(hint: object, value: object, reason: str) -> None:
    assert reason in refused(hint, value)


def test_an_integer_of_more_digits_than_python_reads_is_refused() -> None:
    assert "more digits than Python reads" in refused(int, 10**5000)
    text = f'{{"value": {"1" * 5000}}}'
    assert "out of range" in refusal(lambda: taking(int).check(text, limit=LIMIT))


def nested(levels: int) -> object:
    value: object = "x" * 100
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def test_nesting_is_limited_to_64_levels() -> None:
    assert round_trip(Any, nested(63)) == nested(63)
    assert "deeper than 64 levels" in refused(Any, nested(64))
    assert "deeper than 64 levels" in refused(Any, nested(5_000))
    deep = json.dumps({"value": nested(64)})
    assert "deeper than 64 levels" in refusal(lambda: taking(Any).check(deep, limit=LIMIT))


def test_many_brackets_in_a_text_are_no_nesting() -> None:
    assert round_trip(Any, "[{" * 500) == "[{" * 500


def test_a_value_that_contains_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    assert "contains itself" in refused(Any, endless)


def test_the_limit_is_bytes_of_json() -> None:
    single = taking(str)
    assert len(single.encode(("ä" * 10,), {}, limit=32).encode()) == 32
    message = refusal(lambda: single.encode(("ä" * 10,), {}, limit=31))
    assert "must be at most 31 bytes of JSON; got 32. Store the large part elsewhere" in message
    assert "got 32" in refusal(lambda: single.check({"value": "ä" * 10}, limit=31))


# Documents from outside


def test_a_document_is_returned_in_its_canonical_form() -> None:
    text = '{ "subject" : "\\u0061", "copies":2, "recipient":"a" }'
    canonical = '{"recipient":"a","subject":"a","copies":2}'
    assert arguments(send_email).check(text, limit=LIMIT) == canonical
    assert arguments(send_email).check(text.encode(), limit=LIMIT) == canonical
    assert arguments(send_email).check(json.loads(text), limit=LIMIT) == canonical


@pytest.mark.parametrize(
    "document, reason",
    [
        ("", "input data was truncated"),
        ("{", "input data was truncated"),
        ("[]", "expected `object`, got `array`"),
        ("null", "got `null`"),
        (None, "one JSON object keyed by parameter names"),
        ([SECRET], "one JSON object keyed by parameter names"),
        (b"\xff", "JSON is malformed"),
        (b'{"recipient":"\xff"}', "not UTF-8"),
        ('{"recipient":"a"}', "missing required field `subject`. The call is send_email("),
        ('{"recipient":"a","subject":"s","colour":1}', "unknown field `colour`. The call is send_email("),
        ('{"recipient":"a","subject":1}', "argument 'subject': expected `str`, got `int`"),
        ('{"recipient":"a","subject":"\\u0000"}', "argument 'subject': it contains a NUL"),
        ({"recipient": "a", "subject": "\ud800"}, "argument 'subject': it contains half of a surrogate pair"),
        ({"recipient": "a", "subject": math.nan}, "argument 'subject': it contains NaN"),
        ({"recipient": "a", "subject": Unknown()}, "argument 'subject': a value of type"),
        ({1: 2}, "unknown field `1`"),
    ],
)
def test_a_document_that_does_not_fit_is_refused(document: object, reason: str) -> None:
    assert reason in refusal(lambda: arguments(send_email).check(document, limit=LIMIT))


@given(document=JSON | TEXTS | st.binary())
@settings(max_examples=50, deadline=None)
def test_whatever_comes_from_outside_is_taken_or_refused_as_invalid(document: object) -> None:
    with pytest.raises(InvalidArguments):
        arguments(send_email).check(document, limit=LIMIT)


@pytest.mark.parametrize("text", ['{"recipient":"a"}', '{"recipient":1,"subject":"s"}', "[]", "{", b"\xff"])
def test_stored_arguments_that_fit_no_more_are_refused_at_run_time(text: str | bytes) -> None:
    assert refusal(lambda: arguments(send_email).decode(text))
    assert refusal(lambda: arguments(send_email).bind(text))
