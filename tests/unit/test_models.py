"""Models, dataclasses and times as arguments and results: read back as the same value, or refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from ipaddress import IPv4Address, IPv6Interface
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import pydantic
import pytest

from rowlock.errors import InvalidOption, InvalidResult
from rowlock.queue.jobs.json_values import NESTING_LIMIT, plain_json
from rowlock.queue.jobs.results import checked_type, decode_result, encode_result
from tests.unit.arguments_examples import LIMIT, SECRET, refused, round_trip, taking

BERLIN = ZoneInfo("Europe/Berlin")


class Login(pydantic.BaseModel):
    user: str
    password: pydantic.SecretStr = pydantic.SecretStr("")


class Hidden(pydantic.BaseModel):
    name: str
    note: str = pydantic.Field(default="", exclude=True)


class Renamed(pydantic.BaseModel):
    number: int = pydantic.Field(default=0, validation_alias="no", serialization_alias="number")


class Either(pydantic.BaseModel):
    when: datetime | str


class Stripped(pydantic.BaseModel):
    text: str

    @pydantic.field_validator("text")
    @classmethod
    def _one_less(cls, text: str) -> str:
        return text[1:]


class Rounded(pydantic.BaseModel):
    price: float

    @pydantic.field_serializer("price")
    def _two_digits(self, price: float) -> float:
        return round(price, 2)


class Animal(pydantic.BaseModel):
    name: str


class Dog(Animal):
    tricks: int


class Owner(pydantic.BaseModel):
    pet: Animal


class Cached(pydantic.BaseModel):
    name: str
    _secret: str = pydantic.PrivateAttr(default="")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    on: date
    at: datetime
    tags: set[str]
    raw: bytes = b""


@dataclasses.dataclass
class Plain:
    name: str


@dataclasses.dataclass
class More(Plain):
    extra: int = 0


@dataclasses.dataclass
class Holder:
    inner: Plain


@dataclasses.dataclass(eq=False)
class Incomparable:
    login: Login


def _cached(secret: str) -> Cached:
    made = Cached(name="a")
    made._secret = secret
    return made


CHANGED: list[tuple[Any, Any]] = [
    (Login, Login(user="ada", password=pydantic.SecretStr(SECRET))),
    (Hidden, Hidden(name="a", note="b")),
    (Renamed, Renamed(no=7)),  # type: ignore[call-arg]  # by its alias
    (Either, Either(when="2024-01-01T00:00:00Z")),
    (Stripped, Stripped(text="abc")),
    (Rounded, Rounded(price=1.234)),
    (Owner, Owner(pet=Dog(name="Rex", tricks=3))),
    (Animal, Dog(name="Rex", tricks=3)),
    (Cached, _cached("x")),
    (Holder, Holder(More("a", 1))),
    (Plain, More("a", 1)),
    (list[Login], [Login(user="ada", password=pydantic.SecretStr(SECRET))]),
    (dict[str, Hidden], {"a": Hidden(name="a", note="b")}),
    (Incomparable, Incomparable(Login(user="ada", password=pydantic.SecretStr(SECRET)))),
]
KEPT: list[tuple[Any, Any]] = [
    (Login, Login(user="ada")),
    (Hidden, Hidden(name="a")),
    (Either, Either(when=datetime(2024, 1, 1, tzinfo=UTC))),
    (Either, Either(when="tomorrow")),
    (Rounded, Rounded(price=1.5)),
    (Owner, Owner(pet=Animal(name="Rex"))),
    (Cached, _cached("")),
    (Strict, Strict(on=date(2024, 1, 1), at=datetime(2024, 1, 1, tzinfo=UTC), tags={"a"}, raw=b"x")),
    (list[Strict] | None, [Strict(on=date(2024, 1, 1), at=datetime(2024, 1, 1, tzinfo=UTC), tags=set())]),
    (Holder, Holder(Plain("a"))),
    (Path, Path("/tmp/a b")),  # nothing is written there
    (PurePosixPath | None, PurePosixPath("a")),
    (IPv4Address, IPv4Address("192.0.2.1")),
    (list[IPv6Interface], [IPv6Interface("2001:db8::1/64")]),
]


@pytest.mark.parametrize("hint, value", CHANGED)
def test_an_argument_that_its_class_writes_as_something_else_is_refused(hint: object, value: object) -> None:
    assert "read back as" in refused(hint, value)


@pytest.mark.parametrize("hint, value", CHANGED)
def test_a_result_that_its_class_writes_as_something_else_is_refused(hint: object, value: object) -> None:
    with pytest.raises(InvalidResult) as caught:
        encode_result(value, limit=LIMIT, type_=checked_type(hint))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("hint, value", KEPT)
def test_models_paths_and_addresses_are_read_back_as_they_were(hint: object, value: object) -> None:
    assert round_trip(hint, value) == value
    assert decode_result(encode_result(value, limit=LIMIT, type_=checked_type(hint)), hint) == value


def test_a_result_that_is_plain_data_need_not_fit_its_annotation() -> None:
    assert encode_result({"a": 1}, limit=LIMIT, type_=checked_type(Plain)) == '{"a":1}'


def test_a_path_or_address_is_read_from_text_alone() -> None:
    assert "IPv4Address does not read it" in refused(IPv4Address, "no address")
    assert "Path does not read it" in refused(Path, 7)


def test_a_union_of_two_models_is_refused_when_the_task_is_defined() -> None:
    with pytest.raises(InvalidOption, match="more than one"):
        taking(Login | Hidden)


# Times


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("moment", [datetime(2024, 10, 27, 2, 30), datetime(2024, 3, 31, 2, 30)])  # noqa: DTZ001  # Berlin's
def test_a_time_in_the_hour_that_the_clocks_repeat_or_skip_is_taken(moment: datetime, fold: int) -> None:
    given = moment.replace(tzinfo=BERLIN, fold=fold)
    for hint, value, place in (
        (datetime, given, None),
        (list[datetime], [given], 0),
        (dict[str, datetime], {"at": given}, "at"),
    ):
        received: Any = round_trip(hint, value)
        received = received if place is None else received[place]
        assert received.utcoffset() == given.utcoffset()
        assert received.timestamp() == given.timestamp()


def test_an_offset_with_seconds_is_refused_within_a_model_too() -> None:
    odd = datetime(1900, 1, 1, tzinfo=timezone(timedelta(seconds=3601)))
    assert "read back as" in refused(datetime, odd)


# What Python cannot read


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


@pytest.mark.parametrize("levels", [65, 990, 5000])
def test_what_is_nested_too_deep_stays_as_text_below_the_limit(levels: int) -> None:
    data = plain_json(nested(levels))
    for _ in range(NESTING_LIMIT):
        data = data["a"]
    assert json.loads(data) if levels < 500 else data == nested(levels - NESTING_LIMIT)
    assert json.dumps(plain_json(f'[{nested(levels)}, "]}}", {{"b": [2, "\\"["]}}]')).endswith(
        '"]}", {"b": [2, "\\"["]}]'
    )


def test_what_respects_the_limit_is_read_however_much_it_is() -> None:
    data = [[{"a": "[" * 100}] * 10, *[[n] for n in range(100)], "{\\\\"]
    assert plain_json(json.dumps(data)) == data
    deepest = json.loads(nested(NESTING_LIMIT))
    assert plain_json(nested(NESTING_LIMIT)) == deepest


@pytest.mark.parametrize("number", ["1" * 5000, f"1{'0' * 400}.5", f"-1{'0' * 400}.5"])
def test_a_number_that_python_cannot_read_stays_as_text(number: str) -> None:
    assert plain_json(f'{{"a": [{number}, 1]}}') == {"a": [number, 1]}


@pytest.mark.parametrize("levels", [65, 900, 2_000, 5_000, 200_000])
@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value}], ids=["list", "dict"])
def test_a_result_has_the_same_limit_on_every_python(levels: int, wrap: Callable[[object], object]) -> None:
    value: object = 1
    for _ in range(levels):
        value = wrap(value)
    for limit in (LIMIT, 500):
        with pytest.raises(InvalidResult, match="nested deeper than 64 levels"):
            encode_result(value, limit=limit)
    assert "nested deeper than 64 levels" in refused(Any, value)
    assert "nested deeper than 64 levels" in refused(Annotated[list[Any] | dict[str, Any], "any"], value)
    while isinstance(value, (list, dict)):  # freed level by level
        value = value.pop() if isinstance(value, list) else value.popitem()[1]
