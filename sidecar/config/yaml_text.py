"""A YAML text -> its nodes, or one error that says in a whole sentence what is wrong, and where."""

from __future__ import annotations

import yaml


class NoYaml(ValueError):
    """A text that is no YAML, or is not what its reader expects at its top; with its place (1-based)."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


def compose(text: str) -> yaml.Node | None:
    """Return the root of the one document in a text, None where there is nothing in it. Raises NoYaml."""
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NoYaml(_sentence(error), *((mark.line + 1, mark.column + 1) if mark else ())) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        said = f"found the character U+{ord(text[error.position]):04X}, which YAML does not allow"
        raise NoYaml(said, before.count("\n") + 1, len(before) - before.rfind("\n")) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # of the parser: an escape beyond Unicode, a version of many digits
        raise NoYaml(" ".join(str(error).split())) from None
    except RecursionError:
        raise NoYaml("nested too deeply") from None
    return node


def _sentence(error: yaml.MarkedYAMLError) -> str:
    """Join the two halves of what the parser says, and tell where a thing begins that ends on a later line."""
    context, problem, start, place = error.context, error.problem, error.context_mark, error.problem_mark
    if not context or not problem:
        return problem or context or "found a text that the parser of YAML does not take"
    if start and place and start.line < place.line and "document" not in context:
        context += f" at line {start.line + 1}"
    # "while parsing a flow node" says what was read, anything else is the first half of a sentence
    return f"{problem} {context}" if context.startswith("while ") else f"{context}, {problem}"
