"""Paths of logs become templates by shape; names that clients chose are in none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.routing import Pattern, Variable
from sidecar.imports.evidence import TemplateBounds
from sidecar.imports.sighting import path_of
from sidecar.imports.tree import MAX_DEPTH, PathTree
from tests.imports.collecting import collect, paths, request, secrets


@pytest.mark.parametrize(
    ("requests", "templates"),
    [
        (["GET /contacts", "GET /contacts/7", "GET /contacts/8"], ["/contacts", "/contacts/{id:int}"]),
        (["GET /c/3f2504e0-4f89-11d3-9a0c-0305e82c3301"], ["/c/{id:uuid}"]),
        (["GET /c/3F2504E0-4F89-11D3-9A0C-0305E82C3301"], ["/c/{id}"]),
        (["GET /c/7", "GET /c/007"], ["/c/{id}"]),
        (["GET /c/7", "GET /c/a%20b"], ["/c/{id:any}"]),
        (["GET /contacts/7/notes/9"], ["/contacts/{contact_id:int}/notes/{note_id:int}"]),
        (["GET /contacts/7.json", "GET /contacts.json"], ["/contacts.json", "/contacts/{id:int}.json"]),
        (["GET /users/alice", "GET /users/bob/orders"], ["/users/{id}", "/users/{id}/orders"]),
        (["GET /users/alice/pets", "GET /users/bob/pets"], ["/users/{id}/pets"]),
        (["GET /users/alice/secretpet"], ["/users/{user_id}/{value}"]),
        (["GET /contacts/7/pets", "GET /contacts/8/pets"], ["/contacts/{id:int}/pets"]),
        (["GET /contacts/7/pets"], ["/contacts/{contact_id:int}/{value}"]),
        (["GET /users/me", "GET /users/7"], ["/users/me", "/users/{id:int}"]),
        (["GET /files/My%20Secret.pdf"], ["/files/{id:any}.pdf"]),
        (["GET /static/app.4f3a.js", "GET /static/css/a.css"], ["/static/**", "/static/css/**"]),
        (["GET /favicon.ico", "GET /robots.txt", "GET /main.4f3a.js"], ["/favicon.ico", "/robots.txt", "/{id}"]),
        (["GET /", "GET /a/"], ["/", "/a/"]),
        (["GET /data/mine", "GET /data/mine/7"], ["/data/mine", "/data/mine/{id:int}"]),
        (["GET /data/mine.json", "GET /data/mine/7"], ["/data/mine.json", "/data/mine/{id:int}"]),
        (["GET /reset/qkzjxw"], ["/reset/{id}"]),
        (["GET /blog/open-your-heart"], ["/blog/{id}"]),
        (["GET /2026/11/29"], ["/{value:int}/{value_2:int}/{value_3:int}"]),
    ],
)  # fmt: skip
def test_paths_become_templates(requests: list[str], templates: list[str]) -> None:
    assert paths(*requests) == templates


def test_many_words_at_one_place_are_names_but_for_known_ones() -> None:
    names = ["zz" + "".join(chr(97 + int(digit)) for digit in f"{number:03d}") for number in range(200)]
    assert paths(*(f"GET /{name}" for name in names), "GET /contacts", "GET /") == ["/", "/contacts", "/{id}"]


def test_what_was_refused_is_counted_where_the_path_is_one() -> None:
    found = collect("GET /c/7", "GET /c/8 404", "GET /c/8 403", "POST /c/7 405", "GET /wp-login.php 404", "GET / 302")
    (template,) = found.templates
    assert template.methods["GET"].statuses == {200: 1, 404: 1, 403: 1}
    assert found.unproven == {405: 1, 404: 1, 302: 1}


def test_ids_are_counted() -> None:
    (template,) = collect(*(f"GET /c/{n % 3}" for n in range(9))).templates
    assert (template.methods["GET"].hits, str(template.methods["GET"].ids)) == (9, "3")
    (template,) = collect("GET /users/alice", "GET /users/bob", "GET /users/bob").templates
    assert (template.methods["GET"].hits, str(template.methods["GET"].ids)) == (3, "2")


def test_variables_of_a_collection_are_variables() -> None:
    tree = PathTree(TemplateBounds(9, 99))
    tree.add(request("GET /c/7")._replace(segments=("c", Variable("x", Pattern.DEFAULT)), status=None))
    assert [path_of(segments) for segments, _ in tree.templates()] == ["/c/{id}"]


def test_what_is_too_deep_or_too_much_is_one_rest() -> None:
    deep = "/contacts" * (MAX_DEPTH + 3)
    assert paths(f"GET {deep}") == ["/contacts" * MAX_DEPTH + "/**"]
    tree = PathTree(TemplateBounds(9, 2))
    for text in ("GET /contacts/7", "GET /contacts/7/notes", "GET /orders"):
        tree.add(request(text))
    assert [path_of(segments) for segments, _ in tree.templates()] == [
        "/contacts/{id:int}",
        "/contacts/{id:int}/**",
    ]


SECRET = secrets()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["/users/{}", "/users/{}/orders/{}", "/a/b/{}.json", "/reset/{}", "/{}7/x", "/files/{}/{}.js"]
            ),
            SECRET,
        ),
        max_size=30,
    )
)
def test_no_value_is_in_a_template(seen: list[tuple[str, str]]) -> None:
    found = paths(*(f"GET {path.replace('{}', secret)}" for path, secret in seen))
    assert not [secret for _, secret in seen if secret in " ".join(found)]
