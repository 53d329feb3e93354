"""`python -m benchmarks drain --jobs 50000 --json`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from benchmarks.drain import drain
from benchmarks.trickle import trickle


def main() -> None:
    """Run the named workload and print what it measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures Rowlock on this machine.")
    workloads = parser.add_subparsers(dest="workload")
    one = workloads.add_parser("drain", help="jobs that wait in the queue, and one worker process that takes them all")
    one.add_argument("--jobs", type=int, default=50_000)
    one.add_argument("--concurrency", type=int, default=100)
    slow = workloads.add_parser("trickle", help="single jobs, with a long history that cannot be cleaned up")
    slow.add_argument("--jobs", type=int, default=200_000, help="how many jobs are gone already")
    slow.add_argument("--trickled", type=int, default=300)
    for workload in (one, slow):
        workload.add_argument("--json", action="store_true", help="one line of JSON")
    given = parser.parse_args()
    if given.workload is None:
        given = parser.parse_args(["drain"])
    measured: dict[str, object]
    if given.workload == "drain":
        measured = asdict(drain(given.jobs, given.concurrency))
    else:
        measured = asdict(trickle(given.jobs, given.trickled))
    if given.json:
        print(json.dumps(measured))
    else:
        print("\n".join(f"{name.replace('_', ' '):30} {value}" for name, value in measured.items()))


if __name__ == "__main__":
    main()
