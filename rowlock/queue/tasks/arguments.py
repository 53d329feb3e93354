"""Convert a task's arguments: from a call to stored JSON, and from that JSON to the handler's call.

One JSON object, keyed by parameter names, stores them. It *omits* arguments that a call leaves to their defaults: a
default is part of the function's code, and the job runs, and is replayed, with the code of that day. Stored defaults
would fail on a worker one deploy older (which does not know the new optional parameter) or newer (which has dropped
it). To freeze a value at the enqueue, pass it: a passed argument is stored, even if it equals the default.

Large floats are written without an exponent: `jsonb` would make an int of them.

No message shows a value, because arguments may be secrets; for the same reason no error has a cause.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from rowlock.errors import InvalidArguments, InvalidOption
from rowlock.queue.jobs.json_values import (
    NESTING_LIMIT,
    NUL_ESCAPE,
    HookRefusal,
    decode_hook,
    encode_hook,
    find_change,
    find_defect,
    holds_floats,
    is_scalar,
    is_surely_shallow,
    is_too_deep,
    keep_floats,
    type_name,
)
from rowlock.queue.tasks.parameters import Parameters
from rowlock.words import quoted, typed

_encode = msgspec.json.Encoder(enc_hook=encode_hook).encode
_encode_sorted = msgspec.json.Encoder(enc_hook=encode_hook, order="sorted").encode
_astuple = msgspec.structs.astuple
_NO_KEYWORDS: Mapping[str, Any] = {}
_PATH = re.compile(r"\$\.(\w+)(.*)")
_BEFORE_A_VALUE = ("Invalid enum value", "Invalid value")
_MEANINGS = (
    (RecursionError, "", f"it is nested deeper than {NESTING_LIMIT} levels, or contains itself"),
    (UnicodeEncodeError, "", "it contains half of a surrogate pair, which is not valid Unicode"),
    (UnicodeDecodeError, "", "the JSON is not UTF-8"),
    (ValueError, "Exceeds the limit", "it contains an integer of more digits than Python reads"),
)


class Arguments:
    """The arguments of one task, read once from its function's signature.

    `injected` is the class of the parameter that the worker fills, not the caller; `job_parameter` is its name.
    Unannotated parameters accept any JSON. Raises `InvalidOption` for a signature that JSON cannot fill.
    """

    __slots__ = (
        "_call",
        "_decode_call",
        "_decode_run",
        "_has_floats",
        "_parameters",
        "_scalar",
        "_task",
        "job_parameter",
    )

    def __init__(self, function: Callable[..., object], *, task: str, injected: type | None) -> None:
        self._task = task
        self._parameters = parameters = Parameters.read(function, task=task, injected=injected)
        self.job_parameter = parameters.job_parameter
        self._call = parameters.struct(with_defaults=False)
        self._decode_call = msgspec.json.Decoder(self._call, dec_hook=decode_hook).decode
        run = parameters.struct(with_defaults=True) if parameters.defaults else self._call
        self._decode_run = msgspec.json.Decoder(run, dec_hook=decode_hook).decode
        self._scalar = all(is_scalar(hint) for hint in parameters.hints.values())
        self._has_floats = any(holds_floats(hint) for hint in parameters.hints.values())

    def encode(self, args: tuple[object, ...], kwargs: Mapping[str, object], *, limit: int) -> str:
        """Bind a call as Python would and return its arguments as JSON text of at most `limit` bytes.

        Raises `InvalidArguments` for a call that does not fit, and for values that would reach the handler changed.
        """
        try:
            call = self._call(*args, **kwargs)
        except TypeError as error:
            self._refuse_call(error)
        document = self._encode(call)
        try:
            decoded = self._decode_call(document)
            is_same = decoded == call
        except Exception as error:  # noqa: BLE001  # whatever a class's own checks raise
            self._refuse(error)
        text = document.decode()
        if self._has_floats and (written := keep_floats(text)) is not text:
            text, document = written, written.encode()
        if len(document) > limit:
            if is_too_deep(text[:limit]):
                self._refuse(RecursionError())
            self._refuse_size(len(document), limit)
        if not is_same or NUL_ESCAPE in text or not (self._scalar or is_surely_shallow(text)):
            self._examine(call)
            self._compare(call, decoded)
        return text

    def check(self, document: object, *, limit: int) -> str:
        """Validate a JSON object from outside and return it as `encode` would write it.

        A `str` or `bytes` is JSON text, anything else parsed JSON. Raises `InvalidArguments`.
        """
        if not isinstance(document, (str, bytes)):
            self._examine(document)
            document = self._encode(document)
        try:
            call = self._decode_call(document)
        except Exception as error:  # noqa: BLE001  # whatever a class's own checks raise
            self._refuse(error)
        self._examine(call)
        canonical = keep_floats(self._encode(call).decode())
        if (size := len(canonical.encode())) > limit:
            self._refuse_size(size, limit)
        return canonical

    def decode(self, text: str | bytes) -> dict[str, Any]:
        """Turn stored arguments into keyword arguments of the annotated types, the function's defaults included.

        Raises `InvalidArguments` if they do not fit the function (any more).
        """
        return msgspec.structs.asdict(self._run(text))

    def bind(self, text: str | bytes, job: object = None) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Turn stored arguments into the `(positional, keywords)` of a call of the function: faster than `decode`.

        `job` goes to the function's job parameter. Raises `InvalidArguments` like `decode`.
        """
        try:
            values = _astuple(self._decode_run(text))
        except Exception as error:  # noqa: BLE001  # whatever a class's own checks raise
            self._refuse(error)
        if self._parameters.is_positional:
            return values, _NO_KEYWORDS
        return self._parameters.arrange(values, job)

    def check_names(self, names: Sequence[str]) -> None:
        """Check that the function has parameters of these names. Raises `InvalidOption`."""
        for name in names:
            if name not in self._parameters.hints:
                known = ", ".join(self._parameters.hints) or "none"
                raise InvalidOption(f"Task {quoted(self._task)} has no argument {quoted(name)}: it has {known}.")

    def canonical(self, text: str, names: Sequence[str] | None) -> bytes:
        """Some of the arguments as canonical JSON: equal calls give equal JSON.

        `names` selects arguments, including those left to their defaults; None selects all that differ from their
        defaults, so that a new parameter with a default changes nothing. Sets and keys are sorted. Raises
        `InvalidArguments`.
        """
        values = self.decode(text)
        if names is None:
            defaults = self._parameters.defaults
            chosen = {
                name: value
                for name, value in values.items()
                if name not in defaults or not (value is defaults[name] or value == defaults[name])
            }
        else:
            chosen = {name: values[name] for name in names}
        try:
            return _encode_sorted(chosen)
        except Exception as error:  # noqa: BLE001  # properties and model_dump run foreign code
            self._refuse(error, culprit=self._culprit(chosen))

    def _run(self, text: str | bytes) -> msgspec.Struct:
        try:
            return self._decode_run(text)
        except Exception as error:  # noqa: BLE001  # whatever a class's own checks raise
            self._refuse(error)

    def _encode(self, value: object) -> bytes:
        try:
            return _encode(value)
        except Exception as error:  # noqa: BLE001  # properties and model_dump run foreign code
            self._refuse(error, culprit=self._culprit(value))

    def _culprit(self, value: object) -> str | None:
        """Find the argument that msgspec could not encode: its error does not name it."""
        fields = msgspec.structs.asdict(value) if isinstance(value, msgspec.Struct) else value
        for name, argument in fields.items() if isinstance(fields, dict) else ():
            try:
                _encode(argument)
            except Exception:  # noqa: BLE001  # the same as in _encode
                return name if name in self._parameters.hints else None
        return None

    def _examine(self, value: object) -> None:
        """Refuse values that msgspec would write as another value, or that PostgreSQL would refuse."""
        try:
            tree = msgspec.to_builtins(value, enc_hook=encode_hook)
        except Exception as error:  # noqa: BLE001  # properties and model_dump run foreign code
            self._refuse(error, culprit=self._culprit(value))
        if not isinstance(tree, dict):
            self._fail(f"must be one JSON object keyed by parameter names; got `{type_name(type(tree))}`")
        for name, argument in tree.items():
            defect = find_defect(name) or find_defect(argument, depth=2)
            if defect is not None:
                self._fail(f"it {defect}. Remove or replace it", name if name in self._parameters.hints else None)

    def _compare(self, call: msgspec.Struct, decoded: msgspec.Struct) -> None:
        for name in self._parameters.hints:
            change = find_change(getattr(call, name), getattr(decoded, name))
            if change is not None:
                self._fail(change, name)

    def _refuse_call(self, error: TypeError) -> NoReturn:
        self._fail(f"{_lower(str(error))}. The call is {self._parameters.signature}")

    def _refuse_size(self, size: int, limit: int) -> NoReturn:
        self._fail(
            f"must be at most {limit:,} bytes of JSON; got {size:,}. Store the large part elsewhere and pass its key, "
            "or raise ROWLOCK_MAX_ARGS_BYTES"
        )

    def _refuse(self, error: Exception, *, culprit: str | None = None) -> NoReturn:
        what, path = _explain(error)
        match = _PATH.fullmatch(path)
        parameter, place = match.groups() if match else (culprit, "")
        if parameter is None:
            self._fail(f"{what}. The call is {self._parameters.signature}")
        if place:
            what = f"{what} at `{parameter}{place}`"
        fitting = type_name(self._parameters.hints.get(parameter))
        self._fail(typed(f"{what}. Pass a value that fits `{fitting}`"), parameter)

    def _fail(self, what: str, parameter: str | None = None) -> NoReturn:
        subject = "arguments" if parameter is None else f"argument {quoted(parameter)}"
        raise InvalidArguments(f"Task {quoted(self._task)}: {subject}: {what}.") from None


def _explain(error: Exception) -> tuple[str, str]:
    """Describe an error without the values that its own text may show, and its place, as msgspec's path."""
    text = str(error)
    if isinstance(error, msgspec.ValidationError):
        what, _, path = text.rpartition(" - at ") if text.endswith("`") and " - at " in text else (text, "", "")
        if error.__cause__ is not None and not isinstance(error.__cause__, HookRefusal):
            what = f"its class refuses it ({type(error.__cause__).__name__})"
        what = next((words for words in _BEFORE_A_VALUE if what.startswith(words)), what)
        return _lower(what), path.removeprefix("`key` in ").strip("`")
    if isinstance(error, (msgspec.DecodeError, HookRefusal)):
        return _lower(text), ""
    meaning = next(
        (words for kind, start, words in _MEANINGS if isinstance(error, kind) and text.startswith(start)), None
    )
    return meaning or f"writing or reading it raises {type(error).__name__}", ""


def plain_document(task: str, args: Mapping[str, object], limit: int) -> str:
    """Write the arguments of a task whose function is not here as JSON text; only JSON's own rules apply.

    Raises `InvalidArguments`.
    """
    if not isinstance(args, dict) or (defect := find_defect(args)) is not None:
        raise InvalidArguments(
            f"The arguments of {task} are not usable: {defect if isinstance(args, dict) else 'not an object'}."
        )
    try:
        text = keep_floats(msgspec.json.encode(args).decode())
    except TypeError as error:
        raise InvalidArguments(f"The arguments of {task} are not usable: {error}. Pass plain data.") from None
    if len(text.encode()) > limit:
        raise InvalidArguments(f"The arguments of {task} must be at most {limit} bytes of JSON.")
    return text


def _lower(text: str) -> str:
    return text if text.startswith("JSON") else text[:1].lower() + text[1:]
