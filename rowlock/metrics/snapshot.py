"""A snapshot of the database for the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rowlock.queue.read.gauges import Table
    from rowlock.queue.read.overview import Overview


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot of the database: None for each part that could not be read; `errors` counts these failures by part."""

    is_up: bool
    overview: Overview | None
    horizon: float | None
    tables: Sequence[Table] | None
    errors: Mapping[str, int]
