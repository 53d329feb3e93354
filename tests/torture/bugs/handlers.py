"""Bugs of results, checkpoints, processes, schedules and statistics."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import MIXED, Bug, Change

BUGS: Final = (
    Bug(
        name="results of later attempts are lost",
        promise="a result is what the handler returned, whatever attempt it was",
        changes=(Change(seam="result", old="decode_result", new="None if job.attempt > 1 else decode_result"),),
        engine=MIXED,
        rule="false results",
        needs=("false results: results of a later attempt",),
    ),
    Bug(
        name="the first error stays",
        promise="the error of a failed job is that of its last attempt",
        changes=(Change(seam="last error", old="coalesce(", new="coalesce(error, "),),
        engine=MIXED,
        rule="false results",
        needs=("false results: errors of a later attempt",),
    ),
    Bug(
        name="checkpoints that are never replaced",
        promise="the next attempt reads what the last one has saved",
        changes=(
            Change(
                seam="checkpoint",
                old="excluded.checkpoint",
                new="coalesce(rowlock.progress.checkpoint, excluded.checkpoint)",
            ),
        ),
        engine=MIXED,
        rule="checkpoints",
        needs=("checkpoints: found by a later attempt",),
    ),
    Bug(
        name="memory without a limit",
        promise="a process task that needs more memory than its limit fails",
        changes=(Change(seam="memory limit", new="if False:"),),
        engine=MIXED,
        rule="process tasks",
        needs=("process tasks: memory",),
    ),
    Bug(
        name="a tick beside the last one",
        promise='with overlap="skip" no tick fires while the last job is not finished',
        changes=(
            Change(seam="overlap", old="schedule.last_job_id", new="schedule.last_job_id AND job.state = 'queued'"),
        ),
        engine=MIXED,
        rule="overlapping ticks",
        needs=("overlapping ticks",),
    ),
    Bug(
        name="all missed ticks fire",
        promise='with misfire="latest" one job is made of all missed ticks',
        changes=(Change(seam="misfire", new='if misfire in {"all", "latest"}:'),),
        engine=MIXED,
        rule="missed ticks",
        needs=("missed ticks: latest",),
    ),
    Bug(
        name="counted twice",
        promise="statistics count each end once",
        changes=(Change(seam="counted jobs", old="excluded.succeeded", new="excluded.succeeded + kept.succeeded"),),
        engine=MIXED,
        rule="statistics",
        needs=("statistics",),
    ),
    Bug(
        name="crashes that statistics leave out",
        promise="statistics count each attempt that did not succeed",
        changes=(Change(seam="counted attempts", old="'crashed',"),),
        engine=MIXED,
        rule="statistics",
        needs=("statistics",),
    ),
    Bug(
        name="waits that end too early",
        promise="a wait for a result lasts until the job ends or its timeout is over",
        changes=(Change(seam="wait is over", old=">= deadline", new=">= deadline - 2.0"),),
        engine=MIXED,
        rule="false results",
        needs=("false results: not finished in time",),
    ),
    Bug(
        name="processes that outlive their worker",
        promise="the processes of a killed worker end with it",
        changes=(
            Change(seam="worker's death", old="signal.SIGKILL", new="0"),
            Change(seam="busy child", new="if False:"),
        ),
        engine=MIXED,
        rule="process tasks",
        needs=("process tasks: their worker died",),
    ),
    Bug(
        name="how a process ended is not said",
        promise="an attempt whose process died says how it ended",
        changes=(Change(seam="process ended", new='raise ProcessEnded("The worker lost a process.")'),),
        engine=MIXED,
        rule="process tasks",
        needs=("process tasks: kill",),
    ),
)
