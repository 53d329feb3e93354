"""All workloads by name, with their variants, and who takes part in each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.figures import Figures
from benchmarks.rivals.system import System
from benchmarks.server import Server
from benchmarks.workloads.draining import Drain, drain
from benchmarks.workloads.enqueuing import Enqueue, enqueue
from benchmarks.workloads.latency import pick_up, steady
from benchmarks.workloads.low import idle, low_rate

Run = Callable[[Server, System], Awaitable[Figures]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says about sizes."""

    jobs: int = 100_000
    workers: Sequence[int] = (1, 2, 4)
    clients: Sequence[int] = (1, 20, 50)
    sizes: Sequence[int] = (100, 1_000, 10_000, 100_000)
    backlogs: Sequence[int] = (10_000, 100_000, 1_000_000)
    backlog_window: int = 200_000
    horizon_jobs: int | None = None
    latency_jobs: int = 300
    steady_seconds: float = 20.0
    low_rate: float = 50.0
    low_seconds: float = 30.0
    idle_workers: Sequence[int] = (1, 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One line of a workload: how it is run, and which figure says it all."""

    workload: str
    label: str
    headline: str
    run: Run
    takes_part: Callable[[System], bool]


def is_worker(system: System) -> bool:
    """Whether it works off jobs at all."""
    return system.can_work and system.name != "rowlock-pool"


def has_handlers(system: System) -> bool:
    """Whether it runs handlers."""
    return is_worker(system) and system.name != "limit"


def enqueues(system: System) -> bool:
    """Whether it has a way to enqueue of its own."""
    return system.name != "limit"


def drains(options: Options) -> list[Variant]:
    """A drain with 1, 2 and 4 worker processes."""
    return [
        _drain("drain", f"{n} worker{'s' if n > 1 else ''}", Drain(jobs=options.jobs, workers=n))
        for n in options.workers
    ]


def bulk(options: Options) -> list[Variant]:
    """Enqueuing in bulk, beside a COPY of the same bytes."""
    plan = Enqueue(jobs=options.jobs)
    return [
        _enqueue("enqueue_bulk", "in bulk", plan, lambda system: enqueues(system) and system.name != "rowlock-pool")
    ]


def singles(options: Options) -> list[Variant]:
    """Enqueuing one by one, beside a bare INSERT."""
    jobs = max(1000, options.jobs // 5)
    return [
        _enqueue("enqueue_single", f"{n} client{'s' if n > 1 else ''}", Enqueue(jobs=jobs, clients=n), enqueues)
        for n in options.clients
    ]


def busy(options: Options) -> list[Variant]:
    """Enqueuing one by one, while a worker has enough to do."""
    plan = Enqueue(jobs=max(1000, options.jobs // 5), clients=20, workers=1)
    return [_enqueue("enqueue_busy", "20 clients, 1 busy worker", plan, has_handlers)]


def pick_ups(options: Options) -> list[Variant]:
    """The latency of an idle worker."""

    async def run(server: Server, system: System) -> Figures:
        return await pick_up(server, system, options.latency_jobs)

    return [
        Variant(workload="pick_up", label="idle worker", headline="pick_up_p50_ms", run=run, takes_part=has_handlers)
    ]


def steadies(options: Options, peaks: Mapping[str, float]) -> list[Variant]:
    """A steady load at half of what each system drained with one worker: in this run, or in a short one before."""
    rates = dict(peaks)

    async def run(server: Server, system: System) -> Figures:
        if system.name not in rates:
            short = Drain(jobs=system.jobs(max(2000, options.jobs // 2)))
            rates[system.name] = (await drain(server, system, short))["jobs_per_second"]
        return await steady(server, system, rates[system.name] / 2, options.steady_seconds)

    return [
        Variant(
            workload="steady", label="half the peak", headline="end_to_end_p50_ms", run=run, takes_part=has_handlers
        )
    ]


def waiting(options: Options) -> list[Variant]:
    """1,000 jobs at once that wait 10 ms each: 100,000 a second would be perfect."""
    plan = Drain(jobs=max(2000, options.jobs // 2), mode="wait")
    return [_drain("waiting", "1,000 at once, 10 ms each", plan, has_handlers)]


def backlogs(options: Options) -> list[Variant]:
    """The first jobs of a deep backlog."""

    def variant(size: int) -> Variant:
        window = None if size <= options.backlog_window else options.backlog_window
        plan = Drain(jobs=size, window=window)
        return _drain("backlog", f"{size:,} waiting", plan, lambda s: is_worker(s) and s.jobs(size) == size)

    return [variant(size) for size in options.backlogs]


def horizons(options: Options) -> list[Variant]:
    """An old transaction, open from before the first job to after the last."""
    plan = Drain(jobs=options.horizon_jobs or options.jobs, is_pinned=True)
    return [replace(_drain("horizon", "old transaction open", plan), headline="last_to_first_tenth")]


def sizes(options: Options) -> list[Variant]:
    """Arguments from 100 bytes to 100 KB; the larger, the fewer jobs."""
    return [
        _drain("sizes", f"{size:,} B", Drain(jobs=max(5000, min(options.jobs, options.jobs * 2000 // size)), size=size))
        for size in options.sizes
    ]


def lows(options: Options) -> list[Variant]:
    """Few jobs, one by one, and none at all."""

    async def few(server: Server, system: System) -> Figures:
        return await low_rate(server, system, options.low_rate, options.low_seconds)

    def none(count: int) -> Run:
        async def measure(server: Server, system: System) -> Figures:
            return await idle(server, system, count, options.low_seconds)

        return measure

    return [
        Variant(
            workload="low",
            label=f"{options.low_rate:g} jobs a second, 1 worker",
            headline="server_cpu_us_per_job",
            run=few,
            takes_part=has_handlers,
        ),
        *(
            Variant(
                workload="low",
                label=f"{count} idle worker{'s' if count > 1 else ''}",
                headline="server_cpu_ms_per_idle_second",
                run=none(count),
                takes_part=has_handlers,
            )
            for count in options.idle_workers
        ),
    ]


WORKLOADS: dict[str, Callable[[Options], list[Variant]]] = {
    "drain": drains,
    "enqueue_bulk": bulk,
    "enqueue_single": singles,
    "enqueue_busy": busy,
    "pick_up": pick_ups,
    "steady": partial(steadies, peaks={}),
    "waiting": waiting,
    "backlog": backlogs,
    "horizon": horizons,
    "sizes": sizes,
    "low": lows,
}


def _drain(workload: str, label: str, plan: Drain, takes_part: Callable[[System], bool] = is_worker) -> Variant:
    async def run(server: Server, system: System) -> Figures:
        return await drain(server, system, replace(plan, jobs=system.jobs(plan.jobs)))

    return Variant(workload=workload, label=label, headline="jobs_per_second", run=run, takes_part=takes_part)


def _enqueue(workload: str, label: str, plan: Enqueue, takes_part: Callable[[System], bool]) -> Variant:
    async def run(server: Server, system: System) -> Figures:
        return await enqueue(server, system, replace(plan, jobs=system.jobs(plan.jobs)))

    return Variant(workload=workload, label=label, headline="enqueued_per_second", run=run, takes_part=takes_part)
