"""What a server had used by some moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds, bytes of WAL, transactions, and statements where they are counted: so far."""

    cpu: float
    wal: int
    transactions: int
    statements: int = 0
