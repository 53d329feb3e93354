"""Bugs of results, checkpoints, processes, schedules and statistics."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import MIXED, Bug, Change

BUGS: Final = (
    Bug(
        name="results of later attempts are lost",
        promise="a result is what the handler returned, whatever attempt it was",
        changes=(
            Change(
                file="rowlock/queue/read/handle.py",
                old="return decode_result(job.result_json, returns)",
                new="return decode_result(job.result_json, returns) if job.attempt == 1 else None",
            ),
        ),
        engine=MIXED,
        rule="false results",
        needs=("false results: results of a later attempt",),
    ),
    Bug(
        name="the first error stays",
        promise="the error of a failed job is that of its last attempt",
        changes=(
            Change(
                file="rowlock/queue/finish/sql/fail.sql",
                old="coalesce(concat_ws(': ', outcome.error_type, outcome.message), error)",
                new="coalesce(error, concat_ws(': ', outcome.error_type, outcome.message))",
            ),
        ),
        engine=MIXED,
        rule="false results",
        needs=("false results: errors of a later attempt",),
    ),
    Bug(
        name="checkpoints that are never replaced",
        promise="the next attempt reads what the last one has saved",
        changes=(
            Change(
                file="rowlock/worker/sql/save_checkpoint.sql",
                old="SET checkpoint = excluded.checkpoint",
                new="SET checkpoint = coalesce(rowlock.progress.checkpoint, excluded.checkpoint)",
            ),
        ),
        engine=MIXED,
        rule="checkpoints",
        needs=("checkpoints: found by a later attempt",),
    ),
    Bug(
        name="memory without a limit",
        promise="a process task that needs more memory than its limit fails",
        changes=(
            Change(
                file="rowlock/worker/executors/child.py",
                old='if order.memory_limit and sys.platform == "linux":',
                new='if order.memory_limit and sys.platform == "nonesuch":',
            ),
        ),
        engine=MIXED,
        rule="process tasks",
        needs=("process tasks: memory",),
    ),
    Bug(
        name="a tick beside the last one",
        promise='with overlap="skip" no tick fires while the last job is not finished',
        changes=(
            Change(
                file="rowlock/worker/sql/fire_ticks.sql",
                old="WHERE job.id = schedule.last_job_id))",
                new="WHERE job.id = schedule.last_job_id AND job.state = 'queued'))",
            ),
        ),
        engine=MIXED,
        rule="overlapping ticks",
        needs=("overlapping ticks",),
    ),
    Bug(
        name="all missed ticks fire",
        promise='with misfire="latest" one job is made of all missed ticks',
        changes=(
            Change(
                file="rowlock/queue/schedules/cron.py",
                old='if misfire == "all":',
                new='if misfire in {"all", "latest"}:',
            ),
        ),
        engine=MIXED,
        rule="missed ticks",
        needs=("missed ticks: latest",),
    ),
    Bug(
        name="counted twice",
        promise="statistics count each end once",
        changes=(
            Change(
                file="rowlock/worker/fragments/larger_count.sql",
                old="SET succeeded = excluded.succeeded, failed",
                new="SET succeeded = excluded.succeeded + kept.succeeded, failed",
            ),
        ),
        engine=MIXED,
        rule="statistics",
        needs=("statistics",),
    ),
    Bug(
        name="crashes that statistics leave out",
        promise="statistics count each attempt that did not succeed",
        changes=(
            Change(
                file="rowlock/worker/sql/count_finished.sql",
                old="outcome IN ('error', 'timeout', 'crashed', 'failed')",
                new="outcome IN ('error', 'timeout', 'failed')",
            ),
        ),
        engine=MIXED,
        rule="statistics",
        needs=("statistics",),
    ),
    Bug(
        name="waits that end too early",
        promise="a wait for a result lasts until the job ends or its timeout is over",
        changes=(
            Change(
                file="rowlock/queue/read/handle.py",
                old="if job.is_finished or (deadline is not None and clock() >= deadline) or not is_wanted():\n"
                "                return job\n"
                "            look",
                new="if job.is_finished or (deadline is not None and clock() >= deadline - 2.0) or not is_wanted():\n"
                "                return job\n"
                "            look",
            ),
        ),
        engine=MIXED,
        rule="false results",
        needs=("false results: not finished in time",),
    ),
    Bug(
        name="processes that outlive their worker",
        promise="the processes of a killed worker end with it",
        changes=(
            Change(
                file="rowlock/worker/executors/child.py",
                old="ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)",
                new="ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0)",
            ),
            Change(
                file="rowlock/worker/executors/child.py",
                old="        if self._is_busy:\n            os.killpg(0, signal.SIGKILL)\n",
                new="",
            ),
        ),
        engine=MIXED,
        rule="process tasks",
        needs=("process tasks: their worker died",),
    ),
    Bug(
        name="how a process ended is not said",
        promise="an attempt whose process died says how it ended",
        changes=(
            Change(
                file="rowlock/worker/executors/processes.py",
                old='f"The process of the task ended {how_ended',
                new='f"The worker lost a process {how_ended',
            ),
        ),
        engine=MIXED,
        rule="process tasks",
        needs=("process tasks: kill",),
    ),
)
