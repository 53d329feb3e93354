"""${message}.

Rules: additive first, removing one release later; no statement that rewrites `job` or `finished_job` or scans them under
an ACCESS EXCLUSIVE lock; no trigger and no foreign key on them; text keys COLLATE "C"; times timestamptz.
Mirror every table in `rowlock/migrations/metadata.py`: `alembic check` compares.
"""

from __future__ import annotations

from alembic import op

from rowlock.schema import in_schema

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade(schema: str = "rowlock") -> None:
    ${upgrades if upgrades else "pass"}


def downgrade(schema: str = "rowlock") -> None:
    ${downgrades if downgrades else "pass"}
