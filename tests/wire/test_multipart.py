"""Bodies of multipart/form-data: their parts, whole or byte by byte, or a refusal."""

from __future__ import annotations

from collections.abc import Iterable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.models import RequestEncodingMixin

from sidecar.wire.multipart import MAX_HEAD, MAX_TEXT, MultipartReader, boundary_of
from sidecar.wire.urlencoded import MAX_NAME, FormField

CHROME = b"----WebKitFormBoundaryx1Y2"


def read(body: bytes, step: int = 0, boundary: bytes = b"b", most: int = 10) -> list[FormField]:
    parts = MultipartReader(boundary, most)
    for at in range(0, len(body), step or len(body) or 1):
        parts.feed(body[at : at + (step or len(body))])
    return parts.end()


def form(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end


def field(name: bytes = b"a", text: bytes = b"1", more: bytes = b"") -> bytes:
    return b'Content-Disposition: form-data; name="' + name + b'"' + more + b"\r\n\r\n" + text


FILE = b'Content-Disposition: form-data; name="f"; filename="x.png"\r\nContent-Type: image/png\r\n\r\n'


@pytest.mark.parametrize("step", [0, 1, 2, 7])
def test_fields_and_files_come_in_order_however_the_bytes_arrive(step: int) -> None:
    body = form(
        field(b"owner", b"alice"), FILE + b"\x89PNG\r\n--\r\n-\r\n", field(b"owner[]", b""), field(b"t", b"a\r\nb")
    )
    assert read(body, step) == [
        FormField("owner", "alice"), FormField("f", None, "a file"), FormField("owner[]", ""), FormField("t", "a\r\nb"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("part", "found"),
    [
        (b"content-disposition:form-data;name=a\r\n\r\n1", FormField("a", "1")),
        (field(more=b"\r\nContent-Type: text/plain"), FormField("a", "1")),
        (
            field(more=b"\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit"),
            FormField("a", "1"),
        ),
        (field(more=b"\r\nContent-Length: 1"), FormField("a", "1")),
        (field("ü".encode(), "ü".encode()), FormField("ü", "ü")),
        (field(text=b"\xff"), FormField("a", None, "a text that is not UTF-8")),
        (field(text=b"x" * MAX_TEXT), FormField("a", "x" * MAX_TEXT)),
        (field(text=b"x" * (MAX_TEXT + 1)), FormField("a", None, f"more than {MAX_TEXT} bytes")),
        # formData() of Node.js and ASP.NET Core take the mark away
        (field(text="\ufeffalice".encode()), FormField("a", None, "a text that begins with a byte order mark")),
        (field(text="al\ufeffice".encode()), FormField("a", "al\ufeffice")),
        # Werkzeug obeys the charset, others do not
        (
            field(text="é".encode(), more=b"\r\nContent-Type: text/plain; charset=us-ascii"),
            FormField("a", None, "a text that is not ASCII, as its Content-Type says"),
        ),
        (
            field(text="é".encode(), more=b'\r\nContent-Type: text/plain; charset="US-ASCII"'),
            FormField("a", None, "a text that is not ASCII, as its Content-Type says"),
        ),
        (field(text=b"e", more=b"\r\nContent-Type: text/plain; charset=us-ascii"), FormField("a", "e")),
        (field(more=b'; filename=""'), FormField("a", None, "a file")),
        (field(more=b"; filename=a.txt; filename*=utf-8''a.txt"), FormField("a", None, "a file")),
        (
            field(more=b"\r\nContent-Type: application/octet-stream"),
            FormField("a", None, "a field that is not text/plain in UTF-8"),
        ),
        (
            field(more=b"\r\nContent-Type: text/plain; charset=iso-8859-1"),
            FormField("a", None, "a field that is not text/plain in UTF-8"),
        ),
    ],
)
def test_parts_of_real_clients(part: bytes, found: FormField) -> None:
    for step in (0, 1):
        assert read(form(part), step) == [found]


def test_a_form_without_a_part_is_one() -> None:
    assert read(b"--b--\r\n") == read(b"--b--") == []


HOSTILE = [
    b"", b"\r\n", b"x" + form(field()), b"\r\n" + form(field()), form(field())[:-2] + b"\nx", form(field()) + b"x",
    form(field(), end=b""), form(field(), end=b"--b"), form(field(), end=b"--b-"), form(field(), end=b"--b-\r\n"),
    form(field(), end=b"--b--\n"), form(field(), end=b"--b--\r\n\r\n"), form(field()) + form(field()),
    form(field()).replace(b"\r\n", b"\n"), b"--b \r\n" + field() + b"\r\n--b--\r\n", b"--b\n" + field() + b"\r\n--b--\r\n",
    b"--bb\r\n" + field() + b"\r\n--bb--\r\n", b"--B\r\n" + field() + b"\r\n--B--\r\n",
    # a boundary that some see and others do not
    form(field(text=b"1\n--b\r\n" + field(b"c"))), form(field(text=b"1\r--b\r\n" + field(b"c"))), form(field(text=b"--b")),
    form(field(text=b"1\r\n--bx\r\n" + field(b"c"))), form(field(text=b"1\r\n---b\r\n" + field(b"c"))),
    form(field(text=b"1\r\n--b \r\n" + field(b"c"))), form(b"--b\r\n" + field()), form(field()[:-3]),
    # headers
    form(b"\r\n1"), form(b"1"), form(b"Content-Type: text/plain\r\n\r\n1"), form(b"\r\n" + field()),
    form(field(more=b'\r\nContent-Disposition: form-data; name="c"')), form(field(more=b"\r\nX-A: 1")),
    form(field(more=b"\r\nContent-Type: text/plain\r\nContent-Type: text/html")), form(field(more=b"\r\n  ; x=1")),
    form(field(more=b"\nX: 1")), form(field(more=b"\r\nContent-Type : text/plain")), form(field(more=b"\r\nContent-Type:")),
    form(field(more=b"\r\nContent-Transfer-Encoding: base64")), form(field(more=b"\r\nContent-Transfer-Encoding: quoted-printable")),
    form(field(more=b"\r\nContent-Length: 2")), form(field(more=b"\r\nContent-Length: 01")), form(field(more=b"\r\nContent-Length: x")),
    form(field(more=b"\r\nContent-Type: multipart/mixed; boundary=c")), form(field(more=b"\r\nContent-Type: message/rfc822")),
    form(field(more=b'\r\nContent-Type: text/plain; x="' + b"x" * MAX_HEAD + b'"')),
    # names
    form(field(b"")), form(field(more=b'; name="c"')), form(field(more=b"; name*=utf-8''c")), form(field(more=b"; x=1")),
    form(field(more=b"; filename*=utf-8''c")), form(field(more=b'; filename="c"; filename="d"')), form(field(more=b";")),
    form(b'Content-Disposition: form-data; filename="x"; name="a"\r\n\r\n1'), form(field(b"a\\")), form(field(b'a\\"b')),
    form(b'Content-Disposition: form-data; name="a\r\n\r\n1'), form(b"Content-Disposition: form-data; name='a'\r\n\r\n1"),
    form(b'Content-Disposition: attachment; name="a"\r\n\r\n1'), form(b'Content-Disposition: Form-Data; name="a"\r\n\r\n1'),
    form(b"Content-Disposition: form-data\r\n\r\n1"), form(b'Content-Disposition: form-data, name="a"\r\n\r\n1'),
    form(b'Content-Disposition: form-data; NAME="a"\r\n\r\n1'), form(b'Content-Disposition: form-data; name = "a"\r\n\r\n1'),
    form(b"Content-Disposition: form-data; name*0=a\r\n\r\n1"), form(field(b"%61")), form(field(b"a;b")), form(field(b"a=b")),
    form(field(b"a\0")), form(field(b"a\t")), form(field(b"\xff")), form(field(more=b'; filename="\xff"')), form(field(b"n" * (MAX_NAME + 1))),
    form(field(more=b'; filename="x\\"; name=\\"c"')), form(field(more=b'; filename="x; name=c"')),
    form(*[field()] * 11),
]  # fmt: skip


@pytest.mark.parametrize("body", HOSTILE)
def test_what_two_parsers_may_read_differently_is_no_form(body: bytes) -> None:
    for step in (0, 1):
        with pytest.raises(ValueError, match=r"a |bytes|more than"):
            read(body, step)


@given(st.binary(max_size=80), st.integers(1, 9))
def test_no_bytes_raise_anything_but_valueerror_and_pieces_change_nothing(data: bytes, step: int) -> None:
    for body in (data, form(field(text=data)), form(FILE + data), form(data)):
        found: list[object] = []
        for size in (0, step):
            try:
                found.append(read(body, size))
            except ValueError:
                found.append(None)
        assert found[0] == found[1]


def test_a_file_takes_no_memory() -> None:
    parts = MultipartReader(b"b", 10)
    parts.feed(b"--b\r\n" + FILE)
    for _ in range(100):
        parts.feed(b"\r\n-" * 1000)
        assert len(parts._buffer) < 10
        assert not parts._text
    parts.feed(b"\r\n--b--\r\n")
    assert parts.end() == [FormField("f", None, "a file")]


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        (b"multipart/form-data; boundary=" + CHROME, CHROME), (b"Multipart/Form-Data;BOUNDARY=aB", b"aB"),
        (b'multipart/form-data; boundary="a=b"', b"a=b"), (b"multipart/form-data; boundary=b; charset=UTF-8", b"b"),
        (b"multipart/form-data; charset=utf-8; boundary=b", b"b"), (b"multipart/form-data; boundary=" + b"b" * 70, b"b" * 70),
        (b"multipart/form-data", None), (b"multipart/form-data; boundary=", None), (b'multipart/form-data; boundary=""', None),
        (b"multipart/form-data; boundary=a; boundary=b", None), (b"multipart/form-data; boundary=a b", None),
        (b"multipart/form-data; boundary=a,b", None), (b"multipart/form-data; boundary=a=b", None), (b"multipart/form-data boundary=b", None),
        (b"multipart/form-data; boundary=b; charset=utf-16", None), (b"multipart/form-data; boundary=b; x=y", None),
        (b"multipart/form-data; x=boundary=c; boundary=b", None), (b"multipart/form-data; boundary=" + b"b" * 71, None),
        (b"multipart/form-data; boundary*=utf-8''b", None), (b"multipart/mixed; boundary=b", None), (b'multipart/form-data; boundary="b', None),
        (b"multipart/form-data; charset=utf-8; boundary=b; charset=utf-8", None), (b"multipart/form-data; boundary='b'", None),
        (b"multipart/form-data; boundary=\xff", None), (b"", None),
    ],
)  # fmt: skip
def test_the_boundary_is_named_in_one_way(kind: bytes, boundary: bytes | None) -> None:
    assert boundary_of(kind) == boundary


def by_httpx() -> tuple[bytes, bytes]:
    made = httpx.Request(
        "POST", "http://x", data={"owner": "ali ce", "ids": ["1", "2"]}, files={"f": ('x".png', b"\x89")}
    )
    return made.headers["content-type"].encode(), made.read()


def by_requests() -> tuple[bytes, bytes]:
    body, kind = RequestEncodingMixin._encode_files(
        {"f": ("x.png", b"\x89", "image/png")}, [("owner", "ali ce"), ("ids", "1"), ("ids", "2")]
    )
    return kind.encode(), body


@pytest.mark.parametrize("made", [by_httpx(), by_requests()])
def test_what_libraries_write_is_read(made: tuple[bytes, bytes]) -> None:
    kind, body = made
    boundary = boundary_of(kind)
    assert boundary is not None
    fields: Iterable[FormField] = read(body, 3, boundary)
    assert {(one.name, one.text) for one in fields} == {("owner", "ali ce"), ("ids", "1"), ("ids", "2"), ("f", None)}
