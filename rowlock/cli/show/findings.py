"""Judge the doctor's readings: pure functions from rows to findings, each with its remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias

import msgspec
from asyncpg import Record

from rowlock.cli.show.output import counted
from rowlock.queue.claim.claims import MANY_QUEUES
from rowlock.schema import REVISION

Status = Literal["ok", "warn", "fail"]

Row: TypeAlias = Mapping[str, Any] | Record

OLDEST_VERSION: Final = 150000
CONNECTIONS_OF_A_WORKER: Final = 6
COUNTED_ROWS: Final = 1000
MOST_KINDS: Final = 20
"""The most kinds of unclaimed jobs with a line of their own."""
LEAST_VACUUMERS: Final = 2
"""While one autovacuum process is busy with a large table, another one must be free for the jobs."""
LONGEST_NAP: Final = 300.0
LONGEST_DELAY: Final = 20.0


WHY_UNCLAIMED: Final = {
    "no_worker": "no worker is alive",
    "no_task": "no live worker has the task",
    "no_version": "no live worker understands this version of its arguments",
    "no_queue": "no live worker with the task serves the queue",
    "quiet": "the workers that could claim it are quiet or stopping",
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the doctor: the check, its status, and the remedy unless it is ok."""

    check: str
    status: Status
    detail: str
    remedy: str | None = None


def judge_server(row: Row) -> list[Finding]:
    """Judge version, writability, durability and free connections, from the row of `doctor_server.sql`."""
    return [
        _version(row),
        _writable(row),
        *_durable(row),
        _replication(row),
        _isolation(row),
        _autovacuum(row),
        _room(row),
    ]


def _version(row: Row) -> Finding:
    if row["version_number"] < OLDEST_VERSION:
        return fail("server version", f"PostgreSQL {row['version']}", "Upgrade the server to PostgreSQL 15 or newer.")
    return ok("server version", f"PostgreSQL {row['version']}")


def _writable(row: Row) -> Finding:
    if row["is_in_recovery"]:
        return fail(
            "writable",
            "the server is a standby: it is read-only",
            "Name the primary in ROWLOCK_DATABASE_URL, or all hosts with ?target_session_attrs=read-write.",
        )
    if row["is_read_only"]:
        return fail(
            "writable",
            "transactions are read-only by default",
            "ALTER ROLE … (or ALTER DATABASE …) RESET default_transaction_read_only;",
        )
    return ok("writable", "the server accepts writes")


def _durable(row: Row) -> list[Finding]:
    losses = {
        "fsync": "a crash of the machine can lose or corrupt everything",
        "full_page_writes": "a crash of the machine can leave torn pages",
        "synchronous_commit": "a crash can lose jobs whose enqueue was acknowledged",
    }
    return [
        fail(name, f"off: {loss}", f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf(); and RESET it for the role.")
        if row[name] == "off"
        else ok(name, row[name])
        for name, loss in losses.items()
    ]


def _replication(row: Row) -> Finding:
    name, names = "standbys", row["synchronous_standby_names"]
    following = f"{row['standbys']} following"
    if not names:
        if row["standbys"]:
            return warn(
                name,
                f"{following}, none synchronously: a failover can lose jobs whose enqueue was acknowledged just before",
                "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (…)'; SELECT pg_reload_conf(); or accept it.",
            )
        return ok(name, "none: the jobs are on this server only")
    if row["synchronous_commit"] == "local":
        return fail(
            name,
            f"synchronous_commit is local, so no commit waits for {names}: a failover can lose acknowledged jobs",
            "ALTER ROLE … (or ALTER DATABASE …) RESET synchronous_commit;",
        )
    if not row["synchronous_standbys"]:
        return fail(
            name,
            f"{following}, none is in synchronous_standby_names ({names}): every commit waits for one",
            "Start one, or disable it: ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf();",
        )
    return ok(name, f"{following}, {row['synchronous_standbys']} synchronously")


def _isolation(row: Row) -> Finding:
    name, found = "default_transaction_isolation", row["default_transaction_isolation"]
    if found != "read committed":
        return warn(name, f"{found}: enqueues can fail to serialize", f"ALTER ROLE … SET {name} = 'read committed';")
    return ok(name, found)


def _autovacuum(row: Row) -> Finding:
    for name in ("autovacuum", "track_counts"):
        if row[name] == "off":
            return warn(
                "autovacuum",
                f"{name} is off: dead rows accumulate, and claims become slow",
                f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();",
            )
    workers, nap, delay = (
        row[name] for name in ("autovacuum_max_workers", "autovacuum_naptime_s", "autovacuum_cost_delay_ms")
    )
    tame = [
        (workers < LEAST_VACUUMERS, "autovacuum_max_workers", workers, "3 (which needs a restart)"),
        (nap > LONGEST_NAP, "autovacuum_naptime", f"{nap:g} s", "'1min'"),
        (delay > LONGEST_DELAY, "autovacuum_vacuum_cost_delay", f"{delay:g} ms", "'2ms'"),
    ]
    for is_tame, name, value, better in tame:
        if is_tame:
            return warn(
                "autovacuum",
                f"{name} is {value}: too slow for tables with many changes; their dead rows slow down claims",
                f"ALTER SYSTEM SET {name} = {better}; SELECT pg_reload_conf();",
            )
    return ok("autovacuum", "on")


def _room(row: Row) -> Finding:
    free = row["max_connections"] - row["reserved_connections"] - row["connections"]
    detail = f"{row['connections']} of {row['max_connections']} in use, {row['reserved_connections']} reserved"
    if free < CONNECTIONS_OF_A_WORKER:
        return warn(
            "connections",
            f"{detail}: no room for another worker, which needs {CONNECTIONS_OF_A_WORKER}",
            "Raise max_connections, or connect applications through a pooler.",
        )
    return ok(
        "connections",
        f"{detail}: room for {free // CONNECTIONS_OF_A_WORKER} more workers of {CONNECTIONS_OF_A_WORKER} each",
    )


def judge_pooler_while_listening(*, is_pooled: bool) -> Finding:
    """Judge a pooler between, although listening workers need sessions of their own."""
    if is_pooled:
        return warn(
            "pooler",
            "present, and workers listen: that works only if each connection keeps a session of its own",
            "In transaction mode (PgBouncer) set ROWLOCK_LISTEN=false, or connect to the server directly.",
        )
    return ok("pooler", "none")


def judge_pooler(*, is_pooled: bool, keeps_statements: bool) -> Finding:
    """Judge whether a pooler between supports what Rowlock needs."""
    if is_pooled and not keeps_statements:
        return fail(
            "pooler",
            "it does not track prepared statements",
            "Use PgBouncer 1.21 or newer, and set max_prepared_statements = 200.",
        )
    return ok("pooler", "present, and it tracks prepared statements" if is_pooled else "none")


def judge_revision(schema: str, found: str | None) -> Finding:
    """Compare the schema's revision with the one that this code needs; None means that the schema is missing."""
    if found is None:
        return fail("schema", f"the schema {schema} has no tables", "Run: rowlock migrate")
    if found < REVISION:
        return fail("schema", f"{schema} is at revision {found}, this code needs {REVISION}", "Run: rowlock migrate")
    if found > REVISION:
        return fail(
            "schema",
            f"{schema} is at revision {found}, this code knows only {REVISION}",
            "Upgrade the package: pip install --upgrade rowlock",
        )
    return ok("schema", f"{schema} is at revision {found}")


def judge_unlogged(rows: Sequence[Row]) -> Finding:
    """Find tables that a crash would empty, from the rows of `doctor_unlogged.sql`."""
    if rows:
        names = ", ".join(row["name"] for row in rows)
        return fail(
            "logged tables",
            f"UNLOGGED: {names}; a crash of the server empties them, and standbys do not have their rows",
            "ALTER TABLE … SET LOGGED; for each of them.",
        )
    return ok("logged tables", "all tables that must survive a crash are logged")


def judge_horizon(rows: Sequence[Row], slots: Sequence[Row]) -> list[Finding]:
    """Find transactions, slots and standbys that keep dead rows: from `doctor_horizon.sql` and `doctor_slots.sql`."""
    found: list[Finding] = []
    for row in rows:
        age = timedelta(seconds=round(row["age"].total_seconds()))
        if row["kind"] == "prepared":
            remedy = f"COMMIT PREPARED or ROLLBACK PREPARED '{row['name']}';"
            found.append(warn("horizon", f"the prepared transaction {row['name']} has been pending for {age}", remedy))
        else:
            who = ", ".join(filter(None, (row["state"], row["application"])))
            detail = f"process {row['name']} ({who}) has a transaction open for {age}: vacuum cannot remove dead rows"
            found.append(warn("horizon", detail, f"If it is not needed: SELECT pg_terminate_backend({row['name']});"))
    found += [_slot(row) for row in slots if row["kind"] is not None]
    if not found and not slots[0]["sees_all"]:
        detail = "other users' transactions and standbys are hidden from this role: they may keep dead rows"
        return [warn("horizon", detail, "GRANT pg_read_all_stats TO …; or run the doctor as a role that has it.")]
    return found or [ok("horizon", "no old transaction, replication slot or standby keeps dead rows")]


def _slot(row: Row) -> Finding:
    """Judge an unused replication slot, or a slot or standby that lags far behind."""
    name, kept = row["name"], []
    if row["transactions"] is not None:
        kept.append(f"dead rows of the last {row['transactions']:,} transactions")
    if row["kind"] == "standby":
        remedy = "End old transactions on it, or set hot_standby_feedback = off there."
        return warn("horizon", f"the standby {name} keeps {kept[0]} (hot_standby_feedback)", remedy)
    if row["wal_bytes"] is not None:
        kept.append(f"{row['wal_bytes'] / 1024**2:,.0f} MB of WAL")
    if row["is_in_use"]:
        remedy = "End old transactions on the standby that uses it, or set hot_standby_feedback = off there."
        return warn("horizon", f"the replication slot {name} keeps {' and '.join(kept)}", remedy)
    detail = f"the replication slot {name} is unused, and keeps {' and '.join(kept) or 'nothing yet'}"
    return warn("horizon", detail, f"If it is not needed: SELECT pg_drop_replication_slot('{name}');")


def judge_rights(row: Row) -> Finding:
    """Judge whether this role has the privileges of a worker, from the row of `doctor_rights.sql`."""
    name, role = "rights", row["role"]
    if row["unwritable"]:
        return warn(
            name,
            f"{role} cannot read and write {', '.join(row['unwritable'])}: a worker with this role fails",
            "Workers must log in as the owner of the schema, or as a member of that role (docs/security.md).",
        )
    if row["strays"]:
        return warn(
            name,
            f"{', '.join(row['strays'])} belong to {row['strays_owner']}: {row['archives_owner']} owns the archive and "
            "cannot alter it",
            f"As {row['strays_owner']} or a superuser: ALTER TABLE … OWNER TO {row['archives_owner']}; for each.",
        )
    if row["owners"]:
        return warn(
            name,
            f"{role} does not own the archive, {', '.join(row['owners'])} does: a worker with this role makes no "
            "partitions, and retention removes nothing",
            f"Workers must log in as {row['owners'][0]}, or as a member of that role.",
        )
    if not row["makes_tables"]:
        detail = f"{role} cannot create tables in the schema: a worker with this role makes no partitions"
        return warn(name, detail, f"GRANT CREATE ON SCHEMA … TO {role};")
    return ok(name, f"{role} has the privileges of a worker")


def judge_partitions(rows: Sequence[Row]) -> Finding:
    """Judge the archive's partitions of today and tomorrow, from the rows of `doctor_partitions.sql`."""
    missing = [row["name"] for row in rows if not row["is_there"]]
    taken = [row["name"] for row in rows if not row["is_there"] and row["is_taken"]]
    if taken:
        return warn(
            "partitions",
            f"another relation has the name {', '.join(taken)}: workers cannot make it; jobs go to the default one",
            "Rename or drop that relation in Rowlock's schema: a worker makes the partition within the hour.",
        )
    if missing:
        return warn(
            "partitions",
            f"missing: {', '.join(missing)}; no worker that may make them ran recently; jobs go to the default one",
            "Start a worker whose role owns the archive (see rights): it makes them within the hour.",
        )
    return ok("partitions", "today's and tomorrow's exist")


def judge_default_rows(row: Row) -> Finding:
    """Judge the rows of the default partitions, from the row of `doctor_default_rows.sql`."""
    finished, attempts = _count(row["finished_jobs"]), _count(row["attempts"])
    if row["finished_jobs"] or row["attempts"]:
        return warn(
            "default partitions",
            f"contain {finished} finished jobs and {attempts} attempts: no worker ran before their day",
            "Nothing is lost or hidden. A worker moves them within the hour; rows of a day with more than 100,000 stay "
            "until retention removes them.",
        )
    return ok("default partitions", "empty")


def judge_clock(rows: Sequence[Row]) -> Finding:
    """Judge whether the server's clock went back, from the rows of `doctor_clock.sql`."""
    if not rows:
        return ok("clock", "no row is later than now")
    ahead = timedelta(seconds=round(max(row["ahead"] for row in rows).total_seconds()))
    return warn(
        "clock",
        f"the server's clock went back by up to {ahead}; later than now are: {', '.join(row['what'] for row in rows)}",
        "Jobs and schedules that become due later wait for their time. To run them now: rowlock schedules run, "
        "or change run_at by SQL.",
    )


def judge_workers(rows: Sequence[Row]) -> Finding:
    """Judge the live workers, from the rows of `doctor_workers.sql`."""
    if not rows:
        return warn("workers", "none is alive", "Start one: rowlock worker tasks:app")
    slots = sum(row["concurrency"] for row in rows if row["state"] == "running")
    states = Counter(row["state"] for row in rows)
    idle = "".join(f", {states[state]} {state}" for state in ("quiet", "stopping") if states[state])
    told = f"{len(rows)} alive{idle}, with {counted(slots, 'slot')}"
    if states["running"] == 0:
        return warn("workers", f"{told}: none claims jobs", "Resume the quiet ones: rowlock workers resume ID")
    if (queues := max(len(row["queues"]) for row in rows)) > MANY_QUEUES:
        return warn(
            "workers",
            f"one serves {queues:,} queues, and searches all of them for a due job",
            f"Divide them among workers, or use fewer: up to {MANY_QUEUES:,} per worker. docs/queues.md#many-queues",
        )
    return ok("workers", told)


_REMEDIES: Final = {
    "no_worker": "Start a worker: rowlock worker tasks:app",
    "no_task": "Start a worker whose code has the task; or cancel them: rowlock jobs cancel --task {task}",
    "no_version": "Start workers whose code understands version {args_version}, or add an upcaster from it.",
    "no_queue": "Make a worker with the task serve the queue: rowlock worker … --queues {queue}",
    "quiet": "List them: rowlock workers list. Resume them: rowlock workers resume ID",
}


def judge_unclaimed(rows: Sequence[Row]) -> list[Finding]:
    """Report due jobs that no live worker can claim, most frequent kinds first, from `doctor_unclaimed.sql`."""
    found = [
        warn(
            "unclaimed jobs",
            f"{counted(row['jobs'], 'due job')} of the task {row['task']} (version {row['args_version']}) in the queue "
            f"{row['queue']} cannot be claimed: {WHY_UNCLAIMED[row['why']]}",
            _REMEDIES[row["why"]].format(**row),
        )
        for row in rows[:MOST_KINDS]
    ]
    if others := rows[MOST_KINDS:]:
        detail = f"{counted(sum(row['jobs'] for row in others), 'due job')} of {len(others)} other kinds"
        found.append(warn("unclaimed jobs", detail, "List them: rowlock unclaimed --limit 500"))
    return found or [ok("unclaimed jobs", "none")]


def judge_schedules(rows: Sequence[Row]) -> Finding:
    """Find schedules that the code no longer declares, from the rows of `get_schedules.sql`."""
    gone = [row["name"] for row in rows if row["undeclared_at"] is not None]
    if not gone:
        return ok("schedules", counted(len(rows), "schedule"))
    more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
    return warn(
        "schedules",
        f"the code no longer declares {', '.join(gone[:3])}{more}: still fires",
        "Delete undeclared schedules: rowlock schedules prune. Or declare them again.",
    )


def judge_dead_letters(jobs: int) -> Finding:
    """Report how many dead letters await a decision."""
    if not jobs:
        return ok("dead letters", "none")
    return warn(
        "dead letters",
        f"{counted(jobs, 'job')} failed for good, and await a decision",
        "See why: rowlock dead-letters groups. Then: rowlock jobs retry, or rowlock jobs discard.",
    )


def _count(rows: int) -> str:
    return f"at least {rows}" if rows >= COUNTED_ROWS else str(rows)


def ok(check: str, detail: str) -> Finding:
    """The check passed."""
    return Finding(check=check, status="ok", detail=detail)


def warn(check: str, detail: str, remedy: str) -> Finding:
    """Rowlock works, but may stop working, or works worse than it could."""
    return Finding(check=check, status="warn", detail=detail, remedy=remedy)


def fail(check: str, detail: str, remedy: str) -> Finding:
    """A guarantee of Rowlock does not hold."""
    return Finding(check=check, status="fail", detail=detail, remedy=remedy)
