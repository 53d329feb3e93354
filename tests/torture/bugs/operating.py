"""Bugs of what operators do, and of schedules."""

from __future__ import annotations

from typing import Final

from tests.torture.bugs.kinds import QUIET, SCHEMA, SQL, Bug, Change

BUGS: Final = (
    Bug(
        name="cancel ends running jobs itself",
        promise="a running job's end is told by its worker: a cancel only asks for it",
        changes=(
            Change(
                file=f"{SQL}cancel.sql",
                old="     WHERE id = ANY(ARRAY(SELECT target.id FROM target WHERE target.state <> 'running'))\n",
                new="     WHERE id = ANY(ARRAY(SELECT target.id FROM target))\n",
            ),
        ),
        engine=QUIET,
        rule="stale outcomes accepted",
    ),
    Bug(
        name="cancel that does nothing",
        promise="a waiting job whose cancel is acknowledged never starts",
        changes=(
            Change(
                file=f"{SQL}cancel.sql",
                old="     WHERE id = ANY(ARRAY(SELECT target.id FROM target WHERE target.state <> 'running'))\n",
                new="     WHERE id = ANY(ARRAY(SELECT target.id FROM target WHERE target.state = 'blocked'))\n",
            ),
            Change(
                file=f"{SQL}cancel.sql",
                old="SELECT id, 'cancelled' AS answer, NULL AS told FROM gone\n",
                new="SELECT id, 'cancelled' AS answer, NULL AS told FROM target WHERE state <> 'running'\n",
            ),
        ),
        engine=QUIET,
        rule="cancelled jobs that started",
    ),
    Bug(
        name="ticks fired without claiming them",
        promise="each tick of a schedule makes one job",
        changes=(
            Change(
                file=f"{SCHEMA}schedules.sql",
                old="    CONSTRAINT schedule_tick_pkey PRIMARY KEY (schedule, tick_at),\n",
                new="",
            ),
            Change(
                file=f"{SQL}fire_ticks.sql", old="s.next_run_at = $2::timestamptz", new="$2::timestamptz IS NOT NULL"
            ),
            Change(
                file=f"{SQL}fire_ticks.sql",
                old="s.last_job_id IS NOT DISTINCT FROM $4::uuid",
                new="($4::uuid IS NULL OR true)",
            ),
            Change(file=f"{SQL}fire_ticks.sql", old="       FOR NO KEY UPDATE OF s SKIP LOCKED\n", new=""),
        ),
        engine=QUIET,
        rule="schedule ticks",
    ),
)
