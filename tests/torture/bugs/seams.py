"""Seams: lines of the package that carry a mark, so that a bug can be made there without a copy of their text.

A mark ends its line: `# seam: name` in Python, `-- seam: name` in SQL. In Python it covers the logical line: the whole
statement, however many lines it has, or the header of a block (`if …:`, `except …:`). In SQL it covers its own line.
Where that would be too long, the mark stands in the line above.
"""

from __future__ import annotations

import re
import tokenize
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Final

_MARK: Final = re.compile(r"[^\S\n]*(?:#|--) seam: (?P<name>.+)$", re.MULTILINE)
_NO_CODE: Final = (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT)


@cache
def marks(root: Path) -> tuple[tuple[str, str], ...]:
    """The name of each mark in the package below `root`, with the path of its file."""
    files = sorted(path for suffix in ("py", "sql") for path in root.joinpath("rowlock").rglob(f"*.{suffix}"))
    return tuple(
        (mark["name"], str(path.relative_to(root)))
        for path in files
        for mark in _MARK.finditer(path.read_text(encoding="utf-8"))
    )


def file_of(root: Path, seam: str) -> str:
    """The path of the file that has this seam. Raises `ValueError` unless exactly one has it, once."""
    files = [file for name, file in marks(root) if name == seam]
    if len(files) != 1:
        raise ValueError(f"The seam {seam!r} is marked {len(files)} times, not once: {', '.join(files)}")
    return files[0]


def mend(text: str, seam: str, *, old: str, new: str, is_python: bool) -> str:
    """The text with `new` for the code at the seam, or for `old` in it, whatever white space is between its words.

    Raises `ValueError` unless `old` is there exactly once.
    """
    (mark,) = (mark for mark in _MARK.finditer(text) if mark["name"] == seam)
    begin, end = _logical_line(text, mark.start()) if is_python else _line(text, mark.start())
    code = text[begin:end]
    if old:
        words = r"\s+".join(map(re.escape, old.split()))
        changed, found = re.subn(words, lambda _: new, code)
        if found != 1:
            raise ValueError(f"The seam {seam!r} has {found} times, not once: {old!r}")
    else:
        indent = " " * (begin - text.rfind("\n", 0, begin) - 1)
        changed = (new or ("pass" if is_python else "")).replace("\n", f"\n{indent}")
    return text[:begin] + changed + text[end:]


def assign(text: str, constant: str, value: str) -> str:
    """The text of a module with another value for this constant. Raises `ValueError` unless it is assigned once."""
    found = list(re.finditer(rf"^{constant}(?:: [^=\n]+)? = ", text, re.MULTILINE))
    if len(found) != 1:
        raise ValueError(f"{constant} is assigned {len(found)} times, not once.")
    begin = found[0].end()
    return text[:begin] + value + text[_logical_line(text, begin)[1] :]


def _line(text: str, at: int) -> tuple[int, int]:
    """Where the code of the line that has a mark here, or of the one below, begins and ends."""
    start, end = text.rfind("\n", 0, at) + 1, at
    if start == end:
        start = text.index("\n", at + 1) + 1
        end = text.index("\n", start)
    return start + len(text[start:end]) - len(text[start:end].lstrip()), end


def _logical_line(text: str, at: int) -> tuple[int, int]:
    """Where the logical line that has this place, or that follows it, begins and ends, without a comment behind it."""
    row = text.count("\n", 0, at) + 1
    code: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type == tokenize.NEWLINE:
            if row <= token.start[0]:
                return _offset(text, code[0].start), _offset(text, code[-1].end)
            code = []
        elif token.type not in _NO_CODE:
            code.append(token)
    raise ValueError(f"Line {row} is no part of a statement.")


def _offset(text: str, place: tuple[int, int]) -> int:
    row, column = place
    return sum(len(line) for line in text.splitlines(keepends=True)[: row - 1]) + column
