"""The arithmetic of schedules, without I/O: the times of a cron text, in its zone, and the ticks to fire.

The library (cronsim) finds the next match of a cron text among times without a zone; this module applies the zone, by
one rule for five and six fields, Debian cron's:

- A text whose minute and hour are both given (`30 2 * * *`) means times of the wall clock: one that the clock skips is
  a tick at the end of the skip; one that the clock shows twice is a tick at the first.
- `@every 1h30m` means an interval, too: the moments are its multiples since 1970-01-01 00:00 UTC, in every zone.
- A text whose minute or hour begins with `*` (`*/15 * * * *`) means an interval: it follows real time, and each moment
  whose wall clock fits is a tick, the second time round as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain, islice, pairwise
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from rowlock.errors import InvalidOption
from rowlock.words import quoted

MISFIRES: Final = ("latest", "all", "skip")
OVERLAPS: Final = ("allow", "skip")

ON_TIME: Final = timedelta(seconds=60)
"""How late the latest tick may be handled and still count as on time."""
MOST_AT_ONCE: Final = 1000
"""How many ticks of one schedule fire in one round; the next round continues."""

_MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_LONGEST_TEXT: Final = 256
_HOW: Final = (
    "Write five fields (minute hour day month weekday), six with the seconds first, one of "
    "@hourly @daily @weekly @monthly @yearly, or an interval like @every 90m"
)
_EVERY: Final = re.compile(r"(?i)@every ((?:[0-9]{1,9}[wdhms])+)")
_UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST: Final = timedelta(days=36_500)
_OF_THE_MACHINE: Final = frozenset({"localtime", "posixrules"})
_START: Final = datetime(2000, 1, 1)  # noqa: DTZ001  # a wall clock's time, in no zone
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_FAR: Final = timedelta(days=3)
"""More than the largest difference of two offsets from UTC: each is less than a day, either way."""
_FIFTY_YEARS: Final = timedelta(days=18_263)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron text in a time zone. Raises `InvalidOption` for an invalid text or zone."""

    text: str
    timezone: str

    def __post_init__(self) -> None:
        if _interval(self.text) is None:
            _fields(self.text)
        zone(self.timezone)

    def next(self, after: datetime) -> datetime | None:
        """The first tick later than `after`, in UTC; None if there is none in the next fifty years.

        An interval's is up to a hundred years away.
        """
        return self._first(after, None)

    def ticks(self, start: datetime, until: datetime) -> Iterator[datetime]:
        """All ticks from `start` to `until`, both included, in their order."""
        tick = self._first(start - timedelta(microseconds=1), until)
        while tick is not None:
            yield tick
            tick = self._first(tick, until)

    def latest(self, start: datetime, until: datetime) -> datetime | None:
        """The last tick from `start` to `until`, both included, found by halving the time after a known tick."""
        last = self._first(start - timedelta(microseconds=1), until)
        if last is None or self._first(last, until) is None:
            return last
        while until - last >= _SECOND:
            middle = last + (until - last) / 2
            later = self._first(middle, until)
            if later is None:
                until = middle
            else:
                last = later
        return last

    def _first(self, after: datetime, until: datetime | None) -> datetime | None:
        """The first tick later than `after` and not later than `until`; later times are not computed."""
        every = _interval(self.text)
        tick: datetime | None
        try:
            if every is not None:
                tick = _EPOCH + ((after - _EPOCH) // every + 1) * every
            else:
                start = after.astimezone(UTC).replace(microsecond=0) + _SECOND
                end = start + _FIFTY_YEARS if until is None else min(until, start + _FIFTY_YEARS)
                tick = self._next_interval(start, end) if _is_interval(self.text) else self._next_time(start)
        except (StopIteration, OverflowError):  # nothing fits until then, or until the year 9999
            return None
        return None if tick is None or (until is not None and tick > until) else tick

    def _next_time(self, start: datetime) -> datetime:
        """The first tick from `start` on, of a text that means times of the wall clock."""
        place = zone(self.timezone)
        wall = start.astimezone(place).replace(tzinfo=None, fold=0)
        matches = CronSim(_fields(self.text), wall - _SECOND)
        while True:
            tick = _to_utc(next(matches), place)
            if tick >= start:  # not the first of two of which the second is now, or the gap's end once more
                return tick

    def _next_interval(self, start: datetime, end: datetime) -> datetime | None:
        """The first tick from `start` on, searched until `end`, of a text that means an interval.

        As long as the zone keeps its offset, its clock is one without a zone; where the offset changes, the search
        starts again. It skips changes that are days away from both `start` and the match: at each, the clock shows a
        time between the two, none of which matches.
        """
        place = zone(self.timezone)
        while start <= end:
            offset = _offset(start, place)
            wall = (start + offset).replace(tzinfo=None)
            match = next(CronSim(_fields(self.text), wall - _SECOND))
            tick = match.replace(tzinfo=UTC) - offset
            near = min(tick, start + _FAR)
            change = _first_change(start, near, place)
            if change is None and near == tick:
                return tick
            start = max(near, tick - _FAR) if change is None else change
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The decision on a due schedule: the ticks that fire now, and when to check it again (None: never)."""

    ticks: tuple[datetime, ...]
    next_run_at: datetime | None
    is_cut: bool = False


def due(cron: Cron, next_run_at: datetime, now: datetime, misfire: str) -> Due:
    """Decide which ticks from `next_run_at` to `now` fire.

    The latest of them is on time if it is at most 60 s ago, and always fires then. All others are missed: `latest`
    fires the latest one, if none is on time; `all` fires each, at most 1,000 at once (`is_cut`: there are more);
    `skip` none.
    """
    if misfire == "all":  # seam: misfire
        ticks = tuple(islice(cron.ticks(next_run_at, now), MOST_AT_ONCE))
        following = cron.next(ticks[-1] if ticks else now)
        return Due(ticks=ticks, next_run_at=following, is_cut=following is not None and following <= now)
    latest = cron.latest(next_run_at, now)
    fires = latest is not None and (misfire == "latest" or now - latest <= ON_TIME)
    return Due(ticks=(latest,) if latest is not None and fires else (), next_run_at=cron.next(now))


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The time zone of this name. Raises `InvalidOption` if there is none."""
    try:
        found = ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError) as error:
        raise _no_zone(name) from error
    if name in _OF_THE_MACHINE:
        raise _no_zone(name)
    return found


def _no_zone(name: object) -> InvalidOption:
    return InvalidOption(
        f"timezone must be a name of the IANA database, like Europe/Berlin or UTC; got {quoted(name):.80}.",
        option="timezone",
    )


def tidy(text: object) -> str:
    """The cron text with single spaces; an interval, also a `timedelta`, as its text: `@every 1h30m`.

    Raises `InvalidOption` for an invalid text, and for one that means no time at all.
    """
    every = text if isinstance(text, timedelta) else _interval(text)
    if every is not None:
        return _every(every)
    if not isinstance(text, str):
        raise InvalidOption(f"cron must be text; got {quoted(text)}. {_HOW}.", option="cron")
    tidied = " ".join(text.split())
    _fields(tidied)
    return tidied


def _interval(text: object) -> timedelta | None:
    """The interval that the text names; None for a text of another kind."""
    found = _EVERY.fullmatch(" ".join(text.split())) if isinstance(text, str) else None
    if found is None:
        return None
    parts = re.findall(r"([0-9]+)([a-z])", found[1].lower())
    return timedelta(seconds=min(sum(int(count) * _UNITS[unit] for count, unit in parts), 10**11))


def _every(interval: timedelta) -> str:
    """The text of an interval. Raises `InvalidOption`."""
    if not _SECOND <= interval <= _LONGEST or interval % _SECOND:
        raise InvalidOption(
            f"A schedule's interval must be whole seconds, from 1 second to 100 years; got {interval}. Round it.",
            option="cron",
        )
    rest, text = interval // _SECOND, ""
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, _UNITS[unit])
        text += f"{count}{unit}" if count else ""
    return f"@every {text}"


@lru_cache(maxsize=1024)
def _fields(text: str) -> str:
    """The fields that a cron text stands for. Raises `InvalidOption`."""
    if len(text) > _LONGEST_TEXT:
        raise InvalidOption(
            f"cron must be at most {_LONGEST_TEXT} characters; got {quoted(text[:40])}…. {_HOW}.", option="cron"
        )
    fields = _MACROS.get(text.lower(), text)
    try:
        next(CronSim(fields, _START))
    except StopIteration:
        raise InvalidOption(
            f"cron must mean a time in the next fifty years; got {quoted(text)}. {_HOW}.", option="cron"
        ) from None
    except (CronSimError, ValueError, AssertionError) as error:
        why = f"{str(error)[:1].lower()}{str(error)[1:]}" if isinstance(error, CronSimError) else "not a cron text"
        raise InvalidOption(f"cron must be a cron text; got {quoted(text)} ({why}). {_HOW}.", option="cron") from error
    return fields


@lru_cache(maxsize=1024)
def _is_interval(text: str) -> bool:
    minute, hour = _fields(text).split()[-5:-3]
    return minute.startswith("*") or hour.startswith("*")


def _offset(moment: datetime, place: ZoneInfo) -> timedelta:
    return moment.astimezone(place).utcoffset() or timedelta(0)


def _to_utc(wall: datetime, place: ZoneInfo) -> datetime:
    """The moment at which the wall clock first shows this time; if it never does, the end of the gap."""
    moment = wall.replace(tzinfo=place).astimezone(UTC)
    if moment.astimezone(place).replace(tzinfo=None) == wall:
        return moment
    # In a gap, fold=0 counts by the offset before it: `moment` is after the change, by as much as `wall` is.
    change = _first_change(moment - _DAY, moment, place)
    return moment if change is None else change


def _first_change(start: datetime, end: datetime, place: ZoneInfo) -> datetime | None:
    """The first second after `start`, up to `end`, at which the zone has another offset, searched day by day."""
    before = _offset(start, place)
    days = int((end - start) / _DAY)
    for low, high in pairwise(chain((start + n * _DAY for n in range(days + 1)), (end,))):
        if _offset(high, place) == before:
            continue
        while high - low > _SECOND:
            middle = low + (high - low) // 2
            if _offset(middle, place) == before:
                low = middle  # noqa: PLW2901  # halving
            else:
                high = middle  # noqa: PLW2901  # halving
        return high.replace(microsecond=0)  # offsets change at whole seconds
    return None
