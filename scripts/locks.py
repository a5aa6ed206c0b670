"""The locks of the image: the parts of requirements-dev.lock that the image holds, and that its build needs.

    python scripts/locks.py

One resolution, so what the tests ran with is what the image runs. Run it after requirements-dev.lock has changed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
EXTRAS = ("srp", "otel", "envoy", "sql-postgres", "sql-mysql", "sql-sqlite")
"""The extras in the image: all that a setting can ask for. What a setting names and the image lacks would be a trap."""
LEFT_OUT = frozenset({"grpcio-tools", "setuptools"})
"""A compiler and a build system that the Cerbos SDK asks for and that nothing imports when it serves."""
_HEAD = "# {}: a part of requirements-dev.lock.\n# Made by: python scripts/locks.py\n"


def entries(lock: str) -> dict[str, str]:
    """A lock's entries by package name, each with its marker and hashes, as they stand there."""
    text = re.sub(r"^#.*\n", "", lock, flags=re.MULTILINE).strip()
    return {re.split(r"==|\[", entry, maxsplit=1)[0]: entry for entry in re.split(r"\n(?=\S)", text)}


def closure(wanted: Iterable[str], known: Iterable[str]) -> set[str]:
    """The names, of those `known`, that these requirements come to, by the metadata of what is installed.

    Markers on the platform are not judged here: an entry of the lock has its own.
    """
    names, found, left = set(known), set[tuple[str, str]](), [Requirement(text) for text in wanted]
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if name in names and (name, extra) not in found:
                found.add((name, extra))
                left += _requires(name, extra)
    return {name for name, _ in found}


def _requires(name: str, extra: str) -> list[Requirement]:
    try:
        requirements = [Requirement(text) for text in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:  # of another platform
        return []
    return [one for one in requirements if _belongs(one, extra)]


def _belongs(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    if marker is None or "extra" not in str(marker):
        return not extra
    return bool(extra) and marker.evaluate({"extra": extra})


def _lock(title: str, wanted: list[str]) -> str:
    every = entries((ROOT / "requirements-dev.lock").read_text(encoding="utf-8"))
    names = closure(wanted, every.keys() - LEFT_OUT)
    return _HEAD.format(title) + "".join(f"{every[name]}\n" for name in sorted(names))


def runtime() -> str:
    """The text of requirements.lock: the package's dependencies with EXTRAS."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [item for extra in EXTRAS for item in project["optional-dependencies"][extra]]
    return _lock("What the image holds besides the package itself", [*project["dependencies"], *extras])


def build() -> str:
    """The text of requirements-build.lock: what makes a wheel of the package."""
    system = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]
    return _lock("What makes a wheel of the package", system["requires"])


def cognito() -> str:
    """The text of deploy/compose/cognito/requirements.lock: the local Cognito, with the parts of moto that it uses."""
    needed = [
        "moto[cognitoidp]",
        "flask",
        "flask-cors",
        "boto3",
        "httpx",
        "jinja2",
        "pyjwt[crypto]",
        "starlette",
        "uvicorn",
    ]
    return _lock("What the local Cognito of docker-compose.yaml holds", needed)


LOCKS = {
    "requirements.lock": runtime,
    "requirements-build.lock": build,
    "deploy/compose/cognito/requirements.lock": cognito,
}

if __name__ == "__main__":
    for name, make in LOCKS.items():
        (ROOT / name).write_text(make(), encoding="utf-8")
