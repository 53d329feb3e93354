"""Rowlock's tables. Each migration here takes the schema to the revision of Rowlock's own that has the same number."""

from __future__ import annotations

from django.db import migrations

from rowlock.integrations.django.schema import downgrade, upgrade


class Migration(migrations.Migration):
    """To revision 0001, by Rowlock's own migrations, over a connection of their own."""

    atomic = False
    operations = (migrations.RunPython(upgrade("0001"), downgrade("base")),)
