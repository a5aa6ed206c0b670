"""The draft is a routes.yaml that our own reader takes, in which nothing is in force."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.routes.file import read_routes
from sidecar.imports.draft import draft, quoted, shown
from sidecar.imports.proposal import propose
from tests.imports.collecting import collect, spec


def test_the_draft_has_evidence_confidence_and_reason() -> None:
    made = spec("GET /contacts/{id} readContact contacts")
    proposals = propose(collect("GET /contacts/7?page=1", "GET /healthz", specs=(made,))).proposals
    text = draft(proposals, ["a.log", "0.yaml"])
    for line in (
        "# Draft by `sidecar import` from a.log, 0.yaml.",
        "draft: true",
        "  # GET operation readContact, 1 request (200: 1, 1 id).",
        "  # Kind contact, confidence 0.98: 'contacts' is the plural before the id, and so is the tag.",
        "  - path: /contacts/{id}",
        "    draft: true",
        '    id: "{path.id}"',
        "    query: [page]",
        "      GET: read  # 0.98: GET of one contact, and operationId readContact",
        "  # DECIDE: looks like health: should everybody pass? Then `access: public` takes the place of actions.",
    ):
        assert line in text.splitlines(), line


def test_nothing_is_in_force_until_a_person_says_so() -> None:
    text = draft(propose(collect("GET /contacts/7", "GET /healthz", "GET /static/a.js")).proposals, [])
    read = read_routes(text, "r.yaml", {})
    assert read.draft_mark is not None
    assert (read.table.routes, len(read.drafts)) == ((), 3)
    read = read_routes(text.replace("\ndraft: true", "", 1), "r.yaml", {})
    assert (read.draft_mark, read.table.routes, len(read.drafts)) == (None, (), 3)
    assert not re.search(r"^[^#]*access", text, re.MULTILINE)


def test_an_empty_draft_is_one() -> None:
    assert read_routes(draft([], ["x"]), "r.yaml", {}).drafts == ()


@pytest.mark.parametrize(
    "text", ["a", "/a/b", "{path.id}", "no", "a: b", "a # b", "\u00e4\"'\\", "1", "- a", "[x]", "\x7f", "~"]
)
def test_texts_are_those_of_yaml(text: str) -> None:
    assert yaml.safe_load(f"a: {quoted(text)}") == {"a": text}


def test_a_comment_is_one_line() -> None:
    assert shown("a\nroutes: []\x1b[0m\u2028b") == "a?routes: []?[0m?b"


NAME = st.text(st.characters(codec="utf-8", exclude_characters="/{}"), max_size=12)
SEGMENT = st.one_of(
    NAME,
    NAME.map(lambda name: f"{{{name}}}"),
    st.sampled_from(["contacts", "{id}", "archive", "v1", "{a}.json", "{a}-{b}"]),
)


@given(
    st.lists(
        st.tuples(st.lists(SEGMENT, max_size=4), st.sampled_from(["get", "post", "delete"]), NAME, NAME), max_size=6
    ),
    st.lists(
        st.sampled_from(
            ["GET /a/7", "POST /contacts/7/archive?a[b]=1&n=o", "GET /a%20b/c", "WS /x 101", "GET /~a/%C3%A4.json"]
        )
    ),
)
def test_whatever_a_spec_says_the_draft_can_be_read(
    operations: list[tuple[list[str], str, str, str]], requests: list[str]
) -> None:
    paths: dict[str, dict[str, object]] = {}
    for segments, method, name, tag in operations:
        operation = {"operationId": name, "tags": [tag], "parameters": [{"in": "query", "name": tag}]}
        paths.setdefault("/" + "/".join(segments), {})[method] = operation
    proposals = propose(collect(*requests, specs=({"paths": paths},))).proposals
    read = read_routes(draft(proposals, ["a\nb"]), "r.yaml", {})
    assert len(read.drafts) == len(proposals)
    in_force = re.sub(r"^(?:draft: true|    draft: true)\n", "", draft(proposals, []), flags=re.MULTILINE)
    assert len(read_routes(in_force, "r.yaml", {}).table.routes) == len(proposals)
