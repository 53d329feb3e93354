"""Results and errors: whatever comes out of a handler can be stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pydantic
import pytest

from rowlock.errors import InvalidResult
from rowlock.queue.jobs.results import decode_result, describe_error, encode_result

LIMIT = 1024 * 1024
SECRET = "hunter2"


@dataclass
class Report:
    pages: int
    made_at: datetime | None = None


class Receipt(pydantic.BaseModel):
    number: int


class Unknown:
    """Has no form in JSON."""


def encoded(value: object) -> object:
    text = encode_result(value, limit=LIMIT)
    assert text is not None
    data: object = json.loads(text)
    return data


# Results


def test_no_result_is_stored_as_null() -> None:
    assert encode_result(None, limit=0) is None
    assert decode_result(None, int) is None


@pytest.mark.parametrize("value", [0, "", "null", False, [], {"a": None}, {"a": [1, 2.5, "ü\\u0000"]}, 2**100])
def test_plain_data_is_stored_as_it_is(value: object) -> None:
    assert encoded(value) == value
    assert decode_result(encode_result(value, limit=LIMIT)) == value


@pytest.mark.parametrize(
    "value, type_",
    [
        (datetime(2024, 1, 1, tzinfo=UTC), datetime),
        (UUID(int=1), UUID),
        (b"\x00", bytes),
        (Report(1), Report),
        ([Receipt(number=1)], list[Receipt]),
        ({1: {2, 3}}, dict[int, set[int]]),
    ],
)
def test_the_return_annotation_turns_a_result_back(value: object, type_: object) -> None:
    assert decode_result(encode_result(value, limit=LIMIT), type_) == value


@pytest.mark.parametrize("type_", [Unknown, "Missing", int | Unknown, [1], UUID | str, int, Report])
def test_an_annotation_that_cannot_be_used_leaves_plain_data(type_: object) -> None:
    assert decode_result('{"a": [1]}', type_) == {"a": [1]}


def endless() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


def nested(levels: int) -> object:
    value: object = "x" * 150
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value, reason",
    [
        (float("nan"), "contains NaN or Infinity"),
        ({"a": [float("inf")]}, "contains NaN or Infinity"),
        (Report(pages=float("nan")), "contains NaN or Infinity"),  # type: ignore[arg-type]  # a handler may be untyped
        ({"a": f"{SECRET}\0"}, "contains a NUL character"),
        ({"\0": 1}, "contains a NUL character"),
        (f"{SECRET}\ud800", "half of a surrogate pair"),
        (Unknown(), "Unknown` has no form in JSON"),
        ([Unknown], "has no form in JSON"),
        ({(1, 2): 3}, "key of type `tuple` has no form in JSON"),
        (endless(), "contains itself"),
        (nested(65), "nested deeper than 64 levels"),
        (nested(5000), "nested deeper than 64 levels"),
    ],
)
def test_a_result_that_cannot_be_stored_is_refused_without_being_shown(value: object, reason: str) -> None:
    with pytest.raises(InvalidResult) as caught:
        encode_result(value, limit=LIMIT)
    assert str(caught.value).startswith("The result ")
    assert reason in str(caught.value)
    assert SECRET not in str(caught.value)
    assert SECRET not in describe_error(caught.value).traceback


def test_64_levels_are_stored() -> None:
    assert encoded(nested(64)) == nested(64)


def test_a_result_larger_than_the_limit_is_refused_with_both_sizes() -> None:
    assert encode_result("ä" * 10, limit=22) is not None
    with pytest.raises(InvalidResult, match=r"must be at most 21 bytes of JSON; got 22\. Store it elsewhere"):
        encode_result("ä" * 10, limit=21)


def test_a_property_that_raises_is_an_invalid_result() -> None:
    class Broken(pydantic.BaseModel):
        @pydantic.model_serializer
        def serialise(self) -> str:
            raise LookupError(SECRET)

    with pytest.raises(InvalidResult) as caught:
        encode_result(Broken(), limit=LIMIT)
    assert SECRET not in str(caught.value)
