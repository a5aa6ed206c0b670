"""A small app of Django as there are many: contacts as JSON for anybody who asks, which knows no users.

    python -m tests.apps.django_app PORT

Its parameters are field lookups (`owner=alice`, `id__lte=2`), `search` in phone numbers, and `ordering`.
"""

from __future__ import annotations

import sys

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.db import connection, models
from django.http import HttpRequest, JsonResponse
from django.urls import path

from tests.apps.contacts import CONTACTS

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "contacts.db"}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    ROOT_URLCONF=__name__,
    SECRET_KEY="of no use: no session, no form",
)
django.setup()


class Contact(models.Model):  # type: ignore[misc]
    """A contact."""

    name = models.TextField()
    phone = models.TextField()
    owner = models.TextField()
    card = models.TextField()

    class Meta:
        app_label = "contacts"

    def shown(self) -> dict[str, object]:
        """Return it as its JSON has it."""
        return {
            "id": self.id, "name": self.name, "phone": self.phone, "owner": self.owner, "card": {"number": self.card},
        }  # fmt: skip


def contacts(request: HttpRequest) -> JsonResponse:
    """GET /api/contacts/."""
    found = Contact.objects.order_by(request.GET.get("ordering", "id"))
    for name, value in request.GET.items():
        if name == "search":
            found = found.filter(phone__contains=value)
        elif name != "ordering":
            found = found.filter(**{name: value.split(",") if name.endswith("__in") else value})
    shown = [contact.shown() for contact in found]
    return JsonResponse({"count": len(shown), "results": shown})


def contact(_: HttpRequest, key: int) -> JsonResponse:
    """GET /api/contacts/1/."""
    found = Contact.objects.filter(id=key).first()
    return JsonResponse({"detail": "Not found."}, status=404) if found is None else JsonResponse(found.shown())


urlpatterns = [path("api/contacts/", contacts), path("api/contacts/<int:key>/", contact)]

if __name__ == "__main__":
    with connection.schema_editor() as editor:
        editor.create_model(Contact)
    Contact.objects.bulk_create([Contact(**said) for said in CONTACTS])
    execute_from_command_line(["manage.py", "runserver", "--noreload", f"127.0.0.1:{sys.argv[1]}"])
