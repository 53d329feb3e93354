"""The results of a comparison: what was measured, of what, where; as JSON, and read back from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures, medians, paired_ratio


@dataclass(slots=True, kw_only=True)
class Measured:
    """All runs of one system in one variant of a workload."""

    workload: str
    variant: str
    system: str
    headline: str
    runs: list[Figures] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def median(self) -> Figures:
        """The median of each figure."""
        return medians(self.runs)

    @property
    def headlines(self) -> list[float]:
        """The figure that says it all, of each run."""
        return [run[self.headline] for run in self.runs if self.headline in run]


@dataclass(slots=True, kw_only=True)
class Results:
    """A whole comparison."""

    machine: dict[str, object]
    server: dict[str, str]
    options: dict[str, Any]
    systems: dict[str, dict[str, Any]]
    began_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    measured: list[Measured] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def of(self, workload: str, variant: str, system: str) -> Measured | None:
        """One line of one table."""
        return next(
            (m for m in self.measured if (m.workload, m.variant, m.system) == (workload, variant, system)), None
        )

    def workloads(self) -> dict[str, dict[str, list[Measured]]]:
        """The lines by workload and variant, in the order in which they were measured."""
        found: dict[str, dict[str, list[Measured]]] = {}
        for line in self.measured:
            found.setdefault(line.workload, {}).setdefault(line.variant, []).append(line)
        return found

    def variants(self) -> Iterator[tuple[str, str, list[Measured]]]:
        """Each variant of each workload, with its lines."""
        for workload, variants in self.workloads().items():
            yield from ((workload, variant, lines) for variant, lines in variants.items())

    def ratios(self) -> list[dict[str, Any]]:
        """Rowlock's headline divided by each other system's: the median over the rounds."""
        found = []
        for workload, variant, lines in self.variants():
            ours = next((line for line in lines if line.system == "rowlock"), None)
            for line in lines:
                if ours is not None and line is not ours:
                    value = paired_ratio(ours.headlines, line.headlines)
                    found.append(
                        {
                            "workload": workload,
                            "variant": variant,
                            "figure": line.headline,
                            "rowlock_divided_by": line.system,
                            "ratio": None if value is None else round(value, 3),
                        }
                    )
        return found

    def save(self, path: Path) -> None:
        """Write it all down."""
        document = asdict(self)
        document["measured"] = [asdict(line) | {"median": line.median} for line in self.measured]
        document["ratios"] = self.ratios()
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def joined(cls, paths: Sequence[Path]) -> Results:
        """Several comparisons of the same machine and server as one; a table that is in two of them is the later one's.

        Raises `ValueError` if they are not of the same machine and server.
        """
        first, *others = [cls.load(path) for path in paths]
        for other in others:
            if (other.machine, other.server) != (first.machine, first.server):
                raise ValueError("the results are of different machines or servers: show them one by one")
            known = {(line.workload, line.variant) for line in other.measured}
            first.measured = [line for line in first.measured if (line.workload, line.variant) not in known]
            first.measured += other.measured
            first.systems |= other.systems
            first.skipped |= other.skipped
            first.options["rounds"] = min(first.options["rounds"], other.options["rounds"])
        return first

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote."""
        document = json.loads(path.read_text())
        document.pop("ratios")
        document["measured"] = [
            Measured(**{name: value for name, value in line.items() if name != "median"})
            for line in document["measured"]
        ]
        return cls(**document)
