"""The shop's tables."""

from django.db import models


class Order(models.Model):
    """An order of a customer."""

    customer = models.TextField()
    item = models.TextField()
    is_receipt_sent = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"{self.item} for {self.customer}"
