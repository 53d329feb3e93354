"""What `rowlock` exports, and that each name says what it is."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rowlock
import rowlock.testing

_PACKAGE = Path(rowlock.__file__).parent

EXPORTED = [
    "ApiKey",
    "ApiKeyNotFound",
    "ArchiveDay",
    "BoundTask",
    "BulkResult",
    "CallNext",
    "Cancel",
    "ConfigurationError",
    "DatabaseUnavailable",
    "DeadLetterGroup",
    "DeadLetters",
    "DrainTimeout",
    "DuplicateJob",
    "EnqueueOptions",
    "EnqueueUnknown",
    "Exponential",
    "Fail",
    "Figures",
    "GroupedDeadLetters",
    "InsideEventLoop",
    "InvalidArguments",
    "InvalidJob",
    "InvalidOption",
    "InvalidResult",
    "Job",
    "JobAlreadyFinished",
    "JobFailed",
    "JobFilter",
    "JobHandle",
    "JobNotFound",
    "JobPage",
    "Jobs",
    "KeyHeld",
    "Keys",
    "Lifespan",
    "Linear",
    "LiveWorker",
    "LockTimeout",
    "LogLine",
    "Middleware",
    "NewApiKey",
    "NewJob",
    "Operation",
    "OutsideHandler",
    "Overview",
    "Point",
    "ProcessEnded",
    "Progress",
    "Queue",
    "QueueFigures",
    "QueueRetention",
    "Queues",
    "RemoteError",
    "ResultTimeout",
    "Retention",
    "RetentionStatus",
    "Retry",
    "Rowlock",
    "RowlockError",
    "Schedule",
    "ScheduleChanged",
    "ScheduleExists",
    "ScheduleNotFound",
    "Schedules",
    "SchemaNotMigrated",
    "SchemaTooNew",
    "SchemaTooOld",
    "Settings",
    "Snooze",
    "StaleAttempt",
    "StatementTimeout",
    "Statistics",
    "StoredSchedule",
    "Task",
    "TaskDefaults",
    "TaskFigures",
    "Tasks",
    "Tick",
    "Unclaimed",
    "Unique",
    "UnknownTask",
    "Worker",
    "WorkerNotFound",
    "Workers",
    "WrongState",
]

# A class or an error is described ("The job …", "A message …"), a function is imperative ("Run …").
_FIRST_LINE = re.compile(r"[A-Z][^\n]*[^\s.:][.:]?")
_VAGUE = re.compile(r"(?i)(this (class|method|function)|helper|wrapper around|class (for|to|that))\b")


def _documented() -> Iterator[tuple[str, str]]:
    """The docstrings of the exported names, and of the public methods of the exported classes."""
    for name in EXPORTED:
        exported = getattr(rowlock, name)
        if not inspect.isclass(exported):
            continue  # an alias of types has no docstring
        yield name, inspect.cleandoc(exported.__dict__.get("__doc__") or "")
        own = [
            kind for kind in getattr(exported, "__mro__", [exported])[::-1] if kind.__module__.startswith("rowlock.")
        ]
        for member, value in {member: value for kind in own for member, value in vars(kind).items()}.items():
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if not member.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
                yield f"{name}.{member}", inspect.cleandoc(function.__doc__ or "")


# Nobody is handed their classes: a program, the forms of JSON, the turns of the upkeep, what Django finds by its file.
_APART = ("torture", "wire", "integrations/django/management")
_IMPORTED = ("logs.py", "errors.py", "settings.py", "embedded", "integrations")


def _defined() -> dict[str, dict[str, ast.ClassDef]]:
    """The classes of the package, by name and file."""
    found: dict[str, dict[str, ast.ClassDef]] = {}
    for file in sorted(_PACKAGE.rglob("*.py")):
        place = file.relative_to(_PACKAGE).as_posix()
        if not place.startswith(_APART):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, {})[place] = node
    return found


def _named_by(kind: ast.ClassDef) -> Iterator[str]:
    """The names in what a class is made of, and in what its public members are or return."""
    parts = [*kind.bases]
    for member in kind.body:
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not member.name.startswith("_"):
            parts += [] if member.returns is None else [member.returns]
        elif isinstance(member, ast.AnnAssign) and not ast.unparse(member.target).startswith("_"):
            parts.append(member.annotation)
    for part in parts:
        yield from (node.id for node in ast.walk(part) if isinstance(node, ast.Name))


DOCUMENTED = dict(_documented())
WITH_EXAMPLES = {name: text for name, text in DOCUMENTED.items() if ">>>" in text}


def test_exported_names_are_these_and_no_others() -> None:
    assert sorted(rowlock.__all__) == EXPORTED


def test_every_exported_name_can_be_imported() -> None:
    assert [name for name in EXPORTED if not hasattr(rowlock, name)] == []


def test_no_two_classes_that_users_import_or_are_handed_share_a_name() -> None:
    defined = _defined()
    imported = {name for name, places in defined.items() if any(place.startswith(_IMPORTED) for place in places)}
    found, new = set[str](), imported | {*rowlock.__all__, *rowlock.testing.__all__}
    while new:
        found |= new
        new = {name for one in new for kind in defined.get(one, {}).values() for name in _named_by(kind)} - found
    assert {"Statistics", "WorkerFigures", "JobContextFilter", "PoolUse"} <= found
    assert {name: set(defined[name]) for name in found & defined.keys() if len(defined[name]) > 1} == {}


def test_a_program_that_only_enqueues_does_not_load_the_worker() -> None:
    program = "import rowlock, sys; sys.exit(any(name.startswith('rowlock.worker') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_docstring_begins_with_a_sentence_of_its_own(name: str) -> None:
    first = DOCUMENTED[name].partition("\n\n")[0].replace("\n", " ")
    assert _FIRST_LINE.match(first), f"{name}: {first!r}"
    assert re.search(r"[.:]($| )", first), f"{name} begins with no sentence: {first!r}"
    assert not _VAGUE.match(first), f"{name} says nothing: {first!r}"
    assert len(DOCUMENTED[name].partition("\n")[0]) <= 120


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_compile(name: str) -> None:
    found = doctest.DocTestParser().get_examples(WITH_EXAMPLES[name])
    assert found
    for example in found:
        compile(example.source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_names_that_people_begin_with_show_an_example() -> None:
    assert {"Rowlock", "Task", "Task.using", "Job", "JobHandle", "Rowlock.enqueue_many", "Retry"} <= set(WITH_EXAMPLES)
