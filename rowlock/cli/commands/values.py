"""Types of options that click lacks: finite numbers, and times with a zone."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Final

import click

from rowlock.words import quoted


class _Finite(click.types.FloatParamType):
    """A finite number: click accepts NaN in any range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401  # click's
        """Parse the number. Fails like click's own types."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"must be a finite number; got {quoted(value)}.", param, ctx)
        return number


class NumberRange(_Finite, click.FloatRange):
    """A finite number within a range."""


class _Moment(click.DateTime):
    """A time; without a zone, it is in the terminal's zone."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse the time, with its zone. Fails like click's own types."""
        moment: datetime = super().convert(value, param, ctx)
        try:
            return moment.astimezone()
        except (OverflowError, ValueError, OSError):
            self.fail(f"must be within the years 1 to 9999, here and in UTC; got {quoted(value)}.", param, ctx)


MOMENT: Final = _Moment(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"])
NUMBER: Final = _Finite()


__all__ = ["MOMENT", "NUMBER", "NumberRange"]
