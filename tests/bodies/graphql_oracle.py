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
    Undefined,
    ValueNode,
    get_operation_ast,
    parse,
    value_from_ast_untyped,
)
from graphql.language import ast

from sidecar.bodies.graphql_document import ROOTS, Document, VariableReference

Field = tuple[str, str, dict[str, Any]]
Operations = dict[str, tuple[str, list[Field]]]


def operations_of(text: str) -> Operations:
    """Return for each operation its root type and root fields. Raises GraphQLError."""
    document = parse(text, no_location=True, allow_empty_selection_sets=False)
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    found: Operations = {}
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            nodes: list[FieldNode] = []
            _nodes(node.selection_set, fragments, nodes, set())
            found[node.name.value if node.name else ""] = ROOTS[node.operation.value], list(map(_field, nodes))
    return found


def ours(document: Document) -> Operations:
    """The same of our reading."""
    return {
        name: (one.kind, [(field.name, field.alias, dict(field.arguments)) for field in one.fields])
        for name, one in document.operations.items()
    }


def _nodes(
    selections: SelectionSetNode, fragments: dict[str, FragmentDefinitionNode], fields: list[FieldNode], seen: set[str]
) -> None:
    for node in selections.selections:
        if isinstance(node, FieldNode):
            fields.append(node)
        elif isinstance(node, InlineFragmentNode):
            _nodes(node.selection_set, fragments, fields, seen)
        elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
            seen.add(node.name.value)
            _nodes(fragments[node.name.value].selection_set, fragments, fields, seen)


def _field(node: FieldNode) -> Field:
    arguments = {argument.name.value: value_of(argument.value) for argument in node.arguments or ()}
    return node.name.value, node.alias.value if node.alias else "", arguments


def value_of(node: ValueNode) -> Any:
    """A value of a document, with our marks where a variable stands."""
    match node:
        case ast.VariableNode():
            return VariableReference(node.name.value)
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


def root_calls(request: dict[str, Any]) -> list[Field]:
    """Root fields of the chosen operation of a request, with their arguments filled by graphql-core, introspection and
    `__typename` left out."""
    document = parse(request["query"], no_location=True, allow_empty_selection_sets=False)
    chosen = get_operation_ast(document, request.get("operationName"))
    assert chosen is not None
    variables = {
        node.variable.name.value: value_from_ast_untyped(node.default_value)
        for node in chosen.variable_definitions or ()
        if node.default_value is not None
    } | (request.get("variables") or {})
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    nodes: list[FieldNode] = []
    _nodes(chosen.selection_set, fragments, nodes, set())
    root = ROOTS[chosen.operation.value]
    hidden = ("__typename", *(("__schema", "__type") if root == "Query" else ()))
    return [
        (f"{root}.{node.name.value}", node.alias.value if node.alias else "", _filled(node, variables))
        for node in nodes
        if node.name.value not in hidden
    ]


def _filled(node: FieldNode, variables: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for argument in node.arguments or ():
        value = value_from_ast_untyped(argument.value, variables)
        if value is not Undefined:
            found[argument.name.value] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    """A value as JSON has it: in lists graphql-core marks what is not given, and elsewhere it leaves that out."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not Undefined}
    if isinstance(value, list):
        return [None if item is Undefined else _plain(item) for item in value]
    return value
