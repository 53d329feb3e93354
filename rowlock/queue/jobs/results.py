"""Make a handler's outcome storable: a result as JSON text, an exception as three bounded texts."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from types import TracebackType

import msgspec

from rowlock.errors import InvalidResult, RemoteError
from rowlock.queue.jobs.callables import refuse_unfinished
from rowlock.queue.jobs.json_values import (
    NESTING_LIMIT,
    NUL_ESCAPE,
    HookRefusal,
    decode_hook,
    encode_hook,
    find_change,
    find_defect,
    holds_classes,
    is_too_deep,
    keep_floats,
    plain_json,
    unsupported_type,
)
from rowlock.queue.jobs.lifecycle import Directive

MESSAGE_BYTES = 4 * 1024
TRACEBACK_BYTES = 32 * 1024

_TYPE_BYTES = 256
_MAX_EXCEPTIONS = 16
_MAX_FRAMES = 200
_MAX_DEPTH = 8
_MAX_NOTES = 16
_SURROGATES = re.compile("[\ud800-\udfff]")
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"

_encode = msgspec.json.Encoder(enc_hook=encode_hook).encode


def encode_result(value: object, *, limit: int, type_: object = None) -> str | None:
    """Return a handler's result as JSON text of at most `limit` bytes; None, which is stored as NULL, for None.

    Dates, UUIDs, dataclasses and the like become JSON values; the handler's return annotation converts them back. With
    that annotation as `type_` (see `checked_type`), both are compared. Raises `InvalidResult` for a value that JSON or
    PostgreSQL cannot contain, and for one that would be read back as another value.
    """
    if value is None:
        return None
    try:
        document = _encode(value)
    except Exception as error:  # noqa: BLE001  # properties and model_dump run foreign code
        refuse_unfinished(value)
        raise InvalidResult(_explain(error)) from None
    text = document.decode()
    if is_too_deep(text[:limit]):  # before the size, as where the interpreter refuses it
        raise InvalidResult(_explain(RecursionError()))
    if (written := keep_floats(text)) is not text:
        text, document = written, written.encode()
    if len(document) > limit:
        raise InvalidResult(
            f"The result must be at most {limit:,} bytes of JSON; got {len(document):,}. Store it elsewhere and "
            "return its key, or raise ROWLOCK_MAX_RESULT_BYTES."
        )
    # msgspec writes NaN as null.
    if "null" in text or NUL_ESCAPE in text:
        defect = find_defect(msgspec.to_builtins(value, enc_hook=encode_hook))
        if defect is not None:
            raise InvalidResult(f"The result {defect}. Remove or replace it before returning.")
    if type_ is not None and (change := find_change(value, decode_result(text, type_))) is not None:
        raise InvalidResult(f"The result: {change}.")
    return text


def decode_result(text: str | bytes | None, type_: object = None) -> object:
    """Return a stored result in the type of the handler's return annotation.

    Returns plain JSON data if there is no annotation, if it names types that cannot be converted, or if the result does
    not fit it, because an earlier version of the handler made it, for example. None for None.
    """
    if text is None:
        return None
    text = text.decode() if isinstance(text, bytes) else text
    try:
        return plain_json(text) if is_too_deep(text) else _decoder(type_)(text)
    except Exception:  # noqa: BLE001  # an unhashable annotation, or whatever a class's own checks raise
        return plain_json(text)


def checked_type(type_: object) -> object:
    """Return the annotation if results of it must be compared, because they contain objects of classes; else None."""
    try:
        return type_ if unsupported_type(type_) is None and holds_classes(type_) else None
    except Exception:  # noqa: BLE001  # annotations are code; msgspec raises several kinds
        return None


@lru_cache(maxsize=1024)
def _decoder(type_: object) -> Callable[[str], object]:
    if type_ is None:
        return plain_json
    try:
        is_usable = unsupported_type(type_) is None
    except Exception:  # noqa: BLE001  # annotations are code; msgspec raises several kinds
        is_usable = False
    return msgspec.json.Decoder(type_, dec_hook=decode_hook).decode if is_usable else plain_json


def _explain(error: Exception) -> str:
    match error:
        case RecursionError():
            reason = f"is nested deeper than {NESTING_LIMIT} levels, or contains itself"
        case UnicodeEncodeError():
            reason = "contains half of a surrogate pair, which is not valid Unicode"
        case HookRefusal():
            reason = f"cannot be stored: {error}"
        case _:
            reason = f"cannot be written as JSON: the conversion raises {type(error).__name__}"
    return f"The result {reason}. Return plain data, dates, UUIDs, dataclasses or models."


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorText:
    """The stored texts of an exception, all three made by `storable_text`."""

    type: str
    """The class with its module, `shop.errors.OutOfStock`; only the name of Python's and Rowlock's own: `OSError`."""

    message: str
    traceback: str
    """As Python prints it, with causes, contexts, notes and groups, never with the values of variables."""


def describe_error(
    exception: BaseException, *, message_limit: int = MESSAGE_BYTES, traceback_limit: int = TRACEBACK_BYTES
) -> ErrorText:
    """Describe an exception. This never raises, whatever the exception's own methods do. The limits are bytes."""
    if isinstance(exception, RemoteError):
        return ErrorText(type=exception.type, message=exception.message, traceback=exception.traceback)
    if isinstance(exception, Directive) and exception.__cause__ is not None:
        return _with_cause(exception, describe_error(exception.__cause__), message_limit)
    return ErrorText(
        type=storable_text(_type_name(exception), _TYPE_BYTES),
        message=storable_text(_message(exception), message_limit),
        traceback=storable_text(_safely(lambda: _format(exception, set()), "traceback"), traceback_limit),
    )


def _with_cause(directive: BaseException, cause: ErrorText, limit: int) -> ErrorText:
    """Describe `raise Retry(60) from error`: by the directive's reason, else the error's text, and its traceback."""
    what = f"{cause.type}: {cause.message}" if cause.message else cause.type
    return ErrorText(
        type=storable_text(_type_name(directive), _TYPE_BYTES),
        message=storable_text(_message(directive) or what, limit),
        traceback=cause.traceback,
    )


def storable_text(text: str, limit: int) -> str:
    """Return a text of at most `limit` bytes of UTF-8 that PostgreSQL's `text` can store.

    NUL becomes ␀ (U+2400) and half of a surrogate pair � (U+FFFD). A text that is too long keeps its beginning and its
    end, with the number of omitted characters in between.
    """
    text = str.__str__(text)
    if len(text) <= limit and text.isascii() and "\0" not in text:  # seam: storable text
        return text
    # A character takes at least one byte: text further than `limit` from both ends is never copied.
    length = len(text)
    head = _replace(text[:limit])
    if length <= limit and len(head.encode()) <= limit:
        return head
    half = (limit - len(_left_out(length).encode())) // 2
    if half <= 0:
        return head.encode()[:limit].decode(errors="ignore")
    head = head.encode()[:half].decode(errors="ignore")
    tail = _replace(text[-limit:]).encode()[-half:].decode(errors="ignore")
    return head + _left_out(length - len(head) - len(tail)) + tail


def _left_out(characters: int) -> str:
    return f"\n… {characters} characters left out …\n"


def _replace(text: str) -> str:
    return _SURROGATES.sub("\ufffd", text.replace("\0", "\u2400"))


def _safely(read: Callable[[], object], what: str) -> str:
    try:
        text = read()
        return str.__str__(text) if isinstance(text, str) else f"<no {what}: {type(text).__name__} instead of text>"
    except BaseException as error:  # noqa: BLE001  # whatever an exception's methods raise, SystemExit too, must end here
        return f"<no {what}: reading it raised {type(error).__name__}>"


def _type_name(exception: BaseException) -> str:
    class_ = type(exception)
    name = _safely(lambda: class_.__qualname__, "name")
    module = _safely(lambda: class_.__module__, "module")
    return name if module == "builtins" or module.startswith("rowlock.") else f"{module}.{name}"


def _message(exception: BaseException) -> str:
    return _safely(lambda: str(exception), "message")


def _format(exception: BaseException, seen: set[int], depth: int = 0) -> str:
    """Format an exception below those that led to it, oldest first, each one once.

    `traceback.format_exception` is not used: it copies huge messages and follows endless chains.
    """
    steps = _history(exception, seen)
    skipped = len(steps) - _MAX_EXCEPTIONS
    if skipped > 0:
        middle = _MAX_EXCEPTIONS // 2
        steps = [*steps[:middle], *steps[-middle:]]
        steps[middle] = (steps[middle][0], f"\n… {skipped} exceptions left out …\n\n")
    return "".join(chain.from_iterable((link, *_one(error, seen, depth)) for error, link in steps))


def _history(exception: BaseException, seen: set[int]) -> list[tuple[BaseException, str]]:
    """List an exception after its causes and contexts, each with the text that introduces it."""
    steps: list[tuple[BaseException, str]] = []
    current: BaseException | None = exception
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        earlier, link = current.__cause__, _CAUSE
        if earlier is None and not current.__suppress_context__:
            earlier, link = current.__context__, _CONTEXT
        steps.append((current, link if earlier is not None and id(earlier) not in seen else ""))
        current = earlier
    return steps[::-1]


def _one(exception: BaseException, seen: set[int], depth: int) -> list[str]:
    start = exception.__traceback__
    lines = ["Traceback (most recent call last):\n", *_frames(start)] if start is not None else []
    message = storable_text(_message(exception), MESSAGE_BYTES)
    lines.append(f"{_type_name(exception)}: {message}\n" if message else f"{_type_name(exception)}\n")
    notes = getattr(exception, "__notes__", ())
    if isinstance(notes, (list, tuple)):
        lines += [storable_text(note, MESSAGE_BYTES) + "\n" for note in notes[:_MAX_NOTES] if isinstance(note, str)]
    if isinstance(exception, BaseExceptionGroup):
        lines += _members(exception, seen, depth + 1)
    return lines


def _members(group: BaseExceptionGroup[BaseException], seen: set[int], depth: int) -> list[str]:
    members = group.exceptions
    if depth > _MAX_DEPTH:
        return [f"  … {len(members)} exceptions nested deeper left out …\n"]
    lines: list[str] = []
    for number, member in enumerate(members[:_MAX_EXCEPTIONS], start=1):
        text = storable_text(_format(member, seen, depth), TRACEBACK_BYTES) or "(shown above)\n"
        lines += [f"  --- {number} of {len(members)} ---\n", *("  " + line for line in text.splitlines(keepends=True))]
    if len(members) > _MAX_EXCEPTIONS:
        lines.append(f"  … {len(members) - _MAX_EXCEPTIONS} exceptions left out …\n")
    return lines


def _frames(start: TracebackType) -> list[str]:
    """Format the frames of a traceback: lines of code, never the values of variables."""
    frames = list(traceback.walk_tb(start))
    if len(frames) <= _MAX_FRAMES:
        return traceback.StackSummary.extract(frames).format()
    middle = _MAX_FRAMES // 2
    head, tail = (traceback.StackSummary.extract(part).format() for part in (frames[:middle], frames[-middle:]))
    return [*head, f"  … {len(frames) - _MAX_FRAMES} frames left out …\n", *tail]
