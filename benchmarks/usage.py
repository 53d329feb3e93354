"""What a server had used by some moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds, bytes of WAL, transactions: so far."""

    cpu: float
    wal: int
    transactions: int
