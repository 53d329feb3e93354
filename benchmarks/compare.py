"""`python -m benchmarks compare`: Rowlock and its rivals in turn, on one server, each run on a fresh database."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import asyncpg
from rich.console import Console

from benchmarks import machine, plots, report
from benchmarks.programs import Failed
from benchmarks.results import Measured, Results
from benchmarks.rivals.environments import Unavailable
from benchmarks.rivals.registry import SYSTEMS
from benchmarks.rivals.system import LARGE_BYTES, System
from benchmarks.server import SETTINGS, Server
from benchmarks.workloads.catalogue import WORKLOADS, Options, Variant, steadies
from rowlock.embedded import temporary_server

HERE = Path(__file__).parent
README = HERE / "README.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `compare`."""
    default = Options()
    named = ",".join(WORKLOADS)
    parser.add_argument("--workloads", default=named, help=f"of {named}; all by default")
    parser.add_argument(
        "--systems",
        default=",".join(name for name in SYSTEMS if name != "rowlock-pool"),
        help=f"of {','.join(SYSTEMS)}; all but rowlock-pool by default",
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run, in turn (3)")
    parser.add_argument("--output", type=Path, help="the folder for JSON, table and plots (results/<date>)")
    parser.add_argument("--readme", action="store_true", help="also write the tables into benchmarks/README.md")
    for field in fields(Options):
        value = getattr(default, field.name)
        is_list = isinstance(value, tuple)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=_numbers if is_list else type(value if value is not None else 0),
            default=value,
            help=f"({','.join(map(str, value)) if is_list else value})",
        )


def main(given: argparse.Namespace) -> int:
    """Run it all; 1 if anything failed."""
    console = report.terminal()
    options = Options(**{field.name: getattr(given, field.name) for field in fields(Options)})
    results = compare(
        given.workloads.split(","),
        given.systems.split(","),
        rounds=given.rounds,
        options=options,
        output=given.output,
        console=console,
    )
    report.show(results, console)
    if given.readme:
        report.rewrite(README, results)
    return 1 if any(line.failures for line in results.measured) else 0


def compare(
    workloads: Sequence[str],
    systems: Sequence[str],
    *,
    rounds: int,
    options: Options,
    output: Path | None,
    console: Console,
) -> Results:
    """Measure, writing the results down after each variant."""
    for name in (*(w for w in workloads if w not in WORKLOADS), *(s for s in systems if s not in SYSTEMS)):
        raise SystemExit(f"{name!r} is not known. Workloads: {', '.join(WORKLOADS)}. Systems: {', '.join(SYSTEMS)}.")
    chosen, skipped = prepare([SYSTEMS[name] for name in systems], console)
    with temporary_server(durable=True, settings=SETTINGS) as running:
        server = Server(running.url, running.pid)
        results = Results(
            machine=machine.describe(),
            server=asyncio.run(server.describe()),
            options={**asdict(options), "rounds": rounds, "workloads": list(workloads)},
            systems={system.name: describe(system) for system in chosen},
            skipped=skipped,
        )
        for workload in workloads:
            make = partial(steadies, peaks=_peaks(results)) if workload == "steady" else WORKLOADS[workload]
            for variant in make(options):
                asyncio.run(_alternate(server, variant, chosen, rounds=rounds, results=results, console=console))
                if output is not None:
                    _write(results, output)
    if output is None:
        _write(results, HERE / "results" / datetime.now(UTC).date().isoformat())
    return results


def prepare(systems: Sequence[System], console: Console) -> tuple[list[System], dict[str, str]]:
    """Make the environments; a system that cannot have one is skipped, and why is said."""
    chosen, skipped = [], {}
    for system in systems:
        try:
            system.environment.ready()
        except Unavailable as error:
            skipped[system.title] = str(error)
            console.print(f"{system.title} is skipped: {error}", markup=False)
        else:
            chosen.append(system)
    return chosen, skipped


def describe(system: System) -> dict[str, object]:
    """What the results say about a system."""
    return {
        "title": system.title,
        "versions": system.environment.versions(),
        "settings": dict(system.settings),
        "settings_for_waiting": system.settings_for("wait"),
        "settings_for_large_arguments": system.settings_for("noop", LARGE_BYTES),
        "settings_for_few_jobs": dict(system.quiet().settings),
        "why": system.why,
        "keeps_of_a_finished_job": system.keeps,
        "jobs_in_a_bulk_call": system.batch,
        "most_jobs": system.most_jobs,
    }


async def _alternate(
    server: Server, variant: Variant, systems: Sequence[System], *, rounds: int, results: Results, console: Console
) -> None:
    """One variant: every system once, then every system again, so that a slow minute hits them all."""
    lines = {
        system.name: Measured(
            workload=variant.workload, variant=variant.label, system=system.name, headline=variant.headline
        )
        for system in systems
        if variant.takes_part(system) and (not system.only or variant.workload in system.only)
    }
    results.measured.extend(lines.values())
    for number in range(1, rounds + 1):
        for system in systems:
            if (line := lines.get(system.name)) is None:
                continue
            label = f"{report.heading(variant.workload, variant.label)}, round {number}, {system.title}"
            try:
                figures = await variant.run(server, system)
            except (Failed, OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                why = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
                line.failures.append(why)
                console.print(f"{label}: failed: {why}", markup=False)
            else:
                line.runs.append(figures)
                shown = report.number(figures.get(variant.headline))
                console.print(f"{label}: {shown} {report.COLUMNS[variant.headline]}", markup=False)


def _peaks(results: Results) -> dict[str, float]:
    """What each system drained with one worker."""
    lines = [line for line in results.measured if (line.workload, line.variant) == ("drain", "1 worker") and line.runs]
    return {line.system: line.median["jobs_per_second"] for line in lines}


def _write(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder / "compare.json")
    (folder / "compare.md").write_text(report.markdown(results) + "\n")
    plots.draw(results, folder)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.replace("_", "").split(","))
