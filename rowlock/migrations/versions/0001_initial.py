"""The tables, functions and the view of the first release."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from rowlock.schema import in_schema

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SQL = Path(__file__).parent / "0001_initial"


def upgrade(schema: str = "rowlock") -> None:
    """Create everything, one file a subject."""
    subjects = (
        "tasks",
        "jobs",
        "queues",
        "attempts",
        "workers",
        "handlers",
        "functions",
        "reading",
        "operations",
        "schedules",
    )
    for name in (*subjects, "retention", "statistics", "keys"):
        for statement in _statements(name):
            op.execute(in_schema(statement, schema))


def downgrade(schema: str = "rowlock") -> None:
    """Remove everything, including every job."""
    for statement in _statements("downgrade"):
        op.execute(in_schema(statement, schema))


def _statements(name: str) -> list[str]:
    """Split a file into statements at its `--;` lines; an escaped colon is not a parameter."""
    text = (_SQL / f"{name}.sql").read_text(encoding="utf-8")
    return [statement.replace(":", r"\:") for statement in text.split("\n--;\n") if statement.strip()]
