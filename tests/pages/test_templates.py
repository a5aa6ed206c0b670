"""Pages from templates: ours, or the user's; escaped; and never a fault where a refusal is to be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.doors import answer
from sidecar.doors.answer import status_of
from sidecar.gate.codes import Code
from sidecar.pages.templates import TEMPLATES, Pages, TemplateError


@pytest.mark.parametrize("code", Code)
def test_every_refusal_has_a_page_that_says_its_status_code_and_request(code: Code) -> None:
    page = Pages().error(status_of(code), code, "req-1").decode()
    for part in (str(status_of(code)), str(code), "req-1", "<!doctype html>"):
        assert part in page
    # nothing of another host is loaded: the page's policy would not let it
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


@pytest.mark.parametrize("code", [Code.LOOKUP_AUTH, Code.LOOKUP_STATUS])
def test_nobody_is_told_to_try_again_where_a_hook_is_set_up_wrongly(code: Code) -> None:
    for page in (Pages().error(503, code, "r"), answer.plain_page(503, code, "r")):
        assert b"person who runs" in page
        assert b"ry again soon" not in page
        assert b"not available" not in page
    assert dict(answer.of(code, "r").headers)[b"retry-after"] == b"60"


def test_two_requests_have_their_own_ids_on_the_same_page() -> None:
    pages = Pages()
    assert b"one" in pages.error(403, Code.DENIED_BY_POLICY, "one")
    second = pages.error(403, Code.DENIED_BY_POLICY, "two")
    assert b"two" in second
    assert b"one</code>" not in second


def test_what_is_rendered_is_escaped() -> None:
    page = Pages().render(
        "sign_in.html",
        state='"><script>',
        to="/",
        says="<script>",
        username="<b>",
        challenge=None,
        hosted="",
        return_to="r",
    )
    assert "<script>" not in page
    assert "<b>" not in page


def test_a_template_of_the_users_goes_before_ours_and_the_rest_stays(tmp_path: Path) -> None:
    (tmp_path / "error.html").write_text("<h1>Acme {{ status }} {{ request_id }}</h1>")
    pages = Pages(str(tmp_path))
    pages.check()
    assert pages.error(403, Code.DENIED_BY_POLICY, "r1") == b"<h1>Acme 403 r1</h1>"
    assert "You are signed out" in pages.render("signed_out.html", everywhere=False, ended_all=False, leads_to="")


def test_a_base_of_the_users_is_that_of_our_pages_too(tmp_path: Path) -> None:
    (tmp_path / "base.html").write_text("<title>Acme</title>{% block main %}{% endblock %}")
    page = Pages(str(tmp_path)).render("signed_out.html", everywhere=False, ended_all=False, leads_to="")
    assert page.startswith("<title>Acme</title>")
    assert "You are signed out" in page


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("error.html", "ok\n{% if %}", "error.html:2: "),
        ("eror.html", "x", "expected one of base.html"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_its_place(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TemplateError, match=says):
        Pages(str(tmp_path)).check()


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="expected a folder"):
        Pages(str(tmp_path / "none")).check()


def test_a_template_that_fails_while_it_is_rendered_is_replaced_by_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "error.html").write_text("{{ no_such_thing }}")
    page = Pages(str(tmp_path)).error(403, Code.DENIED_BY_POLICY, "r1")
    assert b"Access denied" in page
    assert "the template error.html of SIDECAR_TEMPLATES failed" in caplog.text


def test_where_no_page_can_be_made_the_plain_one_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sidecar.pages.templates.TEMPLATES", tmp_path)
    assert b"403" in Pages().error(403, Code.DENIED_BY_POLICY, "r1")


def test_all_templates_are_pages_of_one_base() -> None:
    for path in TEMPLATES.glob("*.html"):
        assert path.name == "base.html" or path.read_text().startswith('{% extends "base.html" %}')
