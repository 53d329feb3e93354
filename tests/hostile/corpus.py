"""Values, texts, times and rows that somebody hands to a queue, by mistake or on purpose."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

TEXTS: Final = {
    "empty": "",
    "blank": " \t\n",
    "quotes": "\"quoted\" 'single' `tick` \\ back\\\\slash",
    "placeholders": "%s %(a)s {0} {} $1 :name ${HOME} %",
    "statement": "'); DROP TABLE rowlock.job; --",
    "like": "100%_\\",
    "bidirectional": "invoice\u202efdp.exe \u2066isolated\u2069 \u200f",
    "invisible": "a\u200bb\u2060c\ufeffd\u00ad",
    "not characters": "\ufffe\uffff\U0010ffff",
    "private": "\ue000\U000f0000",
    "combining": "Z" + "\u0301" * 50,
    "emoji": "👩‍👩‍👧‍👦 🇳🇴",
    "lines": "a\nb\r\nc\u2028d\u2029e\x85f\x0bg\x0ch",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f" + "".join(map(chr, range(0x80, 0xA0))),
    "terminal": "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b31m\x08\x08",
    "like NUL": "\\u0000 \\x00 \u2400 %00 \\0",
    "like a surrogate": "\\ud800 \\udfff",
    "markup": "<script>alert(1)</script>&amp;[bold red]rich[/]",
    "long": "ü" * 50_000,
}
"""What every writer takes and every reader shows, some of them with escapes."""

NO_TEXTS: Final = {
    "NUL": '"a\\u0000b"',
    "half a pair": '"\\ud800"',
    "other half": '"\\udfffx"',
    "swapped": '"\\udc00\\ud800"',
}
"""JSON texts of strings that PostgreSQL or Unicode does not have."""


def nested(levels: int, *, kind: str = "[]") -> str:
    """A JSON text with so many levels."""
    begin, end = ("[", "]") if kind == "[]" else ('{"a":', "}")
    return begin * levels + "1" + end * levels


TAKEN: Final = {
    **{f"text: {name}": json.dumps(text) for name, text in TEXTS.items()},
    **{f"key: {name}": json.dumps({text[:1000]: 1}) for name, text in TEXTS.items()},
    "null": "null",
    "true": "true",
    "zero": "0",
    "minus zero": "-0.0",
    "small": "5e-324",
    "large": "1.7976931348623157e308",
    "exact": "0.1",
    "beyond double": "9007199254740993",
    "beyond 63 bits": str(2**63),
    "beyond 64 bits": str(2**64 + 1),
    "below 63 bits": str(-(2**63) - 1),
    "400 digits": "1" * 400,
    "4000 digits": "7" * 4000,
    "exponent": "1e22",
    "beyond exact doubles": "1e23",
    "first with an exponent": "1e16",
    "negative with an exponent": "-1.7e19",
    "large in a list": '[1e23, {"a": 1.5e300, "1e23": "1e23 \\" 2e22"}]',
    "empty object": "{}",
    "empty array": "[]",
    "keys of objects in JavaScript": '{"__proto__": {"a": 1}, "constructor": null, "": 0}',
    "many keys": json.dumps({str(n): n for n in range(5000)}),
    "many items": json.dumps([[n] for n in range(5000)]),
    "deepest array": nested(63),
    "deepest object": nested(63, kind="{}"),
    "brackets in a text": json.dumps(["[{" * 5000]),
}
"""The JSON texts of arguments that every writer takes."""

REFUSED: Final = {
    **NO_TEXTS,
    "NUL in a key": '{"\\u0000": 1}',
    "half a pair in a key": '{"\\ud800": 1}',
    "65 levels": nested(64),
    "65 levels of objects": nested(64, kind="{}"),
    "990 levels": nested(990),
    "990 levels of objects": nested(990, kind="{}"),
    "5,000 levels": nested(5000),
    "wide and deep": json.dumps([json.loads(nested(70)), *range(1000)]),
    "100,000 levels": nested(100_000),
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "no JSON": "{'a': 1}",
    "cut off": '{"a": [1, 2',
}
"""The JSON texts that every writer refuses."""

EITHER: Final = {
    "5000 digits": "1" * 5000,
    "beyond the largest double": "1e400",
    "beyond the largest double, with a fraction": f"1{'0' * 400}.5",
    "many digits after the point": f"0.{'123456789' * 200}",
    "a key twice": '{"a": 1, "a": 2}',
}
"""What a writer may take or refuse; what is taken can be shown."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of an enqueue, as the body of an HTTP request has them, and whether they are taken (None: either)."""

    given: dict[str, Any]
    is_taken: bool | None


OPTIONS: Final = {
    "last run_at": Options({"run_at": "9999-12-30T23:59:59.999999Z"}, is_taken=True),
    "run_at too late": Options({"run_at": "9999-12-31T23:59:59Z"}, is_taken=False),
    "run_at in the year 10000": Options({"run_at": "9999-12-31T23:59:59-01:00"}, is_taken=False),
    "run_at long ago": Options({"run_at": "0044-03-15T00:00:00Z"}, is_taken=True),
    "run_at before the year 1": Options({"run_at": "0001-01-01T00:00:00+01:00"}, is_taken=None),
    "last deadline": Options({"deadline": "9999-12-30T23:59:59.999999Z"}, is_taken=True),
    "deadline too late": Options({"deadline": "9999-12-31T23:59:59-01:00"}, is_taken=False),
    "deadline before the year 1": Options({"deadline": "0001-01-01T00:00:00+14:00"}, is_taken=False),
    "expires too late": Options({"expires": "9999-12-31T00:00:00Z"}, is_taken=False),
    "last expires": Options({"expires": "9999-12-30T00:00:00Z"}, is_taken=True),
    "longest delay": Options({"delay": 3_153_600_000}, is_taken=True),
    "delay too long": Options({"delay": 1e300}, is_taken=False),
    "longest timeout": Options({"timeout": 3_153_600_000}, is_taken=True),
    "timeout too long": Options({"timeout": 1e18}, is_taken=False),
    "attempts too many": Options({"max_attempts": 2**31}, is_taken=False),
    "most attempts": Options({"max_attempts": 2**31 - 1}, is_taken=True),
    "priority too high": Options({"priority": 2**63}, is_taken=False),
    "version too high": Options({"args_version": 2**15}, is_taken=False),
    "queue of controls": Options({"queue": "a\u202eb"}, is_taken=False),
    "bidirectional key": Options({"unique": TEXTS["bidirectional"]}, is_taken=True),
    "key of controls": Options({"unique": TEXTS["controls"]}, is_taken=True),
    "key of half a pair": Options({"unique": "\ud800"}, is_taken=False),
    "key of NUL": Options({"unique": "a\0"}, is_taken=False),
    "bidirectional tag": Options({"tags": ["\u202efdp.exe", "\U0010ffff"]}, is_taken=True),
    "tag of controls": Options({"tags": ["\x1b[31m"]}, is_taken=False),
    "tag of half a pair": Options({"tags": ["\udfff"]}, is_taken=False),
    "tag of NUL": Options({"tags": ["\0"]}, is_taken=False),
    "bidirectional metadata": Options({"metadata": {"A.b-c_9": "\u202efdp.exe", "b": "\U0010ffff"}}, is_taken=True),
    "metadata of separators": Options({"metadata": {"a": "b:c=d, e\\\"'"}}, is_taken=True),
    "longest metadata": Options({"metadata": {f"{n:064}": "\U0001f980" * 256 for n in range(20)}}, is_taken=True),
    "empty metadata": Options({"metadata": {}}, is_taken=True),
    "metadata without a key": Options({"metadata": {"": "a"}}, is_taken=False),
    "metadata of odd keys": Options({"metadata": {"a b": "c"}}, is_taken=False),
    "metadata of a long text": Options({"metadata": {"a": "x" * 257}}, is_taken=False),
    "metadata of many keys": Options({"metadata": {str(n): "" for n in range(21)}}, is_taken=False),
    "metadata of controls": Options({"metadata": {"a": "\x1b[31m"}}, is_taken=False),
    "metadata of half a pair": Options({"metadata": {"a": "\udfff"}}, is_taken=False),
    "metadata of NUL": Options({"metadata": {"a": "\0"}}, is_taken=False),
}

NUMBERS: Final = ("nan", "inf", "-inf", "1e400", "-1", "1e300", "1" * 5000)
TIMES: Final = (
    *("0001-01-01", "0001-01-01T00:00", "0001-01-01T00:00:00+0100", "0001-01-02T00:00", "9999-12-30T00:00"),
    *("9999-12-31T23:59:59", "9999-12-31T23:59:59-0100", "9999-12-31T23:59:59Z", "24:00", "nan"),
)
AGES: Final = ("nans", "infd", "-infd", "1e400d", "-1s", "1e300s", "999999999d")
"""Texts of options at the edges of what numbers, times and ages may be."""

_TIMES: Final = {
    "infinity": "infinity",
    "minus infinity": "-infinity",
    "before Christ": "0044-03-15 BC",
    "year 1": "0001-01-01 00:00:00+00",
    "year 9999": "9999-12-31 23:59:59.999999+00",
    "year 10000": "10000-01-01 00:00:00+00",
    "year 294276": "294276-12-31 00:00:00+00",
}
_INTERVALS: Final = {
    "too long": "178000000 years",
    "in months": "3000000 years",
    "negative": "-1 day",
    "mixed": "-178000000 years 2147483647 days",
}
_COLUMNS: Final = (
    *((f"job.{name}", "times") for name in ("run_at", "created_at", "started_at", "ends_at", "expires_at", "deadline")),
    *(("job.cancel_requested_at", "times"), ("job.timeout", "intervals")),
    *((f"finished_job.{name}", "times") for name in ("run_at", "created_at", "started_at", "discarded_at")),
    *(("finished_job.finished_at", "times"), ("finished_job.timeout", "intervals")),
    *(("attempt.started_at", "times"), ("attempt.finished_at", "times")),
    *(("attempt_log.started_at", "times"), ("progress.updated_at", "times")),
    *(("queue.paused_at", "times"), ("queue.updated_at", "times"), ("queue.keep_failed", "intervals")),
    *((f"schedule.{name}", "times") for name in ("next_run_at", "last_tick_at", "created_at", "updated_at")),
    *(("schedule.jitter", "intervals"), ("schedule_tick.tick_at", "times"), ("schedule_tick.fired_at", "times")),
    *(("worker.started_at", "times"), ("worker.expires_at", "times"), ("worker.lease", "intervals")),
    *(("task.updated_at", "times"), ("task.result_ttl", "intervals"), ("task.results_removed_until", "times")),
    *(("operation.at", "times"), ("duty.next_run_at", "times"), ("duty.every", "intervals")),
    *(("unique_key.expires_at", "times"), ("statistic.at", "times"), ("backlog.oldest_due_at", "times")),
    *(("statistic_mark.until", "times"), ("api_key.expires_at", "times"), ("api_key.last_used_at", "times")),
)
_DEEP: Final = '{"value": %s}'


def _sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _times() -> dict[str, str]:
    rows = {}
    for place, kind in _COLUMNS:
        table, column = place.split(".")
        for name, value in (_TIMES if kind == "times" else _INTERVALS).items():
            rows[f"{place} {name}"] = f"UPDATE rowlock.{table} SET {column} = '{value}'"
    return rows


ROWS: Final = {
    **_times(),
    **{
        f"{table} {columns} of {name}": f"UPDATE rowlock.{table} SET "
        + ", ".join(f"{column} = {_sql(text[:48])}" for column in columns.split())
        for table, columns in (
            ("job", "error cancel_reason unique_key trace task queue"),
            ("finished_job", "error unique_key trace task queue"),
            ("attempt", "error_type message traceback task queue"),
            ("progress", "message"),
            ("worker", "hostname version"),
            ("operation", "by verb target target_kind"),
            ("schedule", "cron task"),
            ("schedule", "timezone queue"),
        )
        for name, text in TEXTS.items()
        if name in {"empty", "bidirectional", "controls", "lines", "markup", "not characters"}
    },
    **{
        f"{place} of {name}": f"UPDATE rowlock.{place.split('.')[0]} SET {place.split('.')[1]} = {_sql(document)}"
        for place in (
            *("job.args", "finished_job.args", "finished_job.result", "schedule.args", "progress.checkpoint"),
            *("operation.details", "attempt_log.lines"),
        )
        for name, document in {
            "990 levels": _DEEP % nested(990),
            "990 levels of objects": _DEEP % nested(990, kind="{}"),
            "3,000 levels": _DEEP % nested(3000),
            "5,000 digits": _DEEP % ("1" * 5000),
            "a number beyond the largest double": _DEEP % f"1{'0' * 400}.5",
            "an array": "[1]",
            "a text": '"x"',
            "null": "null",
            "controls": _DEEP % json.dumps(TEXTS["controls"]),
            "lines of nothing": "[{}]",
            "lines of odd types": '[{"after": "x", "level": 1, "logger": [], "text": null}]',
            "lines in a far time": '[{"after": 1e300, "level": "info", "logger": null, "text": "x"}]',
        }.items()
    },
    "job.tags null": "UPDATE rowlock.job SET tags = ARRAY[NULL, '']",
    "job.tags nested": "UPDATE rowlock.job SET tags = '{{a,b},{c,d}}'",
    "job.tags empty": "UPDATE rowlock.job SET tags = '{}'",
    "finished_job.tags null": "UPDATE rowlock.finished_job SET tags = ARRAY[NULL, '']",
    **{
        f"{table}.metadata of {name}": f"UPDATE rowlock.{table} SET metadata = {_sql(document)}"
        for table in ("job", "finished_job")
        for name, document in {
            "controls": json.dumps({"": TEXTS["controls"], TEXTS["lines"]: TEXTS["terminal"]}),
            "markup": json.dumps({TEXTS["markup"]: TEXTS["markup"], TEXTS["bidirectional"]: TEXTS["combining"]}),
            "a megabyte": json.dumps({"a": "x" * 2**20}),
            "990 levels": _DEEP % nested(990),
            "a large number": '{"a": 1e131000}',
            "a number": '{"a": 5}',
            "null": "null",
            "a null": '{"a": null}',
            "an array": '["a"]',
            "arrays": '{"a": ["b"], "c": "d"}',
            "nothing": "{}",
        }.items()
    },
    "job.attempt": "UPDATE rowlock.job SET attempt = 2147483000, errors = 2147483000",
    "job.crashes": "UPDATE rowlock.job SET crashes = -5",
    "job.args_version": "UPDATE rowlock.job SET args_version = -1",
    "job.id": "UPDATE rowlock.job SET id = 'ffffffff-ffff-ffff-ffff-ffffffffffff' WHERE state = 'queued'"
    " AND run_at < now()",
    "job.id of zeros": "UPDATE rowlock.job SET id = '00000000-0000-0000-0000-000000000000' WHERE state = 'queued'"
    " AND run_at < now()",
    "finished_job.attempt": "UPDATE rowlock.finished_job SET attempt = -1, errors = -1, crashes = -1, priority = -1,"
    " max_attempts = 0, args_version = -1",
    "finished_job without a start": "UPDATE rowlock.finished_job SET started_at = NULL, worker = NULL, timeout = NULL",
    "attempt.attempt": "UPDATE rowlock.attempt SET attempt = -1",
    "attempt of nothing": "UPDATE rowlock.attempt SET error_type = NULL, message = NULL, traceback = NULL,"
    " worker = NULL, started_at = NULL",
    "worker.queues null": "UPDATE rowlock.worker SET queues = ARRAY[NULL], tasks = ARRAY[NULL, '']",
    "worker of numbers": "UPDATE rowlock.worker SET concurrency = -1, loop_delay_ms = -1,"
    " memory_bytes = 9223372036854775807",
    "queue.concurrency": "UPDATE rowlock.queue SET concurrency = 2147483647",
    "progress.fraction": "UPDATE rowlock.progress SET fraction = 'NaN'",
    "task of nothing": "UPDATE rowlock.task SET queue = '', priority = -5, max_attempts = -1, args_version = -1",
    "statistic of odd lists": "UPDATE rowlock.statistic SET duration_buckets = '{1,2,3}', duration_counts = '{1}',"
    " wait_buckets = '{-5,32767}', wait_counts = '{NULL,9223372036854775807}'",
    "statistic of large numbers": "UPDATE rowlock.statistic SET succeeded = 9223372036854775807",
    "statistic below zero": "UPDATE rowlock.statistic SET failed = -1",
    "backlog of large numbers": "UPDATE rowlock.backlog SET waiting = 9223372036854775807",
    "backlog below zero": "UPDATE rowlock.backlog SET scheduled = -1",
    "schedule without its times": "UPDATE rowlock.schedule SET next_run_at = NULL, last_tick_at = NULL,"
    " last_job_id = NULL",
    "schedule.declaration": "UPDATE rowlock.schedule SET declaration = 'x', origin = 'code'",
}
"""What plain SQL, past `rowlock.enqueue`, may try to leave in the tables."""
