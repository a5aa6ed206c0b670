"""`config/yaml_text.py`: what is wrong with a YAML text is told in a whole sentence, with its place."""

from __future__ import annotations

import pytest
import yaml

from sidecar.config.yaml_text import NoYaml, compose


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("a: 1\n---\nb: 2\n", 2, 1, "expected a single document in the stream, but found another document"),
        ("a: [", 1, 5, "expected the node content, but found '<stream end>' while parsing a flow node"),
        ("a: {b: 1", 1, 9, "expected ',' or '}', but got '<stream end>' while parsing a flow mapping"),
        ("\ta: 1", 1, 1, "found character '\\t' that cannot start any token while scanning for the next token"),
        ("a: b: c", 1, 5, "mapping values are not allowed here"),
        ("a: *q", 1, 4, "found undefined alias 'q'"),
        ("x: 1\na: 'b\n\n", 4, 1, "found unexpected end of stream while scanning a quoted scalar at line 2"),
        ("a: &x 1\nb: &x 2\n", 2, 4, "found duplicate anchor 'x'; first occurrence at line 1, second occurrence"),
        ("a: 1\nb: \x07", 2, 4, "found the character U+0007, which YAML does not allow"),
        (r'a: "\U00110000"', 1, 1, "chr() arg not in range(0x110000)"),
        (r'a: "\UFFFFFFFF"', 1, 1, "Python int too large to convert to C int"),
        ("[\n" * 5000, 1, 1, "nested too deeply"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_sentence_with_a_place(text: str, line: int, column: int, said: str) -> None:
    with pytest.raises(NoYaml) as caught:
        compose(text)
    assert (str(caught.value), caught.value.line, caught.value.column) == (said, line, column)


def test_what_is_yaml_is_a_node() -> None:
    node = compose("a: [1]\n")
    assert isinstance(node, yaml.MappingNode)
    assert compose("# nothing\n") is None
