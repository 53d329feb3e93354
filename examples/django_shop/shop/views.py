"""The shop's pages."""

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST
from django_tasks import TaskResult, default_task_backend
from django_tasks.exceptions import TaskResultDoesNotExist

from .models import Order
from .tasks import send_receipt


class SoldOut(Exception):
    """Nothing is left."""


def place(customer: str, item: str) -> TaskResult[str]:
    """Store an order and enqueue its job. Raises `SoldOut`."""
    order = Order.objects.create(customer=customer, item=item)
    result = send_receipt.enqueue(order.pk)
    if item == "unicorn":
        raise SoldOut
    return result


@csrf_exempt
@require_POST
def order(request: HttpRequest) -> HttpResponse:
    """Store an order, and have its receipt sent: both, or neither."""
    try:
        with transaction.atomic():
            result = place(request.GET["customer"], request.GET["item"])
    except SoldOut:
        return HttpResponse("Sold out.", status=409)
    return JsonResponse({"job": result.id}, status=201)


@require_GET
def status(_request: HttpRequest, job: str) -> HttpResponse:
    """What has become of a job."""
    try:
        result = default_task_backend.get_result(job)
    except TaskResultDoesNotExist as error:
        return HttpResponse(str(error), status=404)
    is_done = result.status == "SUCCESSFUL"
    return JsonResponse({"state": result.status, "result": result.return_value if is_done else None})
