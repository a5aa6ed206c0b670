"""JSON Patch applied as RFC 6902 says, for the one operation that the webhook uses: `add` (section 4.1)."""

from __future__ import annotations

import copy
from typing import Any


def applied(document: Any, operations: list[dict[str, Any]]) -> Any:
    """The document after the operations. Raises KeyError, IndexError where the target's parent is not there."""
    made = copy.deepcopy(document)
    for operation in operations:
        assert set(operation) == {"op", "path", "value"}, operation
        assert operation["op"] == "add", operation
        *parents, last = [one.replace("~1", "/").replace("~0", "~") for one in operation["path"].split("/")[1:]]
        target = made
        for parent in parents:
            target = target[int(parent)] if isinstance(target, list) else target[parent]
        value = copy.deepcopy(operation["value"])
        if isinstance(target, dict):
            target[last] = value
        elif last == "-":
            target.append(value)
        else:
            if int(last) > len(target):
                raise IndexError(operation["path"])
            target.insert(int(last), value)
    return made
