"""Upcasters: convert arguments that were enqueued for an older version of a task to its present version."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar, cast

import msgspec

from rowlock.errors import InvalidArguments, InvalidOption
from rowlock.queue.jobs.callables import is_async
from rowlock.queue.jobs.json_values import encode_hook, plain_json
from rowlock.values import is_whole
from rowlock.words import quoted

if TYPE_CHECKING:
    from asyncpg import Record

Upcaster: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
Upcasting = TypeVar("Upcasting", bound=Upcaster)

_encode = msgspec.json.Encoder(enc_hook=encode_hook).encode


class Upcasters:
    """The upcasters of one task, each from one version of its arguments to the next."""

    __slots__ = ("_steps", "_task", "_version")

    def __init__(self, task: str, version: int) -> None:
        self._task = task
        self._version = version
        self._steps: dict[int, Upcaster] = {}

    def add(self, from_version: object, function: Upcaster) -> None:
        """Add an upcaster. Raises `InvalidOption`."""
        where = f"upcast of the task {quoted(self._task)}: from_version {quoted(from_version)}"
        if not is_whole(from_version, 1, self._version - 1):
            raise InvalidOption(
                f"{where} must be below the task's version {self._version}, because an upcaster leads from one version "
                f"to the next. Use 1 to {self._version - 1}."
                if self._version > 1
                else f"{where} must be below the task's version, which is 1. Give the task version=2 or higher."
            )
        if from_version in self._steps:
            other = _name(self._steps[from_version])
            raise InvalidOption(f"{where} has an upcaster already, {other}. Use one upcaster a version.")
        _check_callable(where, function)
        self._steps[from_version] = function

    @property
    def versions(self) -> list[int]:
        """The versions that this code understands, newest first: its own, and those that upcasters lead to it."""
        understood = [self._version]
        while understood[-1] - 1 in self._steps:
            understood.append(understood[-1] - 1)
        return understood

    @property
    def gaps(self) -> list[int]:
        """The versions without an upcaster although an older version has one, which then leads nowhere."""
        oldest = min(self._steps, default=self._version)
        return [version for version in range(oldest, self._version) if version not in self._steps]

    def bring(self, document: str, version: int) -> str:
        """Convert arguments (JSON text) of an understood version to the task's own. Raises `InvalidArguments`."""
        for step in range(version, self._version):
            function = self._steps[step]
            try:
                args = function(plain_json(document))
            except Exception as error:  # noqa: BLE001  # the application's code
                self._refuse(step, function, f"raised {type(error).__name__}", error)
            if not isinstance(args, dict):
                self._refuse(step, function, f"must return the arguments as a dict; got {type(args).__name__}")
            try:
                document = _encode(args).decode()
            except Exception as error:  # noqa: BLE001  # properties and model_dump run foreign code
                self._refuse(
                    step, function, f"returned a value that JSON cannot contain ({type(error).__name__})", error
                )
        return document

    def bring_row(self, claimed: Record) -> Record:
        """Convert a claimed row's arguments to the version of the task's code. Raises `InvalidArguments`."""
        version = claimed["args_version"]
        if version == self._version:
            return claimed
        args = self.bring(claimed["args"], version)
        return cast("Record", {**claimed, "args": args, "args_version": self._version})  # also read by column

    def _refuse(self, step: int, function: Upcaster, what: str, error: Exception | None = None) -> NoReturn:
        raise InvalidArguments(
            f"Task {quoted(self._task)}: arguments of version {step}: their upcaster {_name(function)} {what}."
        ) from error


def _check_callable(where: str, function: object) -> None:
    if not callable(function) or is_async(function):
        raise InvalidOption(f"{where} needs a plain function of (args); got {quoted(function)}.")
    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError) as error:
        raise InvalidOption(
            f"{where} needs a plain function of (args); got {_name(function)}: {error}. Give it this one parameter."
        ) from None


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


__all__ = ["Upcaster", "Upcasters", "Upcasting"]
