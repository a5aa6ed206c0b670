"""A GraphQL API of Strawberry, unchanged, that keeps what its resolvers were called with."""

from __future__ import annotations

from typing import Any

import strawberry
from strawberry.asgi import GraphQL

Call = tuple[str, dict[str, Any]]
EXECUTED: list[Call] = []
"""Root fields whose resolvers were called, in order, with the arguments that they got."""


def _called(field: str, **arguments: Any) -> None:
    EXECUTED.append((field, {name: value for name, value in arguments.items() if value is not strawberry.UNSET}))


@strawberry.type
class Contact:
    """A contact."""

    id: strawberry.ID
    name: str = "Ada"

    @strawberry.field
    def colleague(self) -> Contact:
        """Another contact, as deep as it is asked for."""
        return Contact(id=strawberry.ID(f"{self.id}0"))


@strawberry.input
class Filter:
    """What is searched for."""

    owner: strawberry.ID
    tags: list[str] | None = strawberry.UNSET


@strawberry.input
class ContactInput:
    """A contact to create."""

    owner: strawberry.ID
    name: str


@strawberry.type
class Query:
    """Root of queries."""

    @strawberry.field
    def contact(self, id: strawberry.ID) -> Contact:
        """One contact."""
        _called("Query.contact", id=id)
        return Contact(id=id)

    @strawberry.field
    def contacts(
        self, owner: strawberry.ID | None = strawberry.UNSET, limit: int | None = strawberry.UNSET
    ) -> list[Contact]:
        """The contacts of an owner."""
        _called("Query.contacts", owner=owner, limit=limit)
        return [Contact(id=strawberry.ID("1"))]

    @strawberry.field
    def search(self, filter: Filter) -> list[Contact]:
        """Contacts that a filter finds."""
        _called("Query.search", owner=filter.owner, tags=filter.tags)
        return []

    @strawberry.field
    def secret(self) -> str:
        """A field that no route names."""
        _called("Query.secret")
        return "s"


@strawberry.type
class Mutation:
    """Root of mutations."""

    @strawberry.mutation
    def delete_contact(self, id: strawberry.ID) -> bool:
        """Delete a contact."""
        _called("Mutation.deleteContact", id=id)
        return True

    @strawberry.mutation
    def create_contact(self, input: ContactInput) -> Contact:
        """Create a contact."""
        _called("Mutation.createContact", owner=input.owner, name=input.name)
        return Contact(id=strawberry.ID("9"), name=input.name)


schema = strawberry.Schema(Query, Mutation)
app = GraphQL[None, None](schema)
