"""`python -m benchmarks guard`: says when Rowlock has become slower, by ratios that hold from machine to machine.

Rates depend on the machine and the minute; what Rowlock drains divided by what its own statements (the limit) and by
what pgqueuer drains, in the same rounds, hardly does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks import report
from benchmarks.compare import HERE, compare
from benchmarks.figures import paired_ratio
from benchmarks.results import Results
from benchmarks.workloads.catalogue import Options

BASELINE = HERE / "baseline.json"
ALLOWED = 0.10
AGAINST = ("limit", "pgqueuer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `guard`."""
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--update", action="store_true", help="write what was measured as the new baseline")
    parser.add_argument(
        "--output", type=Path, default=HERE.parent / "build" / "guard", help="the folder for the details"
    )


def main(given: argparse.Namespace) -> int:
    """Measure and compare; 1 if a ratio fell by more than a tenth."""
    console = report.terminal()
    options = Options(jobs=given.jobs, workers=(1,))
    results = compare(
        ["drain"], ["rowlock", *AGAINST], rounds=given.rounds, options=options, output=given.output, console=console
    )
    report.show(results, console)
    ratios = ratios_of(results)
    if given.update:
        BASELINE.write_text(json.dumps({"jobs": given.jobs, "ratios": ratios}, indent=1) + "\n")
        console.print(f"{BASELINE.name} now says {ratios}.", markup=False)
        return 0
    if not BASELINE.exists():
        console.print(f"There is no {BASELINE.name} to compare with: write one with --update.", markup=False)
        return 1
    verdicts = judge(ratios, json.loads(BASELINE.read_text())["ratios"])
    for line, _ in verdicts:
        console.print(line, markup=False)
    return 0 if all(is_fine for _, is_fine in verdicts) else 1


def ratios_of(results: Results) -> dict[str, float]:
    """Rowlock's drain divided by the others': the median over the rounds."""
    ours = results.of("drain", "1 worker", "rowlock")
    found = {}
    for name in AGAINST:
        theirs = results.of("drain", "1 worker", name)
        if ours and theirs and (value := paired_ratio(ours.headlines, theirs.headlines)) is not None:
            found[f"rowlock / {name}"] = round(value, 3)
    return found


def judge(ratios: Mapping[str, float], baseline: Mapping[str, float]) -> list[tuple[str, bool]]:
    """What to say about each ratio of the baseline, and whether it is fine: no more than a tenth below."""
    verdicts = []
    for name, before in baseline.items():
        if name not in ratios:
            verdicts.append((f"{name}: not measured, it was {before:.2f}", False))
            continue
        change = ratios[name] / before - 1
        is_fine = change >= -ALLOWED
        verdict = "fine" if is_fine else f"SLOWER: it fell by more than {ALLOWED:.0%}"
        verdicts.append((f"{name}: {ratios[name]:.2f}, it was {before:.2f} ({change:+.0%}): {verdict}", is_fine))
    return verdicts
