"""The messages between a worker and the processes of its tasks: JSON after a header, without pickled objects."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

HEAD: Final = struct.Struct("!IQ")
"""The length of the text in bytes, and the number of the order; an answer has the number of its order."""


class SetUp(msgspec.Struct, tag=True, frozen=True):
    """To a new process: modules to import, lifespans to open, and limits. `memory_limit` is bytes, 0 for none."""

    modules: list[str]
    lifespans: list[tuple[str, str]]
    """Each by its module and its name in the module."""
    memory_limit: int
    max_result_bytes: int


class Call(msgspec.Struct, tag=True, frozen=True):
    """To a process: run this job. `job` is the job's row, `args` its arguments as JSON text."""

    task: str
    module: str
    function: str
    args: str
    job: dict[str, Any]


class Ready(msgspec.Struct, tag=True, frozen=True):
    """From a process: it has imported the modules that it could; or it begins the job."""


class Returned(msgspec.Struct, tag=True, frozen=True):
    """From a process: the task's return value as JSON text; None for None."""

    result: str | None


class Raised(msgspec.Struct, tag=True, frozen=True):
    """From a process: the error that the task raised. `kinds` are the full names of the class and its bases."""

    error_type: str
    message: str
    traceback: str
    kinds: list[str]


class Decided(msgspec.Struct, tag=True, frozen=True):
    """From a process: the directive that the task raised or returned. `delay` is seconds, `cause` its `__cause__`."""

    directive: str
    reason: str
    delay: float | None
    cause: Raised | None = None


Order: TypeAlias = SetUp | Call
Answer: TypeAlias = Ready | Returned | Raised | Decided

read_order: Final[Callable[[bytes], Order]] = msgspec.json.Decoder(Order).decode
read_answer: Final[Callable[[bytes], Answer]] = msgspec.json.Decoder(Answer).decode


def packed(message: Order | Answer, number: int) -> bytes:
    """The message as bytes for the socket."""
    text = msgspec.json.encode(message)
    return HEAD.pack(len(text), number) + text


__all__ = [
    "HEAD",
    "Answer",
    "Call",
    "Decided",
    "Order",
    "Raised",
    "Ready",
    "Returned",
    "SetUp",
    "packed",
    "read_answer",
    "read_order",
]
