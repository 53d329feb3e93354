"""`python -m benchmarks drain|trickle|recovery|retention|fill|dashboard|compare|…`; each has `--help`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import compare, dashboard, guard, report
from benchmarks.drain import drain
from benchmarks.fill import fill
from benchmarks.recovery import recovery
from benchmarks.results import Results
from benchmarks.retention import retention
from benchmarks.trickle import trickle


def main() -> int:
    """Run the named workload and print what it measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures Rowlock on this machine.")
    workloads = parser.add_subparsers(dest="workload")
    one = workloads.add_parser("drain", help="jobs that wait in the queue, and one worker process that takes them all")
    one.add_argument("--jobs", type=int, default=50_000)
    one.add_argument("--concurrency", type=int, default=100)
    slow = workloads.add_parser("trickle", help="single jobs, with a long history that cannot be cleaned up")
    slow.add_argument("--jobs", type=int, default=200_000, help="how many jobs are gone already")
    slow.add_argument("--trickled", type=int, default=300)
    back = workloads.add_parser("recovery", help="how soon work goes on after a kill, a stop, a restart of PostgreSQL")
    old = workloads.add_parser("retention", help="a day of finished jobs that goes, and who waits for it")
    old.add_argument("--jobs", type=int, default=10_000_000)
    large = workloads.add_parser("fill", help="make a large database in a folder")
    large.add_argument("directory", type=Path)
    large.add_argument("--live", type=int, default=1_000_000)
    large.add_argument("--finished", type=int, default=10_000_000)
    many = workloads.add_parser("dashboard", help="the calls of the dashboard's pages, on a database made by `fill`")
    many.add_argument("directory", type=Path)
    many.add_argument("--rounds", type=int, default=20, help="how often each call is made")
    many.add_argument("--claims", action="store_true", help="what 50 open dashboards cost a worker, instead")
    many.add_argument("--jobs", type=int, default=400_000, help="how many the worker claims in each run of the claims")
    for workload in (one, slow, back, old, large, many):
        workload.add_argument("--json", action="store_true", help="one line of JSON")
    compare.add_arguments(workloads.add_parser("compare", help="Rowlock beside its rivals, in turn"))
    bound = workloads.add_parser("limit", help="Rowlock beside its own statements, driven without handlers")
    compare.add_arguments(bound)
    bound.set_defaults(workloads="drain", systems="rowlock,limit", workers=(1,))
    shown = workloads.add_parser("report", help="the tables of comparisons that were made before")
    shown.add_argument("results", nargs="+", type=Path, help="their files compare.json")
    shown.add_argument("--readme", action="store_true", help="also write them into benchmarks/README.md")
    guard.add_arguments(workloads.add_parser("guard", help="whether Rowlock has become slower, as a ratio"))
    given = parser.parse_args()
    if given.workload in {"compare", "limit"}:
        return compare.main(given)
    if given.workload == "report":
        joined = Results.joined(given.results)
        report.show(joined, report.terminal())
        if given.readme:
            report.rewrite(compare.README, joined)
        return 0
    if given.workload == "guard":
        return guard.main(given)
    _print_measured(parser.parse_args(["drain"]) if given.workload is None else given)
    return 0


def _print_measured(given: argparse.Namespace) -> None:
    measured: dict[str, object]
    if given.workload == "drain":
        measured = asdict(drain(given.jobs, given.concurrency))
    elif given.workload == "recovery":
        measured = asdict(recovery())
    elif given.workload == "retention":
        measured = asdict(retention(given.jobs))
    elif given.workload == "fill":
        measured = asdict(fill(given.directory, given.live, given.finished))
    elif given.workload == "dashboard" and given.claims:
        measured = asdict(dashboard.claims(given.directory, given.rounds, given.jobs))
    elif given.workload == "dashboard":
        measured = dashboard.table(dashboard.calls(given.directory, given.rounds))
    else:
        measured = asdict(trickle(given.jobs, given.trickled))
    if given.json:
        print(json.dumps(measured))
    else:
        print(
            "\n".join(
                f"{name.replace('_', ' ') if name.isidentifier() else name:30} {value}"
                for name, value in measured.items()
            )
        )


if __name__ == "__main__":
    sys.exit(main())
