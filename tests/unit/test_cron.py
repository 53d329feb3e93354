"""The times that cron texts mean, over changes of the clocks, and what fires of them after a pause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from rowlock import InvalidOption, Schedule
from rowlock.queue.schedules.cron import MOST_AT_ONCE, Cron, due, tidy

MINUTE = timedelta(minutes=1)

# Both changes of 2026 in each zone, as the first moment after the change; Lord Howe changes by half an hour.
CHANGES = {
    "Europe/Berlin": ("2026-03-29T01:00Z", "2026-10-25T01:00Z"),
    "America/New_York": ("2026-03-08T07:00Z", "2026-11-01T06:00Z"),
    "Australia/Sydney": ("2026-10-03T16:00Z", "2026-04-04T16:00Z"),
    "Australia/Lord_Howe": ("2026-10-03T15:30Z", "2026-04-04T15:00Z"),
    "America/Santiago": ("2026-09-06T04:00Z", "2026-04-05T03:00Z"),
}
EDGES = [(zone, datetime.fromisoformat(change)) for zone, changes in CHANGES.items() for change in changes]
TEXTS = [
    "30 2 * * *",
    "0 0 * * *",
    "45 1 * * *",
    "0,30 1,2,3 * * *",
    "15 1-3 * * SUN",
    "*/20 * * * *",
    "*/15 2 * * *",
    "*/30 0 * * *",
    "0 */2 * * *",
    "@hourly",
]


def local(zone: str, *ticks: datetime) -> list[str]:
    return [tick.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes") for tick in ticks]


def between(text: str, zone: str, start: str, end: str) -> list[str]:
    return local(zone, *Cron(text, zone).ticks(datetime.fromisoformat(start), datetime.fromisoformat(end)))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("30 2 * * *", ["2026-03-28T02:30+01:00", "2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        ("0 3 * * *", ["2026-03-28T03:00+01:00", "2026-03-29T03:00+02:00", "2026-03-30T03:00+02:00"]),
        ("0,30 2 29 3 *", ["2026-03-29T03:00+02:00"]),
        ("0 2,3 29 3 *", ["2026-03-29T03:00+02:00"]),
        ("0 0 30 2 29 3", None),
        ("*/30 1-3 29 3 *", ["2026-03-29T01:00+01:00", "2026-03-29T01:30+01:00", "2026-03-29T03:00+02:00",
                             "2026-03-29T03:30+02:00"]),
        ("*/30 2 29 3 *", []),
    ],
)  # fmt: skip
def test_skipped_hour_in_berlin(text: str, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(InvalidOption):
            Cron(text, "Europe/Berlin")
        return
    assert between(text, "Europe/Berlin", "2026-03-28T00:00Z", "2026-03-30T12:00Z") == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("30 2 25 10 *", ["2026-10-25T02:30+02:00"]),
        ("0,30 2 25 10 *", ["2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00"]),
        ("*/30 2 25 10 *", ["2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00",
                            "2026-10-25T02:30+01:00"]),
    ],
)  # fmt: skip
def test_repeated_hour_in_berlin(text: str, expected: list[str]) -> None:
    assert between(text, "Europe/Berlin", "2026-10-24T12:00Z", "2026-10-26T12:00Z") == expected


def wall_minutes(zone: str, start: datetime, end: datetime) -> Iterator[tuple[datetime, list[datetime]]]:
    """Each minute, with the times that the wall clock reaches in it for the first time: many at the end of a gap."""
    highest = (start - MINUTE).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    moment = start
    while moment <= end:
        wall = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        yield moment, [highest + n * MINUTE for n in range(1, (wall - highest) // MINUTE + 1)]
        highest = max(highest, wall)
        moment += MINUTE


def expected_ticks(text: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """The rule itself, minute by minute: slow, and without any arithmetic of offsets."""
    fields = {"@hourly": "0 * * * *"}.get(text, text)
    parsed = CronSim(fields, datetime(2000, 1, 1))  # noqa: DTZ001  # a wall clock's time

    def fits(wall: datetime) -> bool:
        return (
            wall.minute in parsed.minutes
            and wall.hour in parsed.hours
            and wall.month in parsed.months
            and parsed.match_day(wall.date())
        )

    if any(field.startswith("*") for field in fields.split()[:2]):
        minutes = [moment for moment, _ in wall_minutes(zone, start, end)]
        return [moment for moment in minutes if fits(moment.astimezone(ZoneInfo(zone)))]
    return [moment for moment, reached in wall_minutes(zone, start, end) if any(map(fits, reached))]


@pytest.mark.parametrize("zone, change", EDGES, ids=[f"{zone}-{change:%m-%d}" for zone, change in EDGES])
@pytest.mark.parametrize("text", TEXTS)
def test_ticks_around_a_change_of_the_clocks_follow_the_rule(text: str, zone: str, change: datetime) -> None:
    before, after = change - timedelta(hours=25), change + timedelta(hours=25)
    assert (change - MINUTE).astimezone(ZoneInfo(zone)).utcoffset() != change.astimezone(ZoneInfo(zone)).utcoffset()
    expected = expected_ticks(text, zone, before, after)
    assert expected
    assert local(zone, *Cron(text, zone).ticks(before, after)) == local(zone, *expected)


@pytest.mark.parametrize("zone, change", EDGES, ids=[f"{zone}-{change:%m-%d}" for zone, change in EDGES])
@given(text=st.sampled_from(TEXTS), minutes=st.integers(-1500, 1500))
@settings(max_examples=8, deadline=None)
def test_next_tick_does_not_depend_on_where_one_begins(text: str, minutes: int, zone: str, change: datetime) -> None:
    """From any moment, the next tick is the first later one of those counted through from long before."""
    moment = change + minutes * MINUTE
    counted = Cron(text, zone).ticks(change - timedelta(days=3), change + timedelta(days=9))
    assert Cron(text, zone).next(moment) == next(tick for tick in counted if tick > moment)


@pytest.mark.parametrize("zone, change", EDGES, ids=[f"{zone}-{change:%m-%d}" for zone, change in EDGES])
@pytest.mark.parametrize("hours", ["*", "*/2", "0-3"])
def test_tick_that_is_years_away_is_found_over_all_changes_before_it(hours: str, zone: str, change: datetime) -> None:
    day = change.astimezone(ZoneInfo(zone))
    text = f"*/20 {hours} {day.day} {day.month} *"
    expected = expected_ticks(text, zone, change - timedelta(hours=25), change + timedelta(hours=25))
    for days in (2, 5, 200, 700):
        before = change - timedelta(days=days)
        found = Cron(text, zone).ticks(before, change + timedelta(hours=25))
        assert local(zone, *(tick for tick in found if tick > change - timedelta(hours=25))) == local(zone, *expected)


SKIPPED = [
    ("*/30 2 * 3 7L", "Europe/Berlin"),
    ("* 2 * 3 7L", "Europe/Berlin"),
    ("30 */30 2 * 3 SUN#2", "America/New_York"),
]
"""The last Sunday of March at two o'clock, say: an hour that never is."""


@pytest.mark.parametrize("text, zone", SKIPPED)
def test_times_that_the_clocks_always_skip_are_looked_for_fifty_years_and_no_longer(
    text: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[datetime] = []

    def looking(fields: str, wall: datetime) -> CronSim:
        looked.append(wall)
        return CronSim(fields, wall)

    monkeypatch.setattr("rowlock.queue.schedules.cron.CronSim", looking)
    cron, now = Cron(text, zone), datetime(2026, 5, 5, tzinfo=UTC)
    looked.clear()
    assert cron.next(now) is None
    assert max(looked) < datetime(2077, 1, 1)  # noqa: DTZ001  # a wall clock's time
    for misfire in ("latest", "all", "skip"):
        looked.clear()
        found = due(cron, now - timedelta(days=800), now, misfire)
        assert (found.ticks, found.next_run_at) == ((), None)
        assert len(looked) < 1000


@pytest.mark.parametrize("text, zone", SKIPPED)
def test_schedule_of_times_that_the_clocks_always_skip_is_refused(text: str, zone: str) -> None:
    with pytest.raises(InvalidOption, match=r"cron must mean a time in the next fifty years; got .* always skip"):
        Schedule(text, timezone=zone)
    Schedule(text, timezone="UTC")


def test_latest_of_many_ticks_is_found_without_counting_them(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[datetime] = []

    def looking(fields: str, wall: datetime) -> CronSim:
        looked.append(wall)
        return CronSim(fields, wall)

    monkeypatch.setattr("rowlock.queue.schedules.cron.CronSim", looking)
    cron = Cron("* * * 1 1 *", "UTC")
    begin, end = datetime(2025, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    assert cron.latest(begin, end) == datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC)
    assert len(looked) < 100


@given(text=st.sampled_from(TEXTS), start=st.integers(0, 365 * 24 * 60), days=st.integers(0, 40))
@settings(max_examples=25, deadline=None)
def test_latest_tick_is_the_last_of_all(text: str, start: int, days: int) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC) + start * MINUTE
    cron = Cron(text, "Europe/Berlin")
    ticks = list(cron.ticks(begin, begin + timedelta(days=days)))
    assert cron.latest(begin, begin + timedelta(days=days)) == (ticks[-1] if ticks else None)


@pytest.mark.parametrize(
    "text, seconds",
    [("*/15 * * * * *", [15, 30, 45, 60]), ("30 * * * * *", [30, 90, 150, 210]), ("* * * * * *", [1, 2, 3, 4])],
)
def test_six_fields_begin_with_the_seconds(text: str, seconds: list[int]) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ticks = islice(Cron(text, "UTC").ticks(start + timedelta(microseconds=1), start + timedelta(hours=1)), 4)
    assert [(tick - start).total_seconds() for tick in ticks] == seconds


def test_fixed_times_with_seconds_follow_the_same_rule_over_a_change() -> None:
    ticks = Cron("15 30 2 * * *", "Europe/Berlin").ticks(
        datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 30, 12, tzinfo=UTC)
    )
    zone = ZoneInfo("Europe/Berlin")
    assert [tick.astimezone(zone).isoformat() for tick in ticks] == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:15+02:00",
    ]


@pytest.mark.parametrize(
    "macro, fields",
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * SUN"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@Annually", "0 0 1 1 *"),
    ],
)
def test_words_stand_for_fields(macro: str, fields: str) -> None:
    start = datetime(2026, 2, 3, 4, 5, tzinfo=UTC)
    assert Cron(macro, "Asia/Kolkata").next(start) == Cron(fields, "Asia/Kolkata").next(start)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "61 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 30 2 *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "1,,2 * * * *",
        "a b c d e",
        "@reboot",
        "* * */20 * 1L",
        "\0 * * * *",
        "٣ * * * *",
        "1" * 5000,
        None,
        5,
    ],
)
def test_bad_cron_text_is_refused_by_name_and_value(text: object) -> None:
    with pytest.raises(InvalidOption, match=r"cron must .*\. Write five fields"):
        tidy(text)


@given(st.text(alphabet="0123456789*/,-#LW@ MONJAN", max_size=25))
@settings(max_examples=150, deadline=None)
def test_no_text_ends_in_another_error(text: str) -> None:
    with suppress(InvalidOption):
        Cron(tidy(text), "Europe/Berlin").next(datetime(2026, 3, 29, tzinfo=UTC))


@pytest.mark.parametrize(
    "zone", ["", "Europe", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "localtime", "\0", None]
)
def test_unknown_zone_is_refused_by_name_and_value(zone: str) -> None:
    with pytest.raises(InvalidOption, match=r"timezone must be a name .*; got"):
        Schedule("@daily", timezone=zone)


@pytest.mark.parametrize(
    "option, value",
    [
        ("misfire", "sometimes"),
        ("misfire", None),
        ("overlap", "forbid"),
        ("jitter", -1),
        ("jitter", None),
        ("jitter", "soon"),
        ("queue", "a b"),
        ("priority", 10),
        ("max_attempts", 0),
        ("timezone", ["UTC"]),
    ],
)
def test_bad_option_of_a_schedule_is_refused_by_name_and_value(option: str, value: object) -> None:
    with pytest.raises(InvalidOption) as refused:
        Schedule("@daily", **{option: value})  # type: ignore[arg-type]  # that is the point
    assert str(refused.value).startswith(f"{option} must be ")
    assert f"; got {value!r}." in str(refused.value)


NOW = datetime(2026, 5, 5, 12, 0, 30, tzinfo=UTC)
HOURS = Cron("0 * * * *", "UTC")


def hour(given: int) -> datetime:
    return datetime(2026, 5, 5, given, tzinfo=UTC)


def hours(*given: int) -> tuple[datetime, ...]:
    return tuple(map(hour, given))


@pytest.mark.parametrize("misfire", ["latest", "all", "skip"])
def test_tick_that_is_on_time_fires_under_every_policy(misfire: str) -> None:
    found = due(HOURS, hour(12), NOW, misfire)
    assert (found.ticks, found.next_run_at, found.is_cut) == (hours(12), hour(13), False)


@pytest.mark.parametrize("misfire, fires", [("latest", (12,)), ("all", (9, 10, 11, 12)), ("skip", (12,))])
def test_missed_ticks_before_one_that_is_on_time(misfire: str, fires: tuple[int, ...]) -> None:
    found = due(HOURS, hour(9), NOW, misfire)
    assert (found.ticks, found.next_run_at) == (hours(*fires), hour(13))


@pytest.mark.parametrize("misfire, fires", [("latest", (12,)), ("all", (9, 10, 11, 12)), ("skip", ())])
def test_ticks_that_were_all_missed(misfire: str, fires: tuple[int, ...]) -> None:
    found = due(HOURS, hour(9), NOW + timedelta(seconds=31), misfire)
    assert (found.ticks, found.next_run_at) == (hours(*fires), hour(13))


def test_all_goes_on_in_the_next_round_after_a_thousand_ticks() -> None:
    seconds = Cron("* * * * * *", "UTC")
    first = due(seconds, NOW - timedelta(seconds=1499), NOW, "all")
    assert (len(first.ticks), first.is_cut) == (MOST_AT_ONCE, True)
    assert first.next_run_at is not None
    second = due(seconds, first.next_run_at, NOW, "all")
    assert (len(second.ticks), second.is_cut) == (500, False)
    assert first.ticks[-1] + timedelta(seconds=1) == second.ticks[0]
    assert second.next_run_at == NOW + timedelta(seconds=1)


def test_next_run_at_that_is_no_tick_is_a_time_to_begin_from() -> None:
    found = due(HOURS, NOW - timedelta(hours=2), NOW, "all")
    assert found.ticks == hours(11, 12)


def test_nothing_that_is_due_moves_on_without_firing() -> None:
    found = due(HOURS, NOW - timedelta(seconds=10), NOW, "all")
    assert (found.ticks, found.next_run_at) == ((), hour(13))
