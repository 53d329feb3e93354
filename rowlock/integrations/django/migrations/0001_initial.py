"""Rowlock's tables. Each migration here takes the schema to Rowlock's own revision of the same number."""

from __future__ import annotations

from django.db import migrations

from rowlock.integrations.django.schema import downgrade, upgrade


class Migration(migrations.Migration):
    """Migrate to revision 0001 by Rowlock's own migrations, over a separate connection."""

    atomic = False
    operations = (migrations.RunPython(upgrade("0001"), downgrade("base")),)
