"""Places of what a route file says: `routes.yaml:12`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from sidecar.config.yaml_nodes import YamlDocument, entries, items
from sidecar.gate.routing import route_name


class RoutePlaces:
    """Places in one route file that was read and is sound."""

    def __init__(self, file: str) -> None:
        self._document = YamlDocument(Path(file), file)
        self._root = entries(self._document.root)
        self._routes: dict[str, dict[str, yaml.Node]] = {}
        for node in items(self._root.get("routes")):
            route = entries(node)
            path = self._document.scalar(route.get("path"))
            if path is not None:
                self._routes[route_name(self._hosts(route.get("hosts")), path.value)] = route

    def _hosts(self, node: yaml.Node | None) -> list[str]:
        nodes: Sequence[yaml.Node | None] = items(node) or [node]
        scalars = [self._document.scalar(each) for each in nodes]
        return [each.value.lower() for each in scalars if each is not None]

    def route(self, path: str, method: str = "") -> str:
        """The place of a route, and of one of its methods."""
        route = self._routes.get(path, {})
        actions = entries(route.get("actions"))
        return self._place_of(actions.get(method), route.get("methods") if method else None, route.get("path"))

    def attribute(self, route: str, method: str, where: str) -> str:
        """The place of an attribute, where `where` says, such as `lookups.contact.attributes.owner`."""
        node: yaml.Node | None = None
        own = self._routes.get(route, {})
        if not where.startswith(("lookups.", "principal.")):
            of_method = entries(entries(own.get("actions")).get(method))
            node = _below(of_method, where) or _below(own, where)
        return self._place_of(node or _below(self._root, where), own.get("path"))

    def _place_of(self, *nodes: yaml.Node | None) -> str:
        node = next((each for each in nodes if each is not None), self._document.root)
        place = self._document.place(node)
        return f"{place.file}:{place.line}"


def _below(node: dict[str, yaml.Node], path: str) -> yaml.Node | None:
    """The node at a path of names with dots between; the last name may have dots itself."""
    name, _, rest = path.partition(".attributes.")
    steps = [*name.split("."), "attributes", rest] if rest else path.split(".", 1)
    found: yaml.Node | None = None
    for step in steps:
        found = node.get(step)
        if found is None:
            return None
        node = entries(found)
    return found
