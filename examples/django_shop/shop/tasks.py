"""The shop's jobs. Every application's module `tasks` is found by the worker."""

from django_tasks import task  # from Django 6 on: from django.tasks import task

from .models import Order


@task
def send_receipt(order: int) -> str:
    """Stand in for a mail."""
    found = Order.objects.get(pk=order)
    found.is_receipt_sent = True
    found.save()
    return f"To {found.customer}: thank you for buying a {found.item}."
