"""What JSON, PostgreSQL's `jsonb` and msgspec can hold together: the hooks, and the name of whatever does not fit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, time
from decimal import Decimal
from typing import Any, Protocol, TypeGuard

import msgspec
import msgspec.inspect

NESTING_LIMIT = 64
"""How many objects and arrays may be nested in one document, the outermost included."""

NUL_ESCAPE = "\\u0000"
"""How msgspec writes a NUL character. A text without it holds none; a text with it may hold none either."""

_SHALLOW_LENGTH = 2 * (NESTING_LIMIT + 1)


class _Model(Protocol):
    """The part of a pydantic model that is used, so that pydantic itself is never imported."""

    @classmethod
    def model_validate(cls, value: object) -> object: ...

    def model_dump(self, *, mode: str, by_alias: bool, round_trip: bool) -> object: ...


class HookRefusal(ValueError):
    """A value has no form in JSON, or a pydantic model refuses its data. Unlike pydantic, it shows no values."""


def _is_model(type_: type) -> TypeGuard[type[_Model]]:
    return hasattr(type_, "model_validate") and hasattr(type_, "model_dump")


def encode_hook(value: object) -> object:
    """Turn what msgspec cannot encode into something it can: pydantic models, subclasses of str, int and float."""
    if value is None or isinstance(value, (bool, tuple)):
        raise HookRefusal(f"a dict's key of type `{type_name(type(value))}` has no form in JSON")
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if not isinstance(value, type) and _is_model(type(value)):
        return value.model_dump(mode="json", by_alias=True, round_trip=True)  # type: ignore[attr-defined]  # a _Model
    raise HookRefusal(f"a value of type `{type_name(type(value))}` has no form in JSON")


def decode_hook(type_: type, value: object) -> object:
    """Build what msgspec cannot build from plain JSON data: pydantic models, and `object`, which is anything."""
    if not _is_model(type_):
        return value
    try:
        return type_.model_validate(value)
    except ValueError as error:
        raise HookRefusal(_without_values(type_, error)) from None


def _without_values(type_: type, error: ValueError) -> str:
    details: list[dict[str, Any]] = getattr(error, "errors", list)()
    reasons = [f"{'.'.join(map(str, detail['loc'][:1])) or 'model'}: {detail['type']}" for detail in details[:5]]
    return f"{type_name(type_)} refuses it" + (f" ({', '.join(reasons)})" if reasons else "")


def type_name(type_: object) -> str:
    """Name a type as its author writes it: `datetime`, `list[int]`, `shop.models.Order`."""
    if not isinstance(type_, type) or hasattr(type_, "__origin__"):
        return str(type_).replace("typing.", "")
    if type_.__module__ in {"builtins", "datetime", "uuid", "decimal", "typing"}:
        return type_.__qualname__
    return f"{type_.__module__}.{type_.__qualname__}"


def is_surely_shallow(text: str) -> bool:
    """Tell cheaply that a JSON text respects the nesting limit. False means that it has to be looked at."""
    return len(text) < _SHALLOW_LENGTH or text.count("[") + text.count("{") <= NESTING_LIMIT


def find_defect(tree: object, *, depth: int = 1) -> str | None:
    """Say what in a tree of plain data (`msgspec.to_builtins`) could not be stored; None if all of it can be.

    `depth` is the nesting at which the tree stands in its document.
    """
    if isinstance(tree, str):
        return _text_defect(tree)
    if isinstance(tree, float):
        return None if math.isfinite(tree) else "holds NaN or Infinity, which JSON does not have"
    if isinstance(tree, dict):
        children = [*tree.keys(), *tree.values()]
    elif isinstance(tree, (list, tuple, set, frozenset)):
        children = list(tree)
    else:
        return None
    if depth > NESTING_LIMIT:
        return f"is nested deeper than {NESTING_LIMIT} levels"
    return _first(find_defect(child, depth=depth + 1) for child in children)


def _text_defect(text: str) -> str | None:
    if "\0" in text:
        return "holds a NUL character (U+0000), which PostgreSQL cannot store"
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is not valid Unicode"
    return None


def find_change(before: object, after: object) -> str | None:
    """Say how a value would reach the handler as something else than what was passed; None if it would not.

    `after` is `before` written as JSON and read back by its annotation. What JSON itself would have held is fine: text
    for a date, a dict for a dataclass, a list for a set. So is a tuple that comes back as a list.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        strangers = [key for key in before if key not in after]
        if strangers:
            return f"a key of type `{type_name(type(strangers[0]))}` would become text. Annotate the type of the keys"
        return _first(find_change(value, after[key]) for key, value in before.items())
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        return _first(find_change(*pair) for pair in zip(before, after, strict=False))
    if _is_same(before, after):
        return None
    names = f"`{type_name(type(before))}`", f"`{type_name(type(after))}`"
    became = "another one" if names[0] == names[1] else names[1]
    return (
        f"a {names[0]} would reach the handler as {became}. Annotate the parameter with its type, or convert it first"
    )


def _is_same(before: object, after: object) -> bool:
    if before == after:
        return True
    if type(before) is type(after):  # not comparable, or holds what is not
        return not isinstance(before, (datetime, time))  # an offset with seconds is cut to minutes
    if isinstance(before, float):
        return isinstance(after, Decimal)
    return isinstance(before, (str, list, tuple, dict)) and not isinstance(after, (str, list, dict))


def _first(texts: Iterable[str | None]) -> str | None:
    return next((text for text in texts if text is not None), None)


def unsupported_type(hint: object) -> str | None:
    """Name the first type within an annotation that cannot be converted from and to JSON; None if all can be.

    Raises what msgspec or the annotation raises when it makes no sense as a whole, such as a union of two dataclasses.
    """
    msgspec.json.Decoder(hint, dec_hook=decode_hook)
    for node in _type_nodes(hint):
        if isinstance(node, msgspec.inspect.CustomType) and node.cls is not object and not _is_model(node.cls):
            return type_name(node.cls)
    return None


def is_scalar(hint: object) -> bool:
    """Tell whether values of this annotation hold no other values, so that they cannot be nested."""
    nesting = (msgspec.inspect.AnyType, msgspec.inspect.CustomType, msgspec.inspect.RawType)
    return not any(isinstance(node, nesting) or hasattr(node, "fields") or _items(node) for node in _type_nodes(hint))


def _items(node: msgspec.inspect.Type) -> list[msgspec.inspect.Type]:
    names = ("item_type", "key_type", "value_type")
    found = [getattr(node, name) for name in names if hasattr(node, name)]
    return [*found, *getattr(node, "item_types", ())]


def _type_nodes(hint: object) -> list[msgspec.inspect.Type]:
    pending = [msgspec.inspect.type_info(hint)]
    seen: dict[int, msgspec.inspect.Type] = {}
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen[id(node)] = node
        pending += [*_items(node), *getattr(node, "types", ()), *(field.type for field in getattr(node, "fields", ()))]
    return list(seen.values())
