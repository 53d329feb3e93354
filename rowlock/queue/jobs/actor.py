"""Who does an operator's act, and from where: what the table `operation` keeps of it."""

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
        """The same, for an act of somebody else; None: of nobody else. Raises `InvalidOption`."""
        return self if by is None else replace(self, by=by)

    def __post_init__(self) -> None:
        if self.by is not None and not _is_name(self.by):
            raise InvalidOption(
                f"by {quoted(self.by)} is no name for the audit: use 1 to {LONGEST_NAME} printable characters, "
                "or leave it out."
            )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= LONGEST_NAME and value.isprintable()


__all__ = ["Origin"]
