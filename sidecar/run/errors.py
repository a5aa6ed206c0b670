"""Start errors: every reason at once, one per line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class StartError(Exception):
    """The sidecar cannot start; `problems` say why, a line for each reason."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Errors:
    """Gathers what is wrong with settings, so that a person mends all of it before the next start."""

    def __init__(self, problems: Iterable[str] = ()) -> None:
        self.problems = list(problems)

    def tried(self, make: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T | None:
        """Return what `make` makes; None where it raises StartError, whose problems are kept, each once."""
        try:
            return make(*arguments, **named)
        except StartError as error:
            self.problems += [problem for problem in error.problems if problem not in self.problems]
            return None


@contextmanager
def blaming(variable: str, expected: str = "") -> Iterator[None]:
    """Turn an OSError or ValueError into a StartError that names the setting, and what it was expected to name."""
    try:
        yield
    except (OSError, ValueError) as error:
        said = f"expected {expected}: {error}" if expected else str(error)
        raise StartError(f"{variable}: {said}") from None


@contextmanager
def unable(variable: str, do: str) -> Iterator[None]:
    """Turn an OSError into a StartError: the setting, what cannot be done, and the system's reason."""
    try:
        yield
    except OSError as error:
        raise StartError(f"{variable}: cannot {do}: {error.strerror or error}") from None


def require_readable(variable: str, name: str) -> None:
    """Look whether the file of a setting can be read, where it names one. Raises StartError."""
    if name:
        with unable(variable, f"read {name}"):
            Path(name).open("rb").close()
