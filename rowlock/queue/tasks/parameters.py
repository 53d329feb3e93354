"""A task function's parameters: their names, types and defaults, and the msgspec structs that bind and check a call."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NoReturn

import msgspec

from rowlock.errors import InvalidOption
from rowlock.queue.jobs.json_values import type_name, unsupported_type

_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "is positional-only. Remove the `/`: stored arguments are keyed by name",
    inspect.Parameter.VAR_POSITIONAL: "accepts any number of arguments. Use one list instead",
    inspect.Parameter.VAR_KEYWORD: "accepts any keyword arguments. Use one dict instead",
}
_PLAIN_DEFAULTS = (bool, bytes, float, int, str, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The parameters of a task's function. The parameter for the job has no entry in `hints`."""

    hints: Mapping[str, Any]
    """The annotation of each parameter, in the function's order (keyword-only ones last)."""

    defaults: Mapping[str, object]
    keyword_only: tuple[str, ...]
    job_parameter: str | None
    job_position: int | None
    """The job's position among the positional arguments; None if there is no job, or if it is keyword-only."""

    signature: str
    """How the function is called, for messages: `send_email(recipient, *, copies=…)`."""

    is_positional: bool
    """Whether the values of all fields, in their order, are the call's positional arguments."""

    @classmethod
    def read(cls, function: Callable[..., object], *, task: str, injected: type | None) -> Parameters:
        """Read a function's signature. Raises `InvalidOption` for parameters that a stored call cannot fill."""
        reader = _Reader(function, task, injected)
        hints: dict[str, Any] = {}
        jobs: list[str] = []
        parameters = reader.parameters()
        for parameter in parameters:
            hint = reader.resolve(parameter)
            if injected is not None and injected in (hint, typing.get_origin(hint)):
                jobs.append(parameter.name)
            else:
                hints[parameter.name] = reader.storable(parameter, hint)
        if len(jobs) > 1:
            reader.refuse(jobs[1], f"is the second parameter for the job, after `{jobs[0]}`. Keep one")
        kept = [parameter for parameter in parameters if parameter.name in hints]
        positional = [parameter.name for parameter in parameters if not _is_keyword_only(parameter)]
        keyword_only = tuple(parameter.name for parameter in kept if _is_keyword_only(parameter))
        return cls(
            hints=hints,
            defaults={parameter.name: parameter.default for parameter in kept if _has_default(parameter)},
            keyword_only=keyword_only,
            job_parameter=jobs[0] if jobs else None,
            job_position=positional.index(jobs[0]) if jobs and jobs[0] in positional else None,
            signature=_call_shape(reader.name, kept),
            is_positional=not keyword_only and not jobs,
        )

    def struct(self, *, with_defaults: bool) -> type[msgspec.Struct]:
        """Make the struct whose fields are the parameters.

        With defaults it has the values of the handler's call. Without, an argument that was not passed stays `UNSET`,
        so that the JSON omits it.
        """
        fields = [self._field(name, with_defaults=with_defaults) for name in self.hints]
        count = len(fields) - len(self.keyword_only)
        positional = msgspec.defstruct("Arguments", fields[:count], forbid_unknown_fields=True, gc=False)
        if not self.keyword_only:
            return positional
        return msgspec.defstruct("Arguments", fields[count:], bases=(positional,), kw_only=True, gc=False)

    def arrange(self, values: tuple[Any, ...], job: object) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Arrange the values of the struct's fields and the job as a call's positional and keyword arguments."""
        place = self.job_position
        keywords: dict[str, Any] = {}
        if self.keyword_only:
            count = len(values) - len(self.keyword_only)
            keywords = dict(zip(self.keyword_only, values[count:], strict=True))
            values = values[:count]
        if place is not None:
            values = (*values[:place], job, *values[place:])
        elif self.job_parameter is not None:
            keywords[self.job_parameter] = job
        return values, keywords

    def _field(self, name: str, *, with_defaults: bool) -> tuple[str, Any] | tuple[str, Any, Any]:
        hint = self.hints[name]
        if name not in self.defaults:
            return name, hint
        if not with_defaults:
            return name, hint, msgspec.UNSET
        default = self.defaults[name]
        if isinstance(default, _PLAIN_DEFAULTS):
            return name, hint, default
        # The same object, as in Python: msgspec would refuse or copy a mutable one.
        return name, hint, msgspec.field(default_factory=lambda: default)


def resolved(
    function: Callable[..., object], *, task: str, injected: type | None
) -> list[tuple[inspect.Parameter, Any]]:
    """A function's parameters, each with its annotation. Raises `InvalidOption` as `Parameters.read` does."""
    reader = _Reader(function, task, injected)
    return [(parameter, reader.resolve(parameter)) for parameter in reader.parameters()]


class _Reader:
    """Read one function's signature, and name the function in errors."""

    def __init__(self, function: Callable[..., object], task: str, injected: type | None) -> None:
        self._function = function
        self._task = task
        self._injected = injected
        self.name: str = getattr(function, "__qualname__", type(function).__qualname__).rpartition(".")[2]

    def parameters(self) -> list[inspect.Parameter]:
        try:
            found = list(inspect.signature(self._function).parameters.values())
        except (NameError, TypeError, ValueError) as error:
            raise InvalidOption(
                f"Task {self._task!r}: the signature of {self.name}() cannot be read ({error}). "
                "Decorate a Python function whose annotations can be resolved"
            ) from error
        for parameter in found:
            if parameter.kind in _KINDS:
                self.refuse(parameter.name, _KINDS[parameter.kind])
            if parameter.name.startswith("__"):
                self.refuse(parameter.name, "starts with two underscores. Rename it")
        return found

    def resolve(self, parameter: inspect.Parameter) -> Any:  # noqa: ANN401  # an annotation can be anything
        if parameter.annotation is inspect.Parameter.empty:
            return Any
        module = getattr(inspect.unwrap(self._function), "__globals__", {})
        holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
        # Job is often imported for the type checker only.
        known = {} if self._injected is None else {self._injected.__name__: self._injected}
        try:
            hints = typing.get_type_hints(holder, {**known, **module}, include_extras=True)
        except Exception as error:  # noqa: BLE001  # annotations are code
            self.refuse(
                parameter.name,
                f"has the annotation {parameter.annotation!r}, which cannot be resolved ({error}). Import its names "
                "at the top of the module, not only for the type checker, and define its types outside of functions",
            )
        return Any if hints[parameter.name] is object else hints[parameter.name]

    def storable(self, parameter: inspect.Parameter, hint: Any) -> Any:  # noqa: ANN401  # an annotation can be anything
        try:
            culprit = unsupported_type(hint)
        except Exception as error:  # noqa: BLE001  # annotations are code; msgspec raises several kinds
            self.refuse(parameter.name, f"is annotated `{type_name(hint)}`, which cannot be checked: {error}")
        if culprit is not None:
            self.refuse(
                parameter.name,
                f"is annotated `{type_name(hint)}`, and `{culprit}` has no form in JSON. Use plain data, a date or "
                "time, UUID, Decimal, enum, dataclass, TypedDict, NamedTuple, msgspec Struct or pydantic model; "
                "for anything else, pass its key and load it in the handler",
            )
        return hint

    def refuse(self, parameter: str, reason: str) -> NoReturn:
        raise InvalidOption(f"Task {self._task!r}: parameter `{parameter}` of {self.name}() {reason}.") from None


def _is_keyword_only(parameter: inspect.Parameter) -> bool:
    return parameter.kind is inspect.Parameter.KEYWORD_ONLY


def _has_default(parameter: inspect.Parameter) -> bool:
    return parameter.default is not inspect.Parameter.empty


def _call_shape(name: str, parameters: list[inspect.Parameter]) -> str:
    words: list[str] = []
    for parameter in parameters:
        if _is_keyword_only(parameter) and "*" not in words:
            words.append("*")
        words.append(f"{parameter.name}=…" if _has_default(parameter) else parameter.name)
    return f"{name}({', '.join(words)})"
