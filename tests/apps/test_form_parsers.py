"""Forms as servers of other people read them: what ours takes, they all read alike.

Django, Werkzeug (Flask), python-multipart (Starlette, FastAPI), busboy (multer) and qs (Express), each as it is installed, and
PHP and Rack (Rails, Sinatra), which of two fields of one name have the last alone.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import io
import json
import random
import shutil
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import quote_plus

import django.conf
import pytest
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http import QueryDict
from django.http.multipartparser import MultiPartParser as DjangoParser
from starlette.datastructures import FormData, Headers
from starlette.formparsers import FormParser, MultiPartParser
from werkzeug.formparser import parse_form_data

from sidecar.gate.form import Form, reader_of
from sidecar.gate.verdict import Refused
from tests.foreign.ways import listens
from tests.stack import ROOT, free_port, wait_for

if not django.conf.settings.configured:
    django.conf.settings.configure()

MULTIPART, URLENCODED = "multipart/form-data; boundary=b", "application/x-www-form-urlencoded"


class Reading(NamedTuple):
    """Fields and files by name, as one parser has them."""

    fields: Mapping[str, Any]
    files: frozenset[str]


# --- the parsers ---


def by_django(kind: str, body: bytes) -> Reading:
    if kind.startswith(URLENCODED):
        return Reading(dict(QueryDict(body).lists()), frozenset())
    meta = {"CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(body))}
    handler = MemoryFileUploadHandler()
    post, files = DjangoParser(meta, io.BytesIO(body), [handler]).parse()
    return Reading(dict(post.lists()), frozenset(files))


def by_werkzeug(kind: str, body: bytes) -> Reading:
    environ = {
        "wsgi.input": io.BytesIO(body), "CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(body)), "REQUEST_METHOD": "POST",
    }  # fmt: skip
    _, form, files = parse_form_data(environ)
    for _, file in files.items(multi=True):
        file.close()
    return Reading(dict(form.lists()), frozenset(files))


async def by_starlette(kind: str, body: bytes) -> Reading:
    async def stream() -> AsyncGenerator[bytes]:
        yield body
        yield b""

    headers = Headers({"content-type": kind})
    parser = FormParser(headers, stream()) if kind.startswith(URLENCODED) else MultiPartParser(headers, stream())
    async with closing(await parser.parse()) as form:
        items = form.multi_items()
    fields: dict[str, list[str]] = {}
    for name, text in items:
        if isinstance(text, str):
            fields.setdefault(name, []).append(text)
    return Reading(fields, frozenset(name for name, text in items if not isinstance(text, str)))


@asynccontextmanager
async def closing(form: FormData) -> AsyncIterator[FormData]:
    yield form
    await form.close()


HERE: dict[str, Callable[[str, bytes], Reading]] = {
    "Django": by_django, "Werkzeug": by_werkzeug,
}  # fmt: skip


def by_node(forms: list[tuple[str, bytes]]) -> list[dict[str, Reading]]:
    """What busboy and qs read in each of these forms."""
    lines = "".join(json.dumps({"kind": kind, "body": base64.b64encode(body).decode()}) + "\n" for kind, body in forms)
    done = subprocess.run(
        [_node(), "tests/apps/forms.js"], cwd=ROOT, input=lines, capture_output=True, text=True, check=True
    )
    return [
        {
            parser: Reading(found["fields"], frozenset(found["files"]))
            for parser, found in json.loads(line).items()
            if found is not None
        }
        for line in done.stdout.splitlines()
    ]


@functools.cache
def _node() -> str:
    found = shutil.which("node")
    if found is None or not (ROOT / "node_modules/busboy").is_dir():
        pytest.skip("no Node.js with busboy: run `make setup`")
    return found


# --- ours ---


def ours(kind: str, body: bytes) -> Form | None:
    reader = reader_of(kind.encode("latin-1"))
    assert reader is not None
    try:
        reader.feed(body)
        return Form(reader.end())
    except ValueError:
        return None


def texts(form: Form | None, name: str) -> list[str] | None:
    """The texts that we read; None where we refuse."""
    try:
        return None if form is None else form.texts(name)
    except Refused:
        return None


def check(kind: str, body: bytes, name: str, theirs: Mapping[str, Reading]) -> int:
    """Hold what parsers find to what we read; 1 where there was something to compare."""
    mine = texts(ours(kind, body), name)
    if mine is None:
        return 0
    for parser, found in theirs.items():
        have = _nested(found.fields, name) if parser == "qs" else found.fields.get(name, [])
        have = [have] if isinstance(have, str) else have
        assert (have, name in found.files) == (mine, False), (parser, body)
    return 1


def _nested(fields: Mapping[str, Any], name: str) -> Any:
    first, _, rest = name.partition("[")
    inner = fields.get(first, [])
    return inner if not rest or rest == "]" else inner.get(rest.rstrip("]"), []) if isinstance(inner, dict) else inner


# --- forms ---


def part(name: str, text: bytes, more: str = "") -> bytes:
    return f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + text


def form(*parts: bytes) -> bytes:
    return b"".join(b"--b\r\n" + one + b"\r\n" for one in parts) + b"--b--\r\n"


FILE = part("photo", b"\x89PNG\r\n\xff", '; filename="a b.png"\r\nContent-Type: image/png')
TABLE: list[tuple[str, bytes, str, list[str]]] = [
    (MULTIPART, form(part("owner", b"alice")), "owner", ["alice"]),
    (MULTIPART, form(part("owner", b"alice"), FILE, part("note", b"a\r\nb")), "owner", ["alice"]),
    (MULTIPART, form(FILE, part("owner", "Zoë".encode())), "owner", ["Zoë"]),
    (MULTIPART, form(part("ids", b"1"), part("ids", b"2")), "ids", ["1", "2"]),
    (MULTIPART, form(part("contact[owner]", b"alice"), part("contact[name]", b"x")), "contact[owner]", ["alice"]),
    (MULTIPART, form(part("owner", b""), part("photo", b"", '; filename=""')), "owner", [""]),
    (MULTIPART, form(part("a b", b"1"), part("owner", b"\r\n--")), "owner", ["\r\n--"]),
    (MULTIPART, b"--b--\r\n", "owner", []),
    (URLENCODED, b"owner=alice&note=a%0D%0Ab", "owner", ["alice"]),
    (URLENCODED, b"%6fwner=Zo%C3%AB+B&&x", "owner", ["Zoë B"]),
    (URLENCODED, b"ids=1&x=y&ids=2", "ids", ["1", "2"]),
    (URLENCODED, b"contact[owner]=alice&contact%5Bname%5D=x", "contact[owner]", ["alice"]),
    (URLENCODED, b"owner=", "owner", [""]),
    (URLENCODED, b"", "owner", []),
]


async def everywhere(forms: list[tuple[str, bytes]]) -> AsyncIterator[tuple[str, bytes, Mapping[str, Reading]]]:
    """Each form with the reading of each parser that reads forms of its type."""
    for (kind, body), there in zip(forms, by_node(forms), strict=True):
        here = {parser: read(kind, body) for parser, read in HERE.items()}
        yield kind, body, {**there, **here, "Starlette": await by_starlette(kind, body)}


async def test_forms_that_we_take_are_read_alike_everywhere() -> None:
    expected = {body: (name, found) for _, body, name, found in TABLE}
    async for kind, body, theirs in everywhere([row[:2] for row in TABLE]):
        name, found = expected[body]
        assert texts(ours(kind, body), name) == found, body
        assert check(kind, body, name, theirs)
        assert len(theirs) == (5 if kind == URLENCODED else 4)


PIECES = [
    b"\r\n", b"\n", b"\r", b"--b", b"--", b"b", b"--b\r\n", b"\r\n--b\r\n", b"\r\n--b--", b"\r\n--b--\r\n", b"--b--", b"\n--b\n", b"\r\n\r\n", b"\n\n",
    b" ", b"\t", b";", b"; ", b'"', b"\\", b'\\"', b"'", b"=", b"%", b"%22", b"%5b", b"\0", b"\xff", b"\xc3\xab", b"[", b"]", b"[]", b".", b"_", b"+", b"&",
    b"owner", b"OWNER", b"Owner", b"owner*", b"owner[]", b"[owner]", b" owner", b"owner ", b"owner=bob", b"&owner=bob", b"=owner", b"alice", b"bob", b"x",
    b'; name="owner"', b'; filename="owner"', b"; filename*=utf-8''owner", b"; name*=utf-8''owner", b"; name=owner", b'; filename=""', b"name=", b"filename=",
    b"Content-Disposition: form-data; name=\"owner\"\r\n\r\nbob", b"Content-Disposition: ", b"content-disposition:", b"form-data", b"Content-Type: text/plain",
    b"\r\nContent-Type: text/plain; charset=utf-16", b"\r\nContent-Type: application/octet-stream", b"\r\nContent-Type: multipart/mixed; boundary=c",
    b"\r\nContent-Transfer-Encoding: base64", b"\r\nContent-Transfer-Encoding: quoted-printable", b"\r\nContent-Length: 3", b"\r\n ", b"=3Dbob", b"_charset_",
]  # fmt: skip
SEEDS: list[tuple[str, bytes]] = [(kind, body) for kind, body, _, _ in TABLE] + [
    (MULTIPART, form(part("x", b"1"), part("owner", b"alice"), part("photo", b"f", '; filename="x"'))),
    (MULTIPART, form(part("owner", b"alice", "\r\nContent-Type: text/plain; charset=utf-8"), part("owner2", b"bob"))),
    (URLENCODED, b"x=1&owner=alice&y[owner]=bob&z=owner"),
]


def hostile(count: int) -> list[tuple[str, bytes]]:
    """Forms of which pieces were taken out, put in, doubled or put elsewhere."""
    chance, made = random.Random(7), list[tuple[str, bytes]]()
    while len(made) < count:
        kind, body = chance.choice(SEEDS)
        for _ in range(chance.randint(1, 3)):
            at, length = chance.randrange(len(body) + 1), chance.choice((0, 0, 0, 1, 2, 6))
            piece = chance.choice(PIECES) if chance.random() < 0.8 else body[at : at + 12]
            if kind == URLENCODED and chance.random() < 0.5:
                piece = quote_plus(piece).encode()
            body = body[:at] + piece + body[at + length :]
        made.append((kind, body))
    return made


NAMES = ("owner", "ids", "contact[owner]")


@functools.cache
def taken() -> list[tuple[str, bytes]]:
    """The hostile forms that we take."""
    found = [form for form in hostile(3000) if ours(*form) is not None]
    assert len(found) > 500
    return found


async def test_hostile_forms_are_read_alike_or_refused() -> None:
    checked = 0
    async for kind, body, theirs in everywhere(taken()):
        checked += sum(check(kind, body, name, theirs) for name in NAMES)
    assert checked > 1500


# --- those that have the last of two fields of one name ---


def by_php(forms: list[tuple[str, bytes]]) -> list[Reading | None]:
    """What PHP reads in each of these forms, by the server that it has for development."""
    program = _program("php", "php-cli")
    port = free_port()
    command = [program, "-d", "display_errors=0", "-S", f"127.0.0.1:{port}", "tests/apps/forms.php"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: listens(port))
            return [_shown(_posted(port, *form)) for form in forms]
        finally:
            process.kill()


def _posted(port: int, kind: str, body: bytes) -> str:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", "/", body, {"Content-Type": kind})
        return connection.getresponse().read().decode()


def by_rack(forms: list[tuple[str, bytes]]) -> list[Reading | None]:
    """What Rack reads in each of these forms; None where it refuses one."""
    _program("rackup", "ruby-rack")
    lines = "".join(json.dumps({"kind": kind, "body": base64.b64encode(body).decode()}) + "\n" for kind, body in forms)
    done = subprocess.run(
        [_program("ruby", "ruby-rack"), "tests/apps/forms.rb"], cwd=ROOT, input=lines, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return [_shown(line) for line in done.stdout.splitlines()]


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make tools, or apt-get install {package}")
    return found


def _shown(line: str) -> Reading | None:
    found = json.loads(line)
    # an empty map of PHP is a list to it
    return None if found is None else Reading(_texts_in(found["fields"] or {}), frozenset(map(_text, found["files"])))


def _texts_in(shown: Any) -> Any:
    if isinstance(shown, dict):
        return {_text(name): _texts_in(inner) for name, inner in shown.items()}
    if isinstance(shown, list):
        return [_texts_in(inner) for inner in shown]
    return None if shown is None else _text(shown)


def _text(shown: str) -> str:
    return bytes.fromhex(shown).decode("utf-8", "replace")


@pytest.mark.parametrize("read", [by_php, by_rack])
def test_forms_that_we_take_are_read_alike_but_for_the_first_of_a_name(
    read: Callable[[list[tuple[str, bytes]]], list[Reading | None]],
) -> None:
    """All of them are judged, so that the last one is."""
    forms = [*(row[:2] for row in TABLE), *taken()]
    checked = 0
    for (kind, body), theirs in zip(forms, read(forms), strict=True):
        for name in NAMES if theirs is not None else ():
            mine = texts(ours(kind, body), name)
            if mine is None or theirs is None:
                continue
            have = _nested(theirs.fields, name)
            have = [have] if isinstance(have, str) else have
            assert (have, name in theirs.files) == (mine[-1:], False), body
            checked += 1
    assert checked > 1500
