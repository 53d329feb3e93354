"""The dashboard's modules import each other without a circle, and nothing that is not there."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from importlib.resources import as_file, files
from pathlib import Path

import pytest

_IMPORT = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*["'](\.[^"']+)["']""")


def imports(folder: Path) -> dict[Path, set[Path]]:
    """The modules below a folder, and what each imports."""
    return {
        module: {(module.parent / name).resolve() for name in _IMPORT.findall(module.read_text(encoding="utf-8"))}
        for module in (path.resolve() for path in folder.rglob("*.js"))
    }


def test_the_modules_of_the_dashboard_import_each_other_without_a_circle() -> None:
    with as_file(files("rowlock.api.dashboard").joinpath("assets")) as folder:
        found = imports(folder)
    assert len(found) > 30
    assert {one for imported in found.values() for one in imported if one.suffix == ".js"} <= found.keys()
    list(TopologicalSorter(found).static_order())


def test_a_circle_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text('import { b } from "./b.js";\n')
    (tmp_path / "b.js").write_text('export const b = await import("./a.js");\n')
    with pytest.raises(CycleError):
        list(TopologicalSorter(imports(tmp_path)).static_order())
