"""The pure parts of the benchmarks: statistics, tables, the guard's verdict, charts."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE

import pytest

from benchmarks import plots, report
from benchmarks.figures import medians, paired_ratio, percentile, rate_between
from benchmarks.guard import judge, ratios_of
from benchmarks.machine import cpu_seconds
from benchmarks.results import Measured, Results
from benchmarks.rivals.registry import SYSTEMS
from benchmarks.usage import Usage
from benchmarks.workloads.catalogue import WORKLOADS, Options
from benchmarks.workloads.low import Moment, per_job, per_second, statements_per_job


def results(*lines: Measured) -> Results:
    return Results(
        machine={"cores": 2, "cpu": "a processor", "memory_gb": 8.0, "kernel": "6.1"},
        server={"server_version": "18.1", "fsync": "on", "synchronous_commit": "on"},
        options={"rounds": 3},
        systems={"rowlock": {"title": "Rowlock"}, "limit": {"title": "Limit"}, "pgqueuer": {"title": "pgqueuer <1.6>"}},
        measured=list(lines),
    )


def drained(system: str, *rates: float, failures: tuple[str, ...] = ()) -> Measured:
    return Measured(
        workload="drain",
        variant="1 worker",
        system=system,
        headline="jobs_per_second",
        runs=[{"jobs_per_second": rate, "wal_bytes_per_job": 1300} for rate in rates],
        failures=list(failures),
    )


def test_median_is_taken_of_each_figure_over_the_runs_that_have_it() -> None:
    assert medians([{"a": 1, "b": 5}, {"a": 3}, {"a": 100}]) == {"a": 3, "b": 5}


@pytest.mark.parametrize("share, expected", [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_rate_between_two_counts_is_interpolated_between_reports() -> None:
    progress = [(1_000_000_000, 100), (2_000_000_000, 300), (4_000_000_000, 500)]

    assert rate_between(progress, 0, 0, 100) == pytest.approx(100)
    assert rate_between(progress, 0, 200, 300) == pytest.approx(200)
    assert rate_between(progress, 0, 400, 500) == pytest.approx(100)


def test_rate_in_no_time_is_zero() -> None:
    assert rate_between([(5, 10)], 5, 0, 10) == 0.0


def test_paired_ratio_cancels_a_slow_round_out() -> None:
    assert paired_ratio([100, 10, 120], [50, 5, 60]) == 2


def test_paired_ratio_of_nothing_is_none() -> None:
    assert paired_ratio([], [1.0]) is None


def test_table_divides_rowlock_by_each_other_system() -> None:
    heads, rows = report.cells(
        results(), [drained("rowlock", 30_000, 40_000, 35_000), drained("limit", 60_000, 50_000, 70_000)]
    )

    assert heads[:4] == ["", "jobs/s", "range", "Rowlock ÷ it"]
    assert rows[0][:4] == ["Rowlock", "35,000", "30,000 – 40,000", ""]
    assert rows[1][:4] == ["Limit", "60,000", "50,000 – 70,000", "0.50"]


def test_table_says_that_a_system_failed() -> None:
    _, rows = report.cells(results(), [drained("rowlock", 1.0), drained("pgqueuer", failures=("it broke",))])

    assert rows[1][1] == "failed"
    assert len(rows[1]) == len(rows[0])


def test_drains_with_several_numbers_of_workers_are_rows_of_one_table_system_by_system() -> None:
    measured = results(
        drained("rowlock", 30_000),
        drained("limit", 60_000),
        replace(drained("rowlock", 50_000), variant="2 workers"),
        replace(drained("limit", 50_000), variant="2 workers"),
    )
    ((title, lines),) = report.tables(measured)
    _, rows = report.cells(measured, lines)

    assert title == "drain"
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("Rowlock, 1 worker", "30,000", ""),
        ("Rowlock, 2 workers", "50,000", ""),
        ("Limit, 1 worker", "60,000", "0.50"),
        ("Limit, 2 workers", "50,000", "1.00"),
    ]


def test_drains_with_one_number_of_workers_are_a_table_that_names_it() -> None:
    measured = results(drained("rowlock", 30_000), drained("limit", 60_000))
    ((title, lines),) = report.tables(measured)

    assert title == "drain: 1 worker"
    assert [row[0] for row in report.cells(measured, lines)[1]] == ["Rowlock", "Limit"]


def test_other_workloads_have_a_table_for_each_variant() -> None:
    measured = results(
        replace(drained("rowlock", 1), workload="sizes", variant="100 B"),
        replace(drained("rowlock", 2), workload="sizes", variant="1,000 B"),
    )

    assert [title for title, _ in report.tables(measured)] == ["sizes: 100 B", "sizes: 1,000 B"]


def test_guard_finds_the_median_ratios_of_the_drain() -> None:
    measured = results(drained("rowlock", 30, 40, 50), drained("limit", 60, 50, 100), drained("pgqueuer", 10, 10, 10))

    assert ratios_of(measured) == {"rowlock / limit": 0.5, "rowlock / pgqueuer": 4.0}


@pytest.mark.parametrize("now, is_fine", [(0.70, True), (0.64, True), (0.62, False), (1.50, True)])
def test_guard_objects_to_a_ratio_that_fell_by_more_than_a_tenth(now: float, is_fine: bool) -> None:
    ((line, verdict),) = judge({"rowlock / limit": now}, {"rowlock / limit": 0.70})

    assert verdict is is_fine
    assert ("SLOWER" in line) is not is_fine


def test_guard_objects_to_a_ratio_that_was_not_measured() -> None:
    ((line, verdict),) = judge({}, {"rowlock / pgqueuer": 3.0})

    assert not verdict
    assert "not measured" in line


def test_results_survive_being_saved_and_read(tmp_path: Path) -> None:
    measured = results(drained("rowlock", 30, 40), drained("limit", 60, 80, failures=("once",)))
    measured.save(tmp_path / "compare.json")

    assert Results.load(tmp_path / "compare.json") == measured


def test_joined_results_keep_the_later_of_two_tables_and_one_machine(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.json" for number in range(3)]
    for number, path in enumerate(paths):
        others = [drained("limit", 90.0)] if number == 0 else []
        made = results(
            drained("rowlock", 60.0 + number), *others, replace(drained("rowlock", 1.0), workload=f"only in {number}")
        )
        made.options["rounds"] = 3 + number
        if number == 2:
            made.machine["cores"] = 64
        made.save(path)
    joined = Results.joined(paths[:2])
    assert [line.workload for line in joined.measured].count("only in 0") == 1
    assert [line.headlines for line in joined.measured if line.workload == "drain"] == [[61.0]], "the later table alone"
    assert joined.options["rounds"] == 3
    with pytest.raises(ValueError, match="different machines"):
        Results.joined(paths)


def test_readme_section_is_rewritten_and_nothing_else(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.rewrite(readme, results(drained("rowlock", 30_000), drained("limit", 60_000)))
    text = readme.read_text()

    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| Limit | 60,000 |" in text


def test_readme_without_a_section_is_left_alone(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing\n")
    with pytest.raises(ValueError, match="no section"):
        report.rewrite(readme, results())
    assert readme.read_text() == "nothing\n"


def test_chart_escapes_titles_and_draws_a_bar_a_system() -> None:
    drawn = plots.chart("drain", [drained("rowlock", 3, 4), drained("pgqueuer", 1, 2)], {"pgqueuer": "pgqueuer <1.6>"})

    assert "pgqueuer &lt;1.6&gt;" in drawn
    assert drawn.count("<rect") == 3


def test_every_system_has_a_driver_and_says_why() -> None:
    drivers = Path(report.__file__).parent / "rivals" / "drivers"
    for system in SYSTEMS.values():
        assert any((drivers / f"{system.driver}{suffix}").exists() for suffix in (".py", ".mjs")), system.name
        assert system.why


def moment(*, cpu: float, transactions: int, worker_cpu: float, handled: int = 0, statements: int = 0) -> Moment:
    used = Usage(cpu=cpu, wal=1000 * handled, transactions=transactions, statements=statements)
    return Moment(server=used, worker_cpu=worker_cpu, handled=handled)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="only Linux tells nanoseconds")
def test_cpu_of_a_process_is_known_more_exactly_than_in_ticks() -> None:
    program = "import time; print(time.process_time(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        told = float(process.stdout.readline())
        measured = cpu_seconds(process.pid)
        process.communicate("\n")

    assert measured == pytest.approx(told, abs=0.005)


def test_low_rate_divides_what_was_used_between_two_moments_by_the_jobs_handled_between_them() -> None:
    before = moment(cpu=1.0, transactions=100, worker_cpu=5.0, handled=50, statements=10)
    after = moment(cpu=1.5, transactions=400, worker_cpu=5.1, handled=150, statements=510)

    assert per_job(before, after) == {
        "jobs": 100,
        "server_cpu_us_per_job": 5000.0,
        "worker_cpu_us_per_job": 1000.0,
        "transactions_per_job": 3.0,
        "wal_bytes_per_job": 1000,
    }
    assert statements_per_job(before, after) == 5.0


def test_idle_workers_are_measured_by_the_second() -> None:
    before, after = (moment(cpu=cpu, transactions=10, worker_cpu=2 * cpu) for cpu in (1.0, 1.3))

    assert per_second(before, after, 30.0) == {
        "server_cpu_ms_per_idle_second": 10.0,
        "worker_cpu_ms_per_idle_second": 20.0,
        "transactions_per_idle_second": 0.0,
    }


def test_low_load_has_a_rate_and_each_number_of_idle_workers() -> None:
    labels = [variant.label for variant in WORKLOADS["low"](Options())]

    assert labels == ["50 jobs a second, 1 worker", "1 idle worker", "50 idle workers"]


def test_a_quiet_system_has_its_settings_for_few_jobs_and_all_others_as_they_are() -> None:
    chancy = SYSTEMS["chancy"]
    quiet = chancy.quiet().settings_for("noop")

    assert quiet["send_outgoing_interval"] == 1
    assert quiet["concurrency"] == chancy.settings["concurrency"]
    assert chancy.settings["send_outgoing_interval"] == 0.01


def test_figures_of_every_workload_have_a_column() -> None:
    for make in WORKLOADS.values():
        assert all(variant.headline in report.COLUMNS for variant in make(Options()))


def test_every_variant_of_a_workload_has_a_name_of_its_own() -> None:
    for name, make in WORKLOADS.items():
        labels = [variant.label for variant in make(Options())]
        assert len(set(labels)) == len(labels)
        assert all(variant.workload == name for variant in make(Options()))


def test_a_slow_system_gets_fewer_jobs() -> None:
    assert SYSTEMS["procrastinate"].jobs(100_000) == 5000
    assert SYSTEMS["rowlock"].jobs(100_000) == 100_000
