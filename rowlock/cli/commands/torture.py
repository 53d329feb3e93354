"""`rowlock torture`: run the fault-injection suite on a queue of its own, and check every promise."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Final

import click

from rowlock.cli.commands.values import NumberRange
from rowlock.cli.show.output import Exit, note, print_json, with_json
from rowlock.torture.nemesis import DEFAULT, OPTIONAL, RATES
from rowlock.torture.run import Options, Outcome, Torture
from rowlock.words import quoted

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


@click.command("torture", short_help="Run the fault-injection suite.")
@click.option("--seed", type=int, default=1, show_default=True, help="Determines the faults and their times.")
@click.option("--minutes", type=NumberRange(min=0.2), default=1.0, show_default=True, help="The duration.")
@click.option("--workers", type=click.IntRange(1, 32), default=4, show_default=True, help="Worker processes.")
@click.option("--rate", type=NumberRange(min=1), default=1000.0, show_default=True, help="The most jobs per second.")
@click.option("--only", metavar="FAULTS", help=f"Only these faults: {','.join(RATES)}.")
@click.option("--also", metavar="FAULTS", help=f"These in addition to the usual faults: {','.join(sorted(OPTIONAL))}.")
@click.option(
    "--times", type=NumberRange(0.1, 100), default=1.0, show_default=True, help="Multiplies the frequency of faults."
)
@click.option(
    "--keep",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Keep the history and the logs in this new folder.",
)
@click.option("--verbose", is_flag=True, help="Name each fault as it happens.")
@with_json
def command(  # noqa: PLR0917  # click gives them by name
    seed: int,
    minutes: float,
    workers: int,
    rate: float,
    only: str | None,
    also: str | None,
    times: float,
    keep: Path | None,
    verbose: bool,  # noqa: FBT001  # click's
    as_json: bool,  # noqa: FBT001  # click's
) -> int:
    """Kill, freeze, cut, crash and fill everything for some minutes, and check that no promise was broken.

    It starts its own PostgreSQL server, workers, enqueuers and API, and touches no other database. Exits with 0 if
    nothing was lost, doubled or overwritten, else with 1; it then keeps the history, and prints its folder.
    """
    kinds = DEFAULT if only is None else tuple(name.strip() for name in only.split(","))
    kinds += () if also is None else tuple(name.strip() for name in also.split(","))
    for kind in kinds:
        if kind not in RATES:
            raise click.UsageError(
                f"--only and --also must name known faults; got {quoted(kind)}. Use {', '.join(RATES)}."
            )
    folder = Path(tempfile.mkdtemp(prefix="rowlock-torture-")) if keep is None else keep
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise click.UsageError(f"--keep must be a new or empty folder; got {folder}, which is not empty.")
    options = Options(seed=seed, minutes=minutes, folder=folder, workers=workers, rate=rate, kinds=kinds, times=times)
    say = note if as_json else click.echo
    say(f"seed {seed}, {minutes:g} minutes, {workers} workers")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        outcome = asyncio.run(_run(Torture(options, say if verbose else lambda _: None)))
    except (asyncio.CancelledError, KeyboardInterrupt):
        if keep is None:
            _remove(folder)
        else:
            note(f"Interrupted. The history so far is in {folder}.")
        raise click.Abort from None
    for line in outcome.lines():
        say(line)
    if as_json:
        print_json({"seed": seed, **_document(outcome), "folder": str(folder)})
    if outcome.is_clean:
        say("Every promise was kept.")
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
        return Exit.DONE
    say(f"A promise was broken. The history is in {folder}; the same seed repeats the same faults.")
    return Exit.NO


def _document(outcome: Outcome) -> dict[str, object]:
    """The document that `--json` prints."""
    return {
        "is_clean": outcome.is_clean,
        "seconds": outcome.seconds,
        "faults": dict(outcome.faults),
        "looked": dict(outcome.report.looked),
        "nothing_to_look_at": [case.name for case in outcome.report.unseen],
        "counts": outcome.counts,
        "violations": [str(violation) for violation in outcome.report.violations],
        "lines": list(outcome.lines()),
    }


def _remove(folder: Path) -> None:
    """Remove the folder, ignoring signals meanwhile."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPPING}
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _run(torture: Torture) -> Outcome:
    """Run the suite. The first SIGTERM or SIGINT stops it; later ones do not interrupt its clean-up."""
    running = asyncio.ensure_future(torture.run())
    signals = 0

    def stop() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            running.cancel()
        elif signals == 2:
            note("Already stopping: removing everything that was started.")

    for number in STOPPING:
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return await running
