"""Tasks, types and helpers that the tests of arguments share."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, NamedTuple, NewType, TypedDict, TypeVar

import msgspec
import pydantic
import pytest
from hypothesis import strategies as st

from rowlock.errors import InvalidArguments
from rowlock.queue.tasks.arguments import Arguments

LIMIT = 256 * 1024
SECRET = "hunter2"
T = TypeVar("T")


class Job(Generic[T]):
    """Stands for the class whose parameter the worker fills."""


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: int
    y: float | None = None


@dataclasses.dataclass(eq=False)
class Plain:
    x: int


@dataclasses.dataclass
class Checked:
    code: str

    def __post_init__(self) -> None:
        if self.code == SECRET:
            raise ValueError(f"{self.code} is refused")


class Address(msgspec.Struct):
    street: str


class Options(TypedDict):
    copies: int


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Order(pydantic.BaseModel):
    number: int
    due: datetime | None = None


class Unknown:
    """Has no form in JSON."""


Name = NewType("Name", str)


class Text(str):
    __slots__ = ()


async def send_email(recipient: str, subject: str, body: str = "", *, copies: int = 1) -> None: ...
def nothing() -> None: ...
def with_job(recipient: str, job: Job[Any], subject: str = "Hi") -> None: ...
def unannotated(first, second=None): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  # that is the point


def arguments(function: Callable[..., object]) -> Arguments:
    return Arguments(function, task="shop.task", injected=Job)


def taking(hint: object, default: object = dataclasses.MISSING) -> Arguments:
    """The arguments of a function with one parameter, `value`, of this annotation."""

    def handler(value): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  # annotated below

    handler.__annotations__ = {"value": hint}
    if default is not dataclasses.MISSING:
        handler.__defaults__ = (default,)
    return arguments(handler)


def stored(function: Callable[..., object], *args: object, **kwargs: object) -> object:
    data: object = json.loads(arguments(function).encode(args, kwargs, limit=LIMIT))
    return data


def round_trip(hint: object, value: object) -> object:
    single = taking(hint)
    return single.decode(single.encode((value,), {}, limit=LIMIT))["value"]


def refusal(attempt: Callable[[], object]) -> str:
    with pytest.raises(InvalidArguments) as caught:
        attempt()
    message = str(caught.value)
    assert message.startswith("Task 'shop.task': argument")
    assert SECRET not in message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return message


def refused(hint: object, value: object) -> str:
    message = refusal(lambda: taking(hint).encode((value,), {}, limit=LIMIT))
    assert "argument 'value'" in message
    return message


# Not st.characters(): its table of all of Unicode takes a second to build, once per checkout.
CHARACTERS = (st.integers(1, 0x7F) | st.integers(0x80, 0xD7FF) | st.integers(0xE000, 0x10FFFF)).map(chr)
TEXTS = st.text(CHARACTERS, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXTS, children, max_size=4),
    max_leaves=12,
)
