"""`python -m benchmarks drain --jobs 50000 --json`."""

from __future__ import annotations

import argparse

from benchmarks.drain import drain, report


def main() -> None:
    """Run the named workload and print what it measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures Rowlock on this machine.")
    workloads = parser.add_subparsers(dest="workload")
    one = workloads.add_parser("drain", help="jobs that wait in the queue, and one worker process that takes them all")
    one.add_argument("--jobs", type=int, default=50_000)
    one.add_argument("--concurrency", type=int, default=100)
    one.add_argument("--json", action="store_true", help="one line of JSON")
    given = parser.parse_args()
    if given.workload is None:
        given = parser.parse_args(["drain"])
    print(report(drain(given.jobs, given.concurrency), as_json=given.json))


if __name__ == "__main__":
    main()
