"""Hooks of mkdocs: a page of the navigation that this checkout does not have is left out, and links out of docs/ are kept.

The pages are also read as files of the repository, where `../SECURITY.md` leads somewhere; in the site it does not.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

PICTURES = ("bench/results/chart.svg",)
"""Of the repository, taken into the site under the same path."""
_OUTSIDE = re.compile(r"(!?)\[([^\]]+)\]\(((?:\.\./)+[A-Za-z][\w./-]*)\)")


def on_config(config: Any) -> Any:
    """Make the navigation of what is there."""
    docs = Path(config["docs_dir"])
    config["nav"] = navigation(config["nav"], docs, _named(config["nav"]))
    return config


def navigation(nav: list[Any], docs: Path, named: set[str]) -> list[Any]:
    """The entries whose pages are there; for `folder/` all pages of a folder that are not `named` elsewhere."""
    kept: list[Any] = []
    for item in nav:
        ((name, what),) = item.items() if isinstance(item, dict) else ((None, item),)
        if isinstance(what, list):
            if inner := navigation(what, docs, named):
                kept.append({name: inner})
        elif what.endswith("/"):
            pages = sorted(str(page.relative_to(docs)) for page in (docs / what).glob("*.md"))
            kept += [page for page in pages if page not in named]
        elif (docs / what).is_file():
            kept.append(item)
    return kept


def _named(nav: Any) -> set[str]:
    if isinstance(nav, str):
        return {nav}
    return {page for item in (nav.values() if isinstance(nav, dict) else nav) for page in _named(item)}


def on_files(files: Any, config: Any) -> Any:
    """Take the pictures in."""
    root = Path(config["docs_dir"]).parent
    for name in PICTURES:
        if (root / name).is_file():
            files.append(File.generated(config, name, abs_src_path=str(root / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """A link to a file outside docs/ is its name alone, a picture from there its place in the site."""
    folder = posixpath.dirname(page.file.src_uri)

    def inside(link: re.Match[str]) -> str:
        picture, text, target = link.groups()
        # as seen from docs/, which is where the site begins
        path = posixpath.normpath(posixpath.join(folder, target))
        if not path.startswith("../"):
            return link[0]
        name = path.removeprefix("../")
        if picture:
            return f"![{text}]({posixpath.relpath(name, folder or '.')})"
        return f"`{name}`" if text.strip("`/") == name else f"{text} (`{name}`)"

    return _OUTSIDE.sub(inside, markdown)
