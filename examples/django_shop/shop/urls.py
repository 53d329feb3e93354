"""Where the shop's pages are."""

from django.urls import path

from . import views

urlpatterns = [path("orders", views.order), path("jobs/<job>", views.status)]
