"""The actor of an operation: a name and a way in, as the table `operation` records them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from rowlock.errors import InvalidOption
from rowlock.words import quoted

LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who acts (`by`: a name for the audit, None if unknown), and through what. Raises `InvalidOption`."""

    by: str | None = None
    source: Literal["python", "cli", "http", "sql"] = "python"

    def acted_by(self, by: str | None) -> Origin:
        """The same origin with another actor; None keeps the actor. Raises `InvalidOption`."""
        return self if by is None else replace(self, by=by)

    def __post_init__(self) -> None:
        if self.by is not None and not _is_name(self.by):
            raise InvalidOption(
                f"by must be 1 to {LONGEST_NAME} printable characters; got {quoted(self.by)}. "
                "Omit it for an unknown actor."
            )
        if self.by is not None and type(self.by) is not str:
            object.__setattr__(self, "by", str.__str__(self.by))  # msgspec writes no subclass


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= LONGEST_NAME and value.isprintable()


__all__ = ["Origin"]
