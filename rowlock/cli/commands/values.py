"""The types of options that click has not: seconds and other numbers that are finite, and times with a zone."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Final

import click

from rowlock.words import quoted


class _Finite(click.types.FloatParamType):
    """A number that is finite: NaN is within each range to click."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401  # click's
        """The number. Fails, as click's own types do, for what is none."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{quoted(value)} is not a finite number.", param, ctx)
        return number


class NumberRange(_Finite, click.FloatRange):
    """A finite number within a range."""


class _Moment(click.DateTime):
    """A time; one without a zone is in the terminal's."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time, with its zone. Fails, as click's own types do, for what is none."""
        moment: datetime = super().convert(value, param, ctx)
        try:
            return moment.astimezone()
        except (OverflowError, ValueError, OSError):
            self.fail(f"{quoted(value)} is outside the years 1 to 9999 here or in UTC.", param, ctx)


MOMENT: Final = _Moment(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"])
NUMBER: Final = _Finite()


__all__ = ["MOMENT", "NUMBER", "NumberRange"]
