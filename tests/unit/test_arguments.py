"""Arguments: from a call to stored JSON, and from stored JSON to the handler's call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings

from rowlock.queue.jobs.json_values import keep_floats
from tests.unit.arguments_examples import (
    JSON,
    LIMIT,
    Address,
    Colour,
    Job,
    Level,
    Name,
    Options,
    Order,
    Pair,
    Plain,
    Point,
    Text,
    arguments,
    nothing,
    refusal,
    round_trip,
    send_email,
    stored,
    taking,
    unannotated,
    with_job,
)

# Binding a call


def test_arguments_are_stored_by_parameter_name() -> None:
    expected = {"recipient": "a@b.c", "subject": "s", "body": "b"}
    assert stored(send_email, "a@b.c", "s", "b") == expected
    assert stored(send_email, body="b", recipient="a@b.c", subject="s") == expected


def test_a_default_that_was_not_passed_is_left_out_so_that_the_code_of_the_day_decides() -> None:
    assert stored(send_email, "a@b.c", "s") == {"recipient": "a@b.c", "subject": "s"}


def test_a_passed_value_is_stored_even_if_it_is_the_default() -> None:
    assert stored(send_email, "a@b.c", "s", copies=1) == {"recipient": "a@b.c", "subject": "s", "copies": 1}


@pytest.mark.parametrize(
    "args, kwargs, reason",
    [
        (("a",), {}, "missing required argument 'subject'"),
        (("a", "s", "b", 2), {}, "extra positional arguments provided"),
        (("a", "s"), {"color": 1}, "unexpected keyword argument 'color'"),
        (("a", "s"), {"subject": "t"}, "argument 'subject' given by name and position"),
    ],
)
def test_a_wrong_call_is_refused_with_the_right_one(
    args: tuple[object, ...], kwargs: dict[str, object], reason: str
) -> None:
    message = refusal(lambda: arguments(send_email).encode(args, kwargs, limit=LIMIT)).lower()
    assert reason in message
    assert "the call is send_email(recipient, subject, body=…, *, copies=…)" in message


def test_a_task_without_parameters_stores_an_empty_object() -> None:
    empty = arguments(nothing)
    assert empty.encode((), {}, limit=LIMIT) == "{}"
    assert empty.decode("{}") == {}
    assert empty.bind("{}") == ((), {})


# Calling the handler


def test_the_handler_is_called_with_its_defaults_filled_in() -> None:
    text = '{"subject": "s", "recipient": "a"}'
    assert arguments(send_email).decode(text) == {"recipient": "a", "subject": "s", "body": "", "copies": 1}
    assert arguments(send_email).bind(text) == (("a", "s", ""), {"copies": 1})


def test_a_mutable_default_is_the_very_object_as_in_python() -> None:
    default = [1]
    single = taking(list[int], default)
    assert single.bind("{}")[0][0] is default


def test_the_job_is_put_where_the_function_wants_it() -> None:
    def keyword(recipient: str, *, job: Job[int]) -> None: ...
    def only(job: Job[int]) -> None: ...

    job = object()
    for function, expected in (
        (with_job, (("a", job, "Hi"), {})),
        (keyword, (("a",), {"job": job})),
        (only, ((job,), {})),
    ):
        handler = arguments(function)
        assert handler.job_parameter == "job"
        text = "{}" if function is only else '{"recipient": "a"}'
        assert handler.bind(text, job) == expected


def test_the_job_is_no_argument() -> None:
    assert stored(with_job, "a", "s") == {"recipient": "a", "subject": "s"}
    assert "unexpected keyword argument 'job'" in refusal(lambda: stored(with_job, "a", job=1)).lower()
    assert "unknown field `job`" in refusal(lambda: arguments(with_job).check({"recipient": "a", "job": 1}, limit=99))
    assert arguments(nothing).job_parameter is None


def test_the_job_may_be_imported_for_the_type_checker_only() -> None:
    def handler(job): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  # annotated below

    for annotation in ("Job", "Job[Any]", "'Job'"):
        handler.__annotations__ = {"job": annotation, "return": "Missing"}
        assert arguments(handler).job_parameter == "job"


# Types


@pytest.mark.parametrize(
    "hint, value",
    [
        (str, "grüße 🚀 \\u0000 \\"),
        (int, -(2**200)),
        (float, 1e300),
        (bool, True),
        (str | None, None),
        (None, None),
        (bytes, b"\x00\xff"),
        (datetime, datetime(2024, 2, 29, 12, 0, 0, 1, tzinfo=UTC)),
        (datetime, datetime(2024, 2, 29, 12, 0)),  # noqa: DTZ001  # naive ones stay naive
        (date, date(2024, 2, 29)),
        (time, time(23, 59, 59, 999_999)),
        (timedelta, timedelta(days=-3, microseconds=7)),
        (UUID, UUID(int=7)),
        (Decimal, Decimal("1.10")),
        (Colour, Colour.RED),
        (Level, Level.HIGH),
        (Literal["a", "b"], "b"),
        (Annotated[int, msgspec.Meta(gt=0)], 1),
        (Name, "n"),
        (Point, Point(1, 2.5)),
        (Address, Address("Main")),
        (Options, {"copies": 2}),
        (Pair, Pair(1)),
        (Order, Order(number=1, due=datetime(2024, 1, 1, tzinfo=UTC))),
        (list[Order] | None, [Order(number=1)]),
        (set[int], {1, 2}),
        (frozenset[UUID], frozenset({UUID(int=1)})),
        (tuple[int, str], (1, "a")),
        (tuple[date, ...], (date(2024, 1, 1),)),
        (list[Point], [Point(1)]),
        (dict[int, date], {1: date(2024, 1, 1)}),
        (dict[str, Any], {"a": [1, {"b": None}], "null": 1.5}),
        (dict[str, object], {"a": [1]}),
        (object, [1, "a", None]),
        (Sequence[int], [1]),
    ],
)
def test_a_value_reaches_the_handler_as_it_was_passed(hint: object, value: object) -> None:
    received = round_trip(hint, value)
    assert received == value
    assert type(received) is type(value)


def test_what_json_would_hold_is_taken_for_the_annotated_type() -> None:
    assert round_trip(datetime, "2024-01-01T00:00:00Z") == datetime(2024, 1, 1, tzinfo=UTC)
    assert round_trip(Point, {"x": 1}) == Point(1)
    assert round_trip(Pair, (1,)) == Pair(1)
    assert round_trip(set[int], [1, 1]) == {1}
    assert round_trip(Colour, "red") is Colour.RED
    assert round_trip(Decimal, 0.1) == Decimal("0.1")
    assert round_trip(float, 1) == 1.0


def test_a_tuple_without_its_annotation_arrives_as_a_list() -> None:
    assert round_trip(Any, ("a", (1, 2))) == ["a", [1, 2]]


def test_objects_that_do_not_compare_are_taken() -> None:
    assert vars(round_trip(Plain, Plain(1)))["x"] == 1


def test_subclasses_of_plain_types_are_taken_as_these() -> None:
    assert round_trip(str, Text("a")) == "a"
    assert round_trip(int, Level.HIGH) == 3


def test_unannotated_parameters_take_any_json() -> None:
    assert stored(unannotated, {"a": 1}) == {"first": {"a": 1}}
    assert arguments(unannotated).bind('{"first": [1]}') == (([1], None), {})


@given(value=JSON)
@settings(max_examples=80, deadline=None)
def test_any_json_survives_and_the_checked_text_is_the_encoded_one(value: object) -> None:
    single = taking(Any)
    text = single.encode((value,), {}, limit=LIMIT)
    assert single.decode(text) == {"value": value}
    assert single.check({"value": value}, limit=LIMIT) == text
    assert single.check(json.dumps({"value": value}, indent=1), limit=LIMIT) == text


@pytest.mark.parametrize(
    "text, written",
    [
        ("[1e16]", "[10000000000000000.0]"),
        ('{"1e23":-1.5e19}', '{"1e23":-15000000000000000000.0}'),
        ('["a \\"1e23",1e23]', '["a \\"1e23",100000000000000000000000.0]'),
        ("1.2345678901234567e16", "12345678901234567.0"),
        ("1e-7", "1e-7"),
        ("1000000000000000.0", "1000000000000000.0"),
        ('"2e5"', '"2e5"'),
    ],
)
def test_large_floats_are_written_so_that_jsonb_keeps_them(text: str, written: str) -> None:
    assert keep_floats(text) == written
    assert msgspec.json.decode(text) == msgspec.json.decode(written)


@pytest.mark.parametrize("hint", [float, Any, dict, list[float], int | float, dict[str, Any]])
def test_a_large_float_is_stored_with_a_point(hint: Any) -> None:  # noqa: ANN401  # an annotation
    value = {float: 1e23, int | float: 1e23, Any: 1e23, list[float]: [1e23]}.get(hint, {"x": 1e23})
    task = taking(hint)
    for text in (task.encode((value,), {}, limit=LIMIT), task.check({"value": value}, limit=LIMIT)):
        assert "100000000000000000000000.0" in text
