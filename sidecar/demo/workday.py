"""A workday at the demo's app: who does what, so that there is something to watch before anything is enforced."""

from __future__ import annotations

from typing import Any, NamedTuple

from sidecar.demo.cognito import USERS, User

PEOPLE = (
    *(user for user in USERS if not user.temporary),
    User("dora", "Doris-1234", ("user",), "dora@example.com"),
    User("amir", "Amira-1234", ("admin",), "amir@example.com"),
)
"""The people of the workday: those of the demo who have a password, and two more."""


class DemoRequest(NamedTuple):
    """One request to the app: of a user by name, or of nobody (""). `body` is sent as JSON."""

    user: str
    method: str
    path: str
    body: Any = None


OWN = {"alice": ("1", "3"), "bob": ("2", "4"), "dora": ("5",)}
"""Contacts that each of them changes."""
OUTDATED = {"alice": ("50", "51"), "bob": ("52", "53"), "dora": ("54", "55")}
"""Contacts that each of them makes, and that an admin takes away."""


def workday() -> tuple[DemoRequest, ...]:
    """Return the requests of one day, in their order. People keep to their own contacts, but for one; and one of them
    looks at all that the app has."""
    visits = [_made("dora", "5"), *(_made(user, contact) for user, made in OUTDATED.items() for contact in made)]
    for _ in range(3):
        for user, contacts in OWN.items():
            visits += [DemoRequest(user, "GET", "/contacts"), DemoRequest(user, "GET", "/contacts?_page=1&_limit=10")]
            for contact in contacts:
                visits += [
                    DemoRequest(user, "GET", f"/contacts/{contact}"),
                    DemoRequest(user, "PATCH", f"/contacts/{contact}", {"phone": "+1 202 555 0100"}),
                ]
        for user in ("admin", "amir"):
            visits += [
                DemoRequest(user, "GET", "/contacts"),
                *(DemoRequest(user, "GET", f"/contacts/{at}") for at in range(1, 5)),
            ]
    for contacts in OUTDATED.values():
        visits += [
            DemoRequest(user, "DELETE", f"/contacts/{contact}")
            for user, contact in zip(("admin", "amir"), contacts, strict=True)
        ]
    # nobody told of these: a colleague's contact, changed in passing, and the app's dump of all that it has
    visits += [
        DemoRequest("dora", "PATCH", "/contacts/2", {"name": "Grace B. M. Hopper"}),
        DemoRequest("bob", "GET", "/db"),
    ]
    return tuple(visits)


def _made(owner: str, contact: str) -> DemoRequest:
    name, phone = "Katherine Johnson", "+1 202 555 0199"
    body = {"id": int(contact), "name": name, "phone": phone, "owner_id": owner, "visibility": "team"}
    return DemoRequest(owner, "POST", "/contacts", body)
