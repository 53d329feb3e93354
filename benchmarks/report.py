"""What people read of the results: tables for the terminal and for Markdown."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.figures import paired_ratio
from benchmarks.results import Measured, Results

BEGIN = "<!-- results: written by `python -m benchmarks compare --readme` -->"
END = "<!-- end of results -->"

COLUMNS = {
    "jobs_per_second": "jobs/s",
    "enqueued_per_second": "enqueued/s",
    "first_tenth_per_second": "first tenth/s",
    "last_tenth_per_second": "last tenth/s",
    "last_to_first_tenth": "last / first",
    "pick_up_p50_ms": "p50 ms",
    "pick_up_p99_ms": "p99 ms",
    "from_call_p50_ms": "from call p50 ms",
    "end_to_end_p50_ms": "p50 ms",
    "end_to_end_p99_ms": "p99 ms",
    "rate_wanted": "rate/s",
    "rate_reached": "reached/s",
    "waiting_at_the_end": "waiting at the end",
    "worker_cpu_percent": "worker CPU %",
    "server_cpu_percent": "server CPU %",
    "worker_cpu_us_per_job": "worker µs/job",
    "server_cpu_us_per_job": "server µs/job",
    "worker_cpu_ms_per_idle_second": "workers ms/s",
    "server_cpu_ms_per_idle_second": "server ms/s",
    "transactions_per_idle_second": "transactions/s",
    "transactions_per_job": "transactions/job",
    "statements_per_job": "statements/job",
    "wal_bytes_per_job": "WAL B/job",
    "worker_mb_early": "MB after a tenth",
    "worker_mb": "worker MB",
    "jobs": "jobs",
}


TENTHS = ("first_tenth_per_second", "last_tenth_per_second", "last_to_first_tenth")
BY_TENTHS = ("horizon", "backlog")
"""Elsewhere the tenths are in the JSON, not in the table."""
IN_ONE_TABLE = ("drain",)
"""The workloads whose variants are rows of one table: so what more workers bring stands below what one does."""


def tables(results: Results) -> Iterator[tuple[str, list[Measured]]]:
    """The tables with their headings; system by system where all variants are in one."""
    systems = list(results.systems)
    for workload, variants in results.workloads().items():
        if workload in IN_ONE_TABLE and len(variants) > 1:
            lines = [line for lines in variants.values() for line in lines]
            yield heading(workload), sorted(lines, key=lambda line: systems.index(line.system))
        else:
            yield from ((heading(workload, variant), lines) for variant, lines in variants.items())


def cells(results: Results, lines: Sequence[Measured]) -> tuple[list[str], list[list[str]]]:
    """The heads and rows of one table: medians, the headline with its range, and Rowlock divided by each."""
    ours = {line.variant: line for line in lines if line.system == "rowlock"}
    has_variants = len({line.variant for line in lines}) > 1
    headline = lines[0].headline
    present = {name for line in lines for name in line.median}
    hidden = {headline} if lines[0].workload in BY_TENTHS else {headline, *TENTHS}
    names = [name for name in COLUMNS if name in present and name not in hidden]
    heads = ["", COLUMNS.get(headline, headline), "range", "Rowlock ÷ it", *(COLUMNS[name] for name in names)]
    rows = []
    for line in lines:
        title = str(results.systems.get(line.system, {}).get("title", line.system))
        if has_variants:
            title = f"{title}, {line.variant}"
        if not line.runs:
            rows.append([title, "failed", *[""] * (len(heads) - 2)])
            continue
        values = line.headlines
        rowlock = ours.get(line.variant, line)
        divided = None if rowlock is line else paired_ratio(rowlock.headlines, values)
        rows.append(
            [
                title,
                number(line.median.get(headline)),
                f"{number(min(values))} – {number(max(values))}" if values else "",
                "" if divided is None else f"{divided:.2f}",
                *(number(line.median.get(name)) for name in names),
            ]
        )
    return heads, rows


def terminal() -> Console:
    """The terminal; wide enough for the tables where there is none."""
    return Console(width=None if sys.stdout.isatty() else 240)


def number(value: float | None) -> str:
    """A figure as people read it: 37,500 or 3.1, and nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def heading(workload: str, variant: str | None = None) -> str:
    """The name of one table: of one variant, or of them all."""
    name = workload.replace("_", " ")
    return name if variant is None else f"{name}: {variant}"


def show(results: Results, console: Console) -> None:
    """Print all tables, and what went wrong."""
    for title, lines in tables(results):
        heads, rows = cells(results, lines)
        table = Table(title=title, title_justify="left")
        for head in heads:
            table.add_column(head, justify="right" if head else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in results.measured:
        for failure in line.failures:
            console.print(f"failed: {heading(line.workload, line.variant)}: {failure}", markup=False)
    for system, why in results.skipped.items():
        console.print(f"skipped: {system}: {why}", markup=False)


def markdown(results: Results) -> str:
    """All tables as Markdown, with where and how they were measured."""
    machine, server = results.machine, results.server
    parts = [
        (
            f"Measured {str(results.began_at)[:10]} on {machine['cores']} cores of {machine['cpu']}, "
            f"{machine['memory_gb']} GB, Linux {machine['kernel']}, PostgreSQL {server['server_version']} "
            f"(fsync {server['fsync']}, synchronous_commit {server['synchronous_commit']}); "
            f"medians of {results.options['rounds']} alternating rounds."
        ),
    ]
    for title, lines in tables(results):
        heads, rows = cells(results, lines)
        parts += ["", f"**{title}**", "", _row(heads), _row(["---", *["---:"] * (len(heads) - 1)])]
        parts += [_row(row) for row in rows]
    if results.skipped:
        parts += ["", *(f"Skipped: {system}: {why}." for system, why in results.skipped.items())]
    return "\n".join(parts)


def rewrite(readme: Path, results: Results) -> None:
    """Put the tables between the two marks of a README. Raises `ValueError` if it has no such marks."""
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{readme.name} has no section between {BEGIN} and {END}.")
    before, _, rest = text.partition(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n\n{markdown(results)}\n\n{END}{rest.partition(END)[2]}")


def _row(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"
