"""The report for a person and for a program; no value that a client sent is in either, nor in the draft."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.imports.collect import Collector
from sidecar.imports.conflicts import conflicts
from sidecar.imports.draft import draft
from sidecar.imports.proposal import propose
from sidecar.imports.reading import sightings
from sidecar.imports.report import ImportReport, as_json, as_text
from sidecar.imports.sighting import Broken, Location, Notes
from tests.imports.collecting import collect, secrets, spec
from tests.imports.test_combined import TIME


def made() -> ImportReport:
    notes = Notes()
    notes.read["a.log", "combined"] = 3
    for line in range(7):
        notes.note_broken(Location("a.log", line), Broken("no JSON", "JSON"))
        notes.note_skipped(Location("a.log", line), "another host")
    collected = collect(
        "GET /contacts/7?page=1", "GET /no 404", "OPTIONS /x", specs=(spec("GET /c/{x}", "GET /c/mine", "GET /a;b"),)
    )
    return ImportReport(propose(collected), list(conflicts(collected)), notes, collected)


def test_the_text_has_every_section() -> None:
    text = as_text(made())
    for part in (
        "3 routes from\n  a.log (combined): 3 requests, 7 that cannot be read\n",
        "/contacts/{id:int}  contact id {path.id}  (medium 0.75: 'contacts' is the plural before the id)\n",
        "  GET     read         medium 0.75: GET of one contact, seen in few requests\n",
        "          GET 1 request (200: 1, 1 id).\n          query: page\n",
        "\nContradictions\n  - GET /c/{x} stands before /c/mine in",
        "/a;b.get: it cannot be a route",
        "\nTo decide\n",
        "  - 1 request with OPTIONS is no action of the draft",
        "\nNo evidence of a route\n  - 1 request that the app answered with 404, and whose path it never answered well\n",
        "  - 7 x another host (a.log:0, a.log:1, a.log:2, a.log:3, a.log:4, …)\n",
        "\nCannot be read\n  - a.log:0: found no JSON, expected JSON\n",
        "  - and 2 more\n",
    ):
        assert part in text, part


def test_the_json_has_the_same() -> None:
    found = json.loads(json.dumps(as_json(made())))
    (route,) = [one for one in found["routes"] if one["path"] == "/contacts/{id:int}"]
    assert route["resource"]["value"] == "contact"
    assert route["id"] == {
        "value": "{path.id}",
        "confidence": 0.75,
        "word": "medium",
        "reason": "the variable at the end of the path",
    }
    assert (route["query"], route["attributes"]) == (["page"], {})
    method = route["methods"]["GET"]
    assert (method["action"]["value"], method["hits"], method["statuses"], method["ids"], method["more_ids"]) == (
        "read",
        1,
        {"200": 1},
        1,
        False,
    )
    assert method["first"] == "a.log:1"
    assert found["read"] == [{"file": "a.log", "format": "combined", "count": 3, "broken": 7}]
    assert found["unproven"] == {"404": 1}
    assert found["skipped"][0]["count"] == 7
    assert len(found["broken"]) == 5
    assert len(found["conflicts"]) == 2


SECRET = secrets()
PATHS = st.sampled_from(
    [
        "/users/{}",
        "/users/{}/orders",
        "/a/{}/b/{}",
        "/files/{}.pdf",
        "/reset/{}",
        "/x?{}",
        "/x?q={}",
        "/x?a=1&q={}#{}",
        "/x/{}",
    ]
)


def everything(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    notes, collector = Notes(), Collector()
    for sighting in sightings([str(folder / name)], io.BytesIO(), notes):
        collector.add(sighting)
    collected = collector.collected()
    report = ImportReport(propose(collected), list(conflicts(collected)), notes, collected)
    return as_text(report) + json.dumps(as_json(report)) + draft(report.proposed.proposals, [name])


def entry(path: str, secret: str, method: str) -> dict[str, Any]:
    pair = [{"name": "Authorization", "value": f"Bearer {secret}"}, {"name": secret, "value": secret}]
    content = {"text": secret, "comment": secret}
    return {
        "_secret": secret, "comment": secret, "serverIPAddress": secret,
        "request": {
            "method": method, "url": f"https://{secret}:{secret}@app.example.com{path.replace('{}', secret)}", "headers": pair, "cookies": pair,
            "queryString": pair, "postData": content,
        },
        "response": {"status": 200, "headers": pair, "cookies": pair, "content": content, "redirectURL": secret},
    }  # fmt: skip


LINES = st.lists(st.tuples(PATHS, SECRET, st.sampled_from(["GET", "POST", "DELETE"])), min_size=1, max_size=12)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seen=LINES)
def test_no_value_of_a_recording_is_told(tmp_path: Path, seen: list[tuple[str, str, str]]) -> None:
    data = json.dumps({"log": {"entries": [entry(*one) for one in seen], "comment": seen[0][1]}}).encode()
    told = everything(tmp_path, "r.har", data)
    assert not [secret for _, secret, _ in seen if secret in told]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seen=LINES, broken=st.lists(SECRET, max_size=3))
def test_no_value_of_a_log_is_told(tmp_path: Path, seen: list[tuple[str, str, str]], broken: list[str]) -> None:
    lines = [b"h - - " + TIME + b' "GET /first HTTP/1.1" 200 1 "-" "-"', *(secret.encode() for secret in broken)]
    for path, secret, method in seen:
        text = f'{secret} {secret} {secret} [29/Nov/2026:10:00:00 +0000] "{method} {path.replace("{}", secret)} HTTP/1.1" 200 9 "{secret}" "{secret}"'
        lines += [text.encode(), text.replace(method, secret, 1).encode(), text.replace(" 200 ", " x ").encode()]
    told = everything(tmp_path, "a.log", b"\n".join(lines))
    assert not [secret for secret in (*(one[1] for one in seen), *broken) if secret in told]
