"""The page of `sidecar report` in a real browser, from a file, as a person opens it."""

from pathlib import Path

from playwright.sync_api import Page

from tests.adoption.test_report_page import hostile_page


def test_the_page_asks_for_nothing_runs_nothing_and_fits(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(hostile_page(), encoding="utf-8")
    asked: list[str] = []
    told: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: told.append(message.text))
    page.on("dialog", lambda dialog: told.append(dialog.message))
    page.goto(file.as_uri())
    assert page.title().startswith("Shadow report, 2025-12-01")
    detail = page.locator("#would_break dl").last
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert not detail.is_visible()
        page.locator("#would_break summary").last.click()
        assert detail.is_visible()
        page.locator("#would_break summary").last.click()
    assert (asked, told) == ([file.as_uri()], [])
