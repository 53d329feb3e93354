"""The Django application: in INSTALLED_APPS it adds the migrations and the management commands."""

from __future__ import annotations

from django.apps import AppConfig


class RowlockConfig(AppConfig):
    """`"rowlock.integrations.django"` in INSTALLED_APPS; its label is `rowlock`, as in `manage.py migrate rowlock`."""

    name = "rowlock.integrations.django"
    label = "rowlock"
    verbose_name = "Rowlock"
