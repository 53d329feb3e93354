"""The pages of the documentation, and the examples in them, read as data."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from rowlock import Rowlock

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^```(?P<language>\w*)(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_REASON = re.compile(r'notest="(?P<reason>[^"]+)"')
_MODULE = re.compile(r'module="(?P<module>\w+)"')
_HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One fenced block. `reason` says why no test runs it; None: a test does. `module`: it is a file of this name."""

    page: Path
    heading: str
    line: int
    language: str
    text: str
    reason: str | None
    module: str | None

    @property
    def place(self) -> str:
        """Where it is, for people: `docs/tasks.md:12`."""
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    """A page's path inside the repository."""
    return str(page.relative_to(ROOT))


def examples(page: Path, *languages: str) -> list[Example]:
    """The fenced blocks of a page in these languages, in their order."""
    return [example for example in _all(page) if example.language in languages]


def _all(page: Path) -> Iterator[Example]:
    text = page.read_text()
    outside = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)  # `# …` in a block of code is not a heading
    offsets = {outside[: found.start()].count("\n"): found["title"] for found in _HEADING.finditer(outside)}
    for found in _FENCE.finditer(text):
        line = text[: found.start("text")].count("\n")
        reason = _REASON.search(found["info"])
        module = _MODULE.search(found["info"])
        yield Example(
            page=page,
            heading=next((title for at, title in reversed(offsets.items()) if at < line), ""),
            line=line + 1,
            language=found["language"],
            text=found["text"],
            reason=reason["reason"] if reason else None,
            module=module["module"] if module else None,
        )


async def run_page(
    page: Path, names: dict[str, Any], connection: asyncpg.Connection[asyncpg.Record]
) -> AsyncIterator[Example]:
    """Run a page's Python and SQL from top to bottom, all Python in one namespace; yields each block that ran.

    A block that waits for results runs beside a worker; before SQL, all that is due is done.
    """
    with _importable_folder() as folder:
        for example in examples(page, "python", "sql"):
            if example.reason is not None:
                continue
            if example.language == "sql":
                await drain(names)
                await connection.execute(example.text)
            elif example.module is not None:
                (folder / f"{example.module}.py").write_text(example.text)
                module = vars(importlib.import_module(example.module))
                names.update({name: value for name, value in module.items() if not name.startswith("__")})
            else:
                async with AsyncExitStack() as stack:
                    if ".result(" in example.text and isinstance(app := names.get("app"), Rowlock):
                        await stack.enter_async_context(app.worker(concurrency=10))
                    await run_python(example, names)
            yield example
        await drain(names)


@contextmanager
def _importable_folder() -> Iterator[Path]:
    """A folder for the modules of one page, which programs that the examples start find as well."""
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        try:
            yield Path(folder)
        finally:
            sys.path.remove(folder)
            for name, module in list(sys.modules.items()):
                if (getattr(module, "__file__", None) or "").startswith(folder):
                    del sys.modules[name]


async def run_python(example: Example, names: dict[str, Any]) -> None:
    """Run one block of Python, with `await` allowed at its top level; errors point to the page's own lines."""
    tree = ast.parse(example.text, example.place)
    ast.increment_lineno(tree, example.line - 1)
    code = compile(tree, example.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    outcome = eval(code, names)  # noqa: S307  # our own pages
    if inspect.iscoroutine(outcome):
        await outcome


async def drain(names: dict[str, Any]) -> None:
    """Do all that is due of the tasks that the page has defined so far."""
    app = names.get("app")
    if isinstance(app, Rowlock) and app.tasks:
        await app.worker(concurrency=10).drain()
