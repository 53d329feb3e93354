"""The settings of the project."""

import os

INSTALLED_APPS = ["shop", "rowlock.integrations.django"]

TASKS = {"default": {"BACKEND": "rowlock.integrations.django.RowlockBackend"}}

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("PGDATABASE", "shop"),
        "USER": os.environ.get("PGUSER", ""),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "HOST": os.environ.get("PGHOST", "localhost"),
        "PORT": os.environ.get("PGPORT", ""),
    }
}

SECRET_KEY = "of an example"  # noqa: S105  # an example, not a secret
DEBUG = True
ROOT_URLCONF = "shop.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
