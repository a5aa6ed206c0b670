"""The docs as a site: it builds strictly, its links and anchors lead somewhere, and its pages fetch nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.stack import ROOT

FETCHES = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


@dataclass
class Page(HTMLParser):
    """What a page links to, fetches, and can be linked at."""

    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := said.get(name))}
        if tag == "a" and said.get("href"):
            self.links.append(str(said["href"]))
        if tag in FETCHES and said.get(FETCHES[tag]) and said.get("rel") not in ("canonical", "prev", "next"):
            self.fetched.append(str(said[FETCHES[tag]]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it, but where a proxy would be asked, there is none: nothing is to be fetched."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    read = {}
    for file in sorted(site.rglob("*.html")):
        read[file] = Page()
        read[file].feed(file.read_text(encoding="utf-8"))
    return read


def led_to(base: Path, path: str) -> Path:
    """Where a path leads from a folder: a site has no symbolic link, for which `Path.resolve` looks at each folder."""
    return Path(os.path.normpath(f"{base}/{path}"))


def test_every_page_of_the_docs_is_in_the_site(site: Path, pages: dict[Path, Page]) -> None:
    for source in (ROOT / "docs").rglob("*.md"):
        assert site / source.relative_to(ROOT / "docs").with_suffix(".html") in pages, source


def test_every_link_and_anchor_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    followed, lost = 0, []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            # the page for a path that is not there is shown under any path, so its links begin at the root
            base = site if file.name == "404.html" else file.parent
            target = led_to(base, unquote(parts.path).lstrip("/")) if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            followed += 1
            if not target.is_file() or (
                parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors
            ):
                lost.append((file.relative_to(site), link))
    assert lost == []
    assert followed > 1000


def test_links_to_elsewhere_are_https(pages: dict[Path, Page]) -> None:
    elsewhere = {link for page in pages.values() for link in page.links if urlsplit(link).scheme}
    assert elsewhere
    for link in elsewhere:
        assert re.fullmatch(r"https://[a-z0-9.-]+\.[a-z]+(/[^\s<>\"]*)?", link), link


def test_a_page_fetches_nothing_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for file, page in pages.items():
        for source in page.fetched:
            assert not urlsplit(source).scheme, (file, source)
            assert not urlsplit(source).netloc, (file, source)
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style


def test_the_navigation_names_every_page_once(site: Path, pages: dict[Path, Page]) -> None:
    for file, page in pages.items():
        if file.name != "404.html":
            base = file.parent
            named = {led_to(base, link) for link in page.links if ".html" in link and not urlsplit(link).scheme}
            assert set(pages) - {site / "404.html"} <= named, file
