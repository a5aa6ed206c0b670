"""Files of every format, told by their content, become sightings; what cannot be read is counted with its place."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.imports.reading import FORMATS, sightings
from sidecar.imports.sighting import Notes, UnusableFile
from tests.imports.test_alb import line as alb
from tests.imports.test_combined import TIME
from tests.imports.test_har import entry
from tests.imports.test_json_lines import of_caddy

COMBINED = b"h - alice " + TIME + b' "GET /combined/7?page=1 HTTP/1.1" 200 12 "-" "curl"\n'
ENVOY = b'{"method": "GET", "path": "/envoy/7", "response_code": 200, "authority": "h"}\n'
SAMPLES = {
    "openapi": b"# a spec\nopenapi: 3.0.3\npaths: {/spec: {get: {}}}\n",
    "postman": b'{"info": {"schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"}, "item": [{"request": "/postman"}]}',
    "har": json.dumps({"log": {"entries": [entry(url="https://h/har")]}}, indent=1).encode(),
    "alb": alb("GET https://h:443/alb HTTP/1.1") + b"\n",
    "caddy": of_caddy() + b"\n",
    "envoy": ENVOY,
    "combined": COMBINED,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, data in SAMPLES.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def read(*files: str, stdin: bytes = b"", **options: Any) -> tuple[list[str], Notes]:
    notes = Notes()
    return [f"{one.method} {one.path}" for one in sightings(files, io.BytesIO(stdin), notes, **options)], notes


def test_every_format_is_told_by_its_content(folder: Path) -> None:
    assert set(SAMPLES) == set(FORMATS)
    found, notes = read(*reversed(SAMPLES))
    assert found == ["GET /spec", "GET /postman", "GET /har", "GET /alb", "GET /a", "GET /envoy/7", "GET /combined/7"]
    assert notes.read == {(name, name): 1 for name in SAMPLES}
    assert (notes.broken, notes.skipped) == ({}, {})


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b'{"openapi":"3.1.0","paths":{"/a":{"get":{}}}}', "openapi"),
        (b'{\n  "swagger": "2.0",\n  "paths": {"/a": {"get": {}}}\n}', "openapi"),
        (b'{"info":{"title":"x"},"openapi":"3.1.0","paths":{"/a":{"get":{}}}}', "openapi"),
        (b"\xef\xbb\xbf---\n\"openapi\": 3.1.0\npaths: {/a: {get: {}}}", "openapi"),
        (b'{"collection": {"info": {"_postman_id": "x"}, "item": [{"request": "/a"}]}}', "postman"),
        (b"not a line\n\n" + COMBINED.replace(b"/combined/7", b"/a"), "combined"),
    ],
)  # fmt: skip
def test_formats_are_told_in_other_spellings_too(folder: Path, head: bytes, form: str) -> None:
    (folder / "f").write_bytes(head)
    found, notes = read("f")
    assert found == ["GET /a"]
    assert notes.read == {("f", form): 1}


def test_gzip_stdin_and_a_named_format(folder: Path) -> None:
    (folder / "old.gz").write_bytes(gzip.compress(COMBINED * 3))
    found, notes = read("old.gz", "-", stdin=COMBINED, given_format="combined")
    assert found == ["GET /combined/7"] * 4
    assert notes.read == {("old.gz", "combined"): 3, ("stdin", "combined"): 1}


def test_unusable_files_are_named_all_at_once(folder: Path) -> None:
    (folder / "empty").write_bytes(b" \n")
    (folder / "poem").write_bytes(b"Shall I compare thee\n")
    with pytest.raises(UnusableFile) as caught:
        read("missing", "empty", "poem", "-", "-", "combined")
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "- (stdin) is named twice, expected it once", "missing", "empty", "poem", "stdin",
    ]  # fmt: skip
    assert "expected OpenAPI 3" in caught.value.problems[3]
    assert "thee" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "form"),
    [(b"openapi: [", "openapi"), (b"openapi: 3.0.0", "openapi"), (b'{"_postman_id"}', "postman"), (b"[]", "postman")],
)
def test_a_broken_spec_is_unusable(folder: Path, data: bytes, form: str) -> None:
    (folder / "spec").write_bytes(data)
    with pytest.raises(UnusableFile, match=r"spec: .*expected a "):
        read("spec", given_format=form)


def test_broken_lines_are_counted_with_their_place_and_the_others_are_read(folder: Path) -> None:
    (folder / "a.log").write_bytes(COMBINED + b"\n\xff broken secret\n" + COMBINED + b"x" * 300_000 + b"\n" + COMBINED)
    found, notes = read("a.log")
    assert len(found) == 3
    assert notes.broken == {"a.log": 2}
    assert [place.split(": found")[0] for place in notes.broken_places] == ["a.log:3", "a.log:5"]
    assert "secret" not in "".join(notes.broken_places)


def test_a_recording_that_ends_early_is_told_after_what_could_be_read(folder: Path) -> None:
    made = json.dumps({"log": {"entries": [entry(), {}, entry(url="https://h/b"), entry(url="data:x")]}})
    (folder / "cut.har").write_text(made[: made.rindex(", {")])
    found, notes = read("cut.har")
    assert found == ["GET /a", "GET /b"]
    assert [place.split(": found")[0] for place in notes.broken_places] == [
        "cut.har: entry 2",
        "cut.har: after entry 3",
    ]


def test_a_gzip_log_that_ends_early_is_told_after_what_could_be_read(folder: Path) -> None:
    (folder / "cut.gz").write_bytes(gzip.compress(COMBINED * 5000, 0)[:300_000])
    found, notes = read("cut.gz")
    assert len(found) > 2000
    assert notes.broken == {"cut.gz": 1}
    assert notes.broken_places[0].endswith("found no whole file, expected a file that can be read to its end")


def test_requests_to_other_hosts_are_left_out(folder: Path) -> None:
    entries = [entry(url=f"https://{host}/{n}") for n, host in enumerate(["app", "cdn", "APP:443", "api"])]
    (folder / "h.har").write_text(json.dumps({"log": {"entries": entries}}))
    assert read("h.har")[0] == ["GET /0", "GET /2"]
    found, notes = read("h.har", "envoy", host="api")
    assert found == ["GET /3"]
    assert notes.skipped == {"another host, which --host may name": 4}


def test_what_is_no_evidence_is_counted(folder: Path) -> None:
    targets = [b"CONNECT /a", b"OPTIONS *", b"GET /a/../b", b"FOO /a"]
    (folder / "n.log").write_bytes(
        b"".join(b"h - - " + TIME + b' "' + target + b' HTTP/1.1" 200 1\n' for target in targets)
    )
    found, notes = read("n.log")
    assert (found, sum(notes.skipped.values())) == ([], 4)
