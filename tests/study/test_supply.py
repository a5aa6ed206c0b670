"""`study/supply.py`: what the routes of a file tell Cerbos."""

from __future__ import annotations

from sidecar.config.routes.file import read_routes
from sidecar.study.supply import Supply, of_principal, questions

ROUTES = """\
version: 1
principal: {attributes: {team: "custom:team", all: {claim: all, type: json}, level: {claim: level, type: int}}, optional: [level]}
lookups:
  doc: {url: "http://127.0.0.1:9/{id}", attributes: {owner: owner, n: "a.n:number", meta: meta}, optional: [n]}
routes:
  - path: /docs/{id:int}
    resource: doc
    id: "{path.id}"
    lookup: doc
    attributes: {size: "{query.size:int?}", text: "a{path.id}"}
    query: [size]
    actions: {GET: read, HEAD: read, PUT: {action: write, resource: draft, attributes: {ok: "{body.ok:bool}"}}}
  - {path: /acme, resource: doc, scope: "{claims.tenant}", actions: {GET: list}}
  - path: /docs/archive
    resource: doc
    each: {at: "{body.docs}", id: id, attributes: {size: "s:int", note: n}, optional: [note], lookup: doc}
    actions: {POST: archive}
  - {path: /me, access: authenticated}
"""


def test_each_question_with_its_attributes() -> None:
    read, write, scoped, each = questions(read_routes(ROUTES, "routes.yaml", {}))
    assert read[:4] == ("GET /docs/{id:int}", "doc", "read", False)
    lookup = "lookups.doc.attributes"
    assert read.attributes == {
        "size": Supply("attributes.size", "number", "{query.size?} is optional", 'size: "{query.size:TYPE?}"'),
        "text": Supply("attributes.text", "string", "", "another value than 'a{path.id}'"),
        "owner": Supply(f"{lookup}.owner", "", "", 'owner: "...:TYPE"'),
        "n": Supply(f"{lookup}.n", "number", "lookups.doc.optional names it", 'n: "...:TYPE"'),
        "meta": Supply(f"{lookup}.meta", "", "", 'meta: "...:TYPE"'),
    }
    assert write[:4] == ("PUT /docs/{id:int}", "draft", "write", False)
    assert write.attributes["ok"] == Supply("attributes.ok", "bool", "", 'ok: "{body.ok:TYPE}"')
    remedy = "`attributes` of GET /acme, or to its lookup"
    assert scoped[:7] == ("GET /acme", "doc", "list", True, {}, remedy, False)
    assert (scoped.kind_at.path, scoped.action_at.path) == ("routes[1].resource", "routes[1].actions.GET")
    assert each[:4] == ("POST /docs/archive", "doc", "archive", False)
    assert set(each.attributes) == {"size", "note", "owner", "n", "meta"}
    assert each.attributes["size"] == Supply("each.attributes.size", "number", "", 'size: "...:TYPE"')
    assert each.attributes["note"].absent == "each.optional names it"


LISTS = """\
version: 1
routes:
  - path: /docs
    resource: doc
    scope: "{claims.tenant}"
    attributes: {page: "{query.page:int}"}
    query: [page]
    actions: {GET: list, POST: create}
    items: {at: "@", id: id, attributes: {owner: owner_id, n: "n:number"}, optional: [n], fields: {phone: call, a.b: call}}
  - path: /notes
    resource: doc
    query: []
    actions: {GET: list}
    items: {at: notes, id: id, resource: note, action: view}
  - {path: "/docs/{id}", resource: doc, id: "{path.id}", query: [], fields: {phone: call, size: read}, actions: {GET: read}}
"""


def test_what_is_asked_about_each_item_and_about_fields() -> None:
    asked = questions(read_routes(LISTS, "routes.yaml", {}))
    assert [(each.where, each.kind, each.action, each.item) for each in asked] == [
        ("GET /docs", "doc", "list", False),
        ("GET /docs (items)", "doc", "read", True),
        ("GET /docs (items)", "doc", "call", True),
        ("POST /docs", "doc", "create", False),
        ("GET /notes", "doc", "list", False),
        ("GET /notes (items)", "note", "view", True),
        ("GET /docs/{id}", "doc", "read", False),
        ("GET /docs/{id} (fields)", "doc", "call", False),
    ]
    assert asked[1].scoped
    assert asked[1].attributes == {
        "owner": Supply("items.attributes.owner", "", "", 'owner: "...:TYPE"'),
        "n": Supply("items.attributes.n", "number", "items.optional names it", 'n: "...:TYPE"'),
    }
    assert asked[1].remedy == "`items.attributes` of GET /docs, or to its `items.lookup`"
    assert list(asked[0].attributes) == ["page"]


def test_what_a_lookup_gives_of_items_goes_before_what_they_say() -> None:
    text = LISTS.replace(
        "routes:", "lookups: {doc: {url: 'http://h/?i={ids}', batch: true, attributes: {n: n, m: 'm:bool'}}}\nroutes:"
    )
    asked = questions(read_routes(text.replace("optional: [n],", "optional: [n], lookup: doc,"), "routes.yaml", {}))
    assert {name: supply.where for name, supply in asked[1].attributes.items()} == {
        "owner": "items.attributes.owner", "n": "lookups.doc.attributes.n", "m": "lookups.doc.attributes.m",
    }  # fmt: skip
    assert list(asked[0].attributes) == ["page"]


def test_the_attributes_of_the_principal() -> None:
    assert of_principal(read_routes(ROUTES, "routes.yaml", {}).principal) == {
        "team": Supply("principal.attributes.team", "", "", "team: {claim: 'custom:team', type: TYPE}"),
        "all": Supply("principal.attributes.all", "", "", "all: {claim: 'all', type: TYPE}"),
        "level": Supply(
            "principal.attributes.level", "number", "principal.optional names it", "level: {claim: 'level', type: TYPE}"
        ),
    }
