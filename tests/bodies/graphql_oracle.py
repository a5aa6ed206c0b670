"""Root fields of a GraphQL document as graphql-core reads it: the measure for our own reading."""

from __future__ import annotations

from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    parse,
)
from graphql.language import ast

from sidecar.bodies.graphql_document import ROOTS, Document, Variable

Field = tuple[str, str, dict[str, Any]]
Operations = dict[str, tuple[str, list[Field]]]


def operations_of(text: str) -> Operations:
    """Return for each operation its root type and root fields. Raises GraphQLError."""
    document = parse(text, no_location=True, allow_empty_selection_sets=False)
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    found: Operations = {}
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            fields: list[Field] = []
            _collect(node.selection_set, fragments, fields, set())
            found[node.name.value if node.name else ""] = ROOTS[node.operation.value], fields
    return found


def ours(document: Document) -> Operations:
    """The same of our reading."""
    return {
        name: (one.kind, [(field.name, field.alias, dict(field.arguments)) for field in one.fields])
        for name, one in document.operations.items()
    }


def _collect(
    selections: SelectionSetNode, fragments: dict[str, FragmentDefinitionNode], fields: list[Field], seen: set[str]
) -> None:
    for node in selections.selections:
        if isinstance(node, FieldNode):
            arguments = {argument.name.value: value_of(argument.value) for argument in node.arguments or ()}
            fields.append((node.name.value, node.alias.value if node.alias else "", arguments))
        elif isinstance(node, InlineFragmentNode):
            _collect(node.selection_set, fragments, fields, seen)
        elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
            seen.add(node.name.value)
            _collect(fragments[node.name.value].selection_set, fragments, fields, seen)


def value_of(node: ValueNode) -> Any:
    """A value of a document, with our marks where a variable stands."""
    match node:
        case ast.VariableNode():
            return Variable(node.name.value)
        case ast.IntValueNode() | ast.FloatValueNode():
            return int(node.value) if isinstance(node, ast.IntValueNode) else float(node.value)
        case ast.NullValueNode():
            return None
        case ast.ListValueNode():
            return [value_of(item) for item in node.values or ()]
        case ast.ObjectValueNode():
            return {field.name.value: value_of(field.value) for field in node.fields or ()}
        case ast.BooleanValueNode() | ast.StringValueNode() | ast.EnumValueNode():
            return node.value
    raise AssertionError(node)
