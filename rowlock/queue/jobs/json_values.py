"""Convert values between Python, JSON and PostgreSQL's `jsonb` by msgspec, and name the values that do not fit."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from itertools import chain
from pathlib import PurePath
from typing import Any, Final, Protocol, TypeGuard

import msgspec
import msgspec.inspect

NESTING_LIMIT = 64
"""How many objects and arrays may be nested in one document, the outermost included."""

NUL_ESCAPE = "\\u0000"
"""The escape by which msgspec writes NUL. A text without it contains no NUL; a text with it may contain none either."""

LONGEST_NUMBER: Final = 4000
"""The most digits of an integer that is parsed: Python itself refuses more than 4,300."""

_LARGE = re.compile(r"\de\+?\d")
_NUMBER_WITH_EXPONENT = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.]*e\+?\d+', re.DOTALL)
_SHALLOW_LENGTH = 2 * (NESTING_LIMIT + 1)
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_AS_TEXT: Final = (PurePath, IPv4Address, IPv4Network, IPv6Address, IPv6Network, IPv4Interface, IPv6Interface)
"""Classes without a form of their own in JSON; the class reads its text back."""


class _Model(Protocol):
    """The part of a pydantic model that Rowlock uses, so that it never imports pydantic."""

    @classmethod
    def model_validate_json(cls, json_data: bytes) -> object: ...

    def model_dump(self, *, mode: str, by_alias: bool, round_trip: bool) -> object: ...


class HookRefusal(ValueError):
    """A value has no form in JSON, or a pydantic model refuses its data. Unlike pydantic, it shows no values."""


def _is_model(type_: type) -> TypeGuard[type[_Model]]:
    return hasattr(type_, "model_validate_json") and hasattr(type_, "model_dump")


def encode_hook(value: object) -> object:
    """Convert values that msgspec cannot encode: models, paths, addresses, subclasses of str, int and float."""
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
    if isinstance(value, _AS_TEXT):
        return str(value)
    raise HookRefusal(f"a value of type `{type_name(type(value))}` has no form in JSON")


def decode_hook(type_: type, value: object) -> object:
    """Build values that msgspec cannot build from plain JSON data: models, paths, addresses, and `object` (anything).

    A model reads JSON, not Python's data: a strict model accepts a date as text only in JSON.
    """
    if _is_text(type_):
        return _of_text(type_, value)
    if not _is_model(type_):
        return value
    try:
        return type_.model_validate_json(msgspec.json.encode(value))
    except ValueError as error:
        raise HookRefusal(_without_values(type_, error)) from None


def _is_text(type_: object) -> TypeGuard[type]:
    return isinstance(type_, type) and issubclass(type_, _AS_TEXT)


def _of_text(type_: type, value: object) -> object:
    if isinstance(value, str):
        try:
            return type_(value)
        except ValueError:
            pass
    raise HookRefusal(f"{type_name(type_)} does not read it")


def _without_values(type_: type, error: ValueError) -> str:
    details: list[dict[str, Any]] = getattr(error, "errors", list)()
    reasons = [f"{'.'.join(map(str, detail['loc'][:1])) or 'model'}: {detail['type']}" for detail in details[:5]]
    return f"{type_name(type_)} refuses it" + (f" ({', '.join(reasons)})" if reasons else "")


def type_name(type_: object) -> str:
    """Name a type as in source code: `datetime`, `list[int]`, `shop.models.Order`."""
    if not isinstance(type_, type) or hasattr(type_, "__origin__"):
        return str(type_).replace("typing.", "")
    if type_.__module__ in {"builtins", "datetime", "uuid", "decimal", "typing"}:
        return type_.__qualname__
    return f"{type_.__module__}.{type_.__qualname__}"


def keep_floats(text: str) -> str:
    """Write the large floats of msgspec's JSON text without an exponent, as `100000000000000000000000.0`.

    `jsonb` keeps the digits after a point, but no exponent: 1e23 would come back as a whole number, which is an int to
    Python, and differs from the float.
    """
    return text if _LARGE.search(text) is None else _NUMBER_WITH_EXPONENT.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    token = match[0]
    if token.startswith('"'):
        return token
    digits = format(Decimal(token), "f")
    return digits if "." in digits else f"{digits}.0"


def is_surely_shallow(text: str) -> bool:
    """Whether a cheap check shows that a JSON text respects the nesting limit. False: check it fully."""
    return len(text) < _SHALLOW_LENGTH or text.count("[") + text.count("{") <= NESTING_LIMIT


def is_too_deep(text: str) -> bool:
    """Whether a JSON text is nested deeper than the limit, independent of the interpreter's own limit."""
    return not is_surely_shallow(text) and any(depth > NESTING_LIMIT for _, _, depth in _containers(text))


def _containers(text: str) -> Iterable[tuple[int, bool, int]]:
    """Yield where each object and array of a JSON text begins (True) and ends, with its depth."""
    depth = 0
    for match in _STRUCTURE.finditer(text):
        token = match[0]
        if token in {"[", "{"}:
            depth += 1
            yield match.start(), True, depth
        elif token in {"]", "}"}:
            yield match.end(), False, depth
            depth -= 1


def plain_json(text: str) -> Any:  # noqa: ANN401  # any JSON
    """Parse any JSON text from the database.

    A number that Python cannot read, and a value nested deeper than `NESTING_LIMIT` levels, stays as JSON text.
    """
    if not is_surely_shallow(text):
        text = _cut(text)
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text, parse_int=_read_integer, parse_float=_read_float)


def _cut(text: str) -> str:
    """The JSON text, with each part that is nested too deep as a string."""
    parts: list[str] = []
    end = start = 0
    for place, is_begin, depth in _containers(text):
        if depth == NESTING_LIMIT + 1:
            if is_begin:
                start = place
            else:
                parts += [text[end:start], json.dumps(text[start:place], ensure_ascii=False)]
                end = place
    return "".join([*parts, text[end:]]) if parts else text


def _read_integer(digits: str) -> int | str:
    return digits if len(digits) > LONGEST_NUMBER else int(digits)


def _read_float(digits: str) -> float | str:
    value = float(digits)
    return value if math.isfinite(value) else digits


def find_defect(tree: object, *, depth: int = 1) -> str | None:
    """Describe the first value in a tree of plain data (`msgspec.to_builtins`) that cannot be stored; None if all can.

    `depth` is the nesting of the tree in its document.
    """
    if isinstance(tree, str):
        return _text_defect(tree)
    if isinstance(tree, float):
        return None if math.isfinite(tree) else "contains NaN or Infinity, which JSON does not have"
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
        return "contains a NUL character (U+0000), which PostgreSQL cannot store"
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "contains half of a surrogate pair, which is not valid Unicode"
    return None


def find_change(before: object, after: object, *, is_exact: bool = False) -> str | None:
    """Describe how a value changes when it is written as JSON and read back; None if it does not change.

    `after` is `before` written as JSON and read back by its annotation. `before` may be in JSON's own form: text for a
    date, a dict for a dataclass, a list for a set; but not in the fields of a model, which have the right types already
    (`is_exact`). A tuple may come back as a list everywhere.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        strangers = [key for key in before if key not in after]
        if strangers:
            return f"a key of type `{type_name(type(strangers[0]))}` would become text. Annotate the type of the keys"
        return _first(find_change(value, after[key], is_exact=is_exact) for key, value in before.items())
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        return _first(find_change(*pair, is_exact=is_exact) for pair in zip(before, after, strict=False))
    if _is_same(before, after) or (not is_exact and _is_form_of(before, after)):
        return None
    if type(before) is type(after) and (fields := _fields(before)) is not None:
        return _changed_field(before, fields, _fields(after) or {}, is_exact=is_exact or _is_model(type(before)))
    names = f"`{type_name(type(before))}`", f"`{type_name(type(after))}`"
    became = "another one" if names[0] == names[1] else names[1]
    return f"a {names[0]} would be read back as {became}. Annotate it with its type, or convert it first"


def _changed_field(value: object, before: dict[str, Any], after: dict[str, Any], *, is_exact: bool) -> str | None:
    for name, held in before.items():
        if name not in after or find_change(held, after[name], is_exact=is_exact) is not None:
            return f"`{name}` of a `{type_name(type(value))}` would be read back as something else. Pass plain data"
    return None


def _fields(value: object) -> dict[str, Any] | None:
    """The fields of a struct, dataclass, model or object without its own `__eq__`; None: compare it as a whole."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if _is_model(type(value)):
        names: Iterable[str] = getattr(type(value), "model_fields", ())
        more = (getattr(value, f"__pydantic_{kind}__", None) or {} for kind in ("extra", "private"))
        return {name: getattr(value, name, None) for name in names} | dict(chain.from_iterable(map(dict.items, more)))
    return getattr(value, "__dict__", {}) if type(value).__eq__ is object.__eq__ else None


def _is_same(before: object, after: object) -> bool:
    try:
        if before == after:
            return True
    except Exception:  # noqa: BLE001  # a class's own
        return False
    if isinstance(before, datetime) and isinstance(after, datetime):
        # To Python, times in an hour that the clocks repeat or skip equal nothing, so compare the clock time and the
        # offset; an offset with seconds was cut to minutes.
        return before.utcoffset() == after.utcoffset() and before.replace(tzinfo=None) == after.replace(tzinfo=None)
    return False


def _is_form_of(before: object, after: object) -> bool:
    """Whether plain data became a value of its annotation."""
    if isinstance(before, float):
        return isinstance(after, Decimal)
    return isinstance(before, (str, list, tuple, dict)) and not isinstance(after, (str, list, dict))


def _first(texts: Iterable[str | None]) -> str | None:
    return next((text for text in texts if text is not None), None)


def unsupported_type(hint: object) -> str | None:
    """Name the first type within an annotation that cannot be converted from and to JSON; None if all can be.

    Raises the error of msgspec or of the annotation if the whole is invalid, such as a union of two dataclasses.
    """
    msgspec.json.Decoder(hint, dec_hook=decode_hook)
    for node in _type_nodes(hint):
        if isinstance(node, msgspec.inspect.CustomType) and not (
            node.cls is object or _is_model(node.cls) or _is_text(node.cls)
        ):
            return type_name(node.cls)
    return None


def holds_classes(hint: object) -> bool:
    """Whether values of this annotation are, or contain, objects of classes with fields, or of foreign classes."""
    return any(isinstance(node, msgspec.inspect.CustomType) or hasattr(node, "fields") for node in _type_nodes(hint))


def is_scalar(hint: object) -> bool:
    """Whether values of this annotation contain no other values, so that they cannot be nested."""
    nesting = (msgspec.inspect.AnyType, msgspec.inspect.CustomType, msgspec.inspect.RawType)
    return not any(isinstance(node, nesting) or hasattr(node, "fields") or _items(node) for node in _type_nodes(hint))


def holds_floats(hint: object) -> bool:
    """Whether a value of this annotation can be, or contain, a float."""
    kinds = (msgspec.inspect.FloatType, msgspec.inspect.AnyType, msgspec.inspect.CustomType, msgspec.inspect.RawType)
    return any(isinstance(node, kinds) for node in _type_nodes(hint))


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
