"""Show that the harness sees something: make each bug of tests/torture/bugs in a copy, and let the harness look at it.

`python -m tests.torture.seeded [WORD …]` for the bugs whose names contain one of the words, else for all. It copies the
tree once, looks at the unbroken copy in each of the ways in which it looks at the bugs, and ends with a table; its exit
code is 1 if a bug was not caught by its own check.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Final

from tests.torture.bugs import BUGS, Bug, Pytest, Torture
from tests.torture.looking import Look, Tree
from tests.torture.verdicts import Result, Verdict, judge, page, result, row, table

MOST_TRIES: Final = 3
"""A run in which a bug had no effect is repeated with other seeds, until there were so many."""
ALL_FAULTS: Final = Torture(times=1, minutes=0.5, rate=1000)
"""The look at the unbroken tree that `--control` takes besides."""


class Pass:
    """One pass over some bugs on one tree."""

    def __init__(self, tree: Tree, *, seed: int, keep: Path | None) -> None:
        self._tree = tree
        self._seed = seed
        self._keep = keep
        self._say = threading.Lock()

    def run(self, bugs: Sequence[Bug], *, jobs: int) -> list[Result]:
        """Look at the unbroken tree and then at each bug, `jobs` at a time, and print each result as it comes."""
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            try:
                # The controls are submitted first: no bug waits for one that has not begun.
                controls = self._controls(pool, bugs)
                trying = [pool.submit(self._try, bug, controls[bug.engine]) for bug in bugs]
                return [future.result() for future in trying]
            except BaseException:
                self._tree.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def control(self, bugs: Sequence[Bug], *, jobs: int) -> bool:
        """Look at the unbroken tree alone. Returns whether the harness found nothing."""
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            try:
                looks = [*self._controls(pool, bugs).values(), pool.submit(self._look_unbroken, ALL_FAULTS, [])]
                return all(future.result().code == 0 for future in looks)
            except BaseException:
                self._tree.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _controls(self, pool: ThreadPoolExecutor, bugs: Sequence[Bug]) -> dict[Torture | Pytest, Future[Look]]:
        rules: dict[Torture | Pytest, list[str]] = {}
        for bug in bugs:
            rules.setdefault(bug.engine, []).append(bug.rule)
        # Runs of the torture take longest.
        ways = sorted(rules, key=lambda engine: isinstance(engine, Pytest))
        return {engine: pool.submit(self._look_unbroken, engine, rules[engine]) for engine in ways}

    def _look_unbroken(self, engine: Torture | Pytest, rules: Sequence[str]) -> Look:
        look = self._tree.look(engine, (), rules=sorted(set(rules)), seed=self._seed)
        said = "clean" if look.code == 0 else ", ".join(look.complaints) or "DID NOT RUN"
        self._tell(f"unbroken    {look.seconds:4.0f} s  {engine}: {said}", "" if look.code == 0 else look.output)
        return look

    def _try(self, bug: Bug, control: Future[Look]) -> Result:
        """Make a bug and look, again with another seed as long as the run could not show it."""
        looks: list[Look] = []
        while not looks or (len(looks) < MOST_TRIES and judge(bug, looks[-1], control.result()) is Verdict.NO_EFFECT):
            seed = self._seed + len(looks)
            looks.append(self._tree.look(bug.engine, bug.changes, rules=[bug.rule], seed=seed, keep=self._keep))
        found = result(bug, looks, control.result())
        self._tell(row(found), "" if found.is_caught else looks[-1].output)
        return found

    def _tell(self, line: str, output: str) -> None:
        with self._say:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
            if output:
                sys.stderr.write(f"{output[-3000:]}\n")
                sys.stderr.flush()


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.seeded", description=__doc__)
    parser.add_argument("words", metavar="WORD", nargs="*", help="only bugs whose names contain it")
    parser.add_argument("--jobs", type=int, default=2, help="so many looks at a time (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the seed of each first run (%(default)s)")
    parser.add_argument("--control", action="store_true", help="look at an unbroken copy alone")
    parser.add_argument(
        "--table", action="store_true", help="print the table of docs/guarantees.md and do nothing else"
    )
    parser.add_argument("--keep", type=Path, help="keep the history of the last torture of a bug in this folder")
    given = parser.parse_args()
    if given.table:
        _print(page(BUGS))
        return 0
    chosen = [bug for bug in BUGS if not given.words or any(word in bug.name for word in given.words)]
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rowlock-tree-") as folder:
        one = Pass(Tree(Path(folder)), seed=given.seed, keep=given.keep)
        if given.control:
            return 0 if one.control(chosen, jobs=given.jobs) else 1
        results = one.run(chosen, jobs=given.jobs)
    caught = sum(found.is_caught for found in results)
    _print(["", *table(results), "", f"{caught} of {len(results)} were caught, in {time.monotonic() - began:.0f} s."])
    return 0 if results and caught == len(results) else 1


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
