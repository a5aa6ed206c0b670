"""An app of Django REST framework with three view sets, and its spec by drf-spectacular.

python -m tests.imports.witnesses.drf_app
"""

from __future__ import annotations

import json

import django
from django.conf import settings
from django.db import models

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", "drf_spectacular"],
    REST_FRAMEWORK={"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"},
    ROOT_URLCONF=__name__,
    SECRET_KEY="of no use: no session, no form",
)
django.setup()

from django.urls import include, path  # noqa: E402 - after the settings
from drf_spectacular.generators import SchemaGenerator  # noqa: E402
from rest_framework import routers, serializers, viewsets  # noqa: E402
from rest_framework.decorators import action  # noqa: E402
from rest_framework.response import Response  # noqa: E402


class Invoice(models.Model):
    """An invoice."""

    owner = models.TextField()
    status = models.TextField()
    total = models.IntegerField()

    class Meta:
        app_label = "shop"


class InvoiceSerializer(serializers.ModelSerializer):
    """An invoice as JSON."""

    class Meta:
        model = Invoice
        fields = ("id", "owner", "status", "total")


class Invoices(viewsets.ModelViewSet):
    """Invoices."""

    queryset = Invoice.objects.all()
    serializer_class = InvoiceSerializer

    @action(detail=True, methods=["post"])
    def send(self, request, pk=None):
        """Send one."""
        return Response({})

    @action(detail=False, methods=["get"])
    def overdue(self, request):
        """List those that are overdue."""
        return Response([])


class PurchaseOrders(viewsets.ReadOnlyModelViewSet):
    """Orders, which nobody changes."""

    queryset = Invoice.objects.all()
    serializer_class = InvoiceSerializer


router = routers.DefaultRouter()
router.register("invoices", Invoices)
router.register("purchase-orders", PurchaseOrders, basename="purchase-order")
urlpatterns = [path("api/v1/", include(router.urls))]

if __name__ == "__main__":
    print(json.dumps(SchemaGenerator().get_schema(request=None, public=True)))
