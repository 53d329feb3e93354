"""The table of the orders."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """As `manage.py makemigrations` has written it."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("customer", models.TextField()),
                ("item", models.TextField()),
                ("is_receipt_sent", models.BooleanField(default=False)),
            ],
        ),
    )
