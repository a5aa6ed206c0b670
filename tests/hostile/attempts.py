"""A case of hostile.yaml -> the byte sequences that it stands for: one for each of its lines and variants."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.hostile.wire import FIN

Case = dict[str, Any]
TokenOf = Callable[[str], str]


@dataclass
class Attempt:
    """One connection's bytes, and what must come of them. `target` and `headers` are as they were sent, if known."""

    name: str
    segments: list[bytes]
    expect: dict[str, Any]
    target: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    also: dict[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The method of the request line."""
        return self.segments[0].partition(b" ")[0].decode("latin-1")


def attempts_of(case: Case, token: TokenOf) -> list[Attempt]:
    """Every attempt of a case of bytes. Fails for a case, or a variant, that it does not understand."""
    send, user = case["send"], case.get("as")
    base = _Base(case, token, user)
    if "raw" in send:
        made = [base.raw(send["raw"]), *_raw_variants(base, send["raw"], _variants(case))]
    elif "raw_lines" in send:
        made = [base.inside(text) if "inside" in send else base.raw_line(text) for text in send["raw_lines"]]
    elif "lines" in send:
        made = [base.request(line, line) for line in send["lines"]]
    else:
        made = [base.request(send["line"], send["line"], send.get("headers", ()), send.get("body"))]
        made += _line_variants(base, send, _variants(case))
    return made


def _variants(case: Case) -> list[str]:
    return [*case.get("variants", []), *case["send"].get("variants", [])]


class _Base:
    """Makes attempts of one case."""

    def __init__(self, case: Case, token: TokenOf, user: str | None) -> None:
        self.case = case
        self.expect: dict[str, Any] = case["expect"]
        self.also = {name: case[name] for name in ("upstream_must_not_see",) if name in case}
        self._token = token
        self._user = user

    def filled(self, text: str) -> str:
        """`{{TOK:alice}}` and `{{A*8192}}` filled in."""
        text = re.sub(r"\{\{TOK:(\w+)\}\}", lambda match: self._token(match[1]), text)
        return re.sub(r"\{\{A\*(\d+)\}\}", lambda match: "A" * int(match[1]), text)

    def raw(self, segments: Sequence[str], name: str = "") -> Attempt:
        """These segments as they are."""
        data = [FIN if text == "<FIN>" else self.filled(text).encode("latin-1") for text in segments]
        return Attempt(name or segments[0][:60], data, self.expect, also=self.also)

    def raw_line(self, line: str) -> Attempt:
        """This request line, with what else a request needs."""
        return self.raw([f"{line}\r\nHost: app.test\r\nAuthorization: Bearer {{{{TOK:alice}}}}\r\n\r\n"], line)

    def inside(self, line: str) -> Attempt:
        """This header line inside of a good request."""
        good = (
            f"{self.case['send']['inside']} HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {{{{TOK:alice}}}}\r\n"
        )
        return self.raw([f"{good}{line}\r\n\r\n"], line)

    def request(
        self, name: str, line: str, headers: Sequence[str] = (), body: Any = None, status: int | None = None
    ) -> Attempt:
        """A request in order but for what the case says."""
        filled = [self.filled(header) for header in headers]
        if not any(header.lower().startswith("host:") for header in filled):
            filled.insert(0, "Host: app.test")
        if self._user:
            filled.append(f"Authorization: Bearer {self._token(self._user)}")
        data = _body(self.filled(body) if isinstance(body, str) else body)
        if data is not None:
            filled.append(f"Content-Length: {len(data)}")
        line = self.filled(line)
        head = "\r\n".join([f"{line} HTTP/1.1", *filled, "", ""])
        expect = self.expect if status is None else {**self.expect, "status": status}
        pairs = [(key, value.strip(" ")) for key, _, value in (header.partition(":") for header in filled)]
        return Attempt(
            name, [head.encode("latin-1") + (data or b"")], expect, line.partition(" ")[2], pairs, self.also
        )  # fmt: skip


def _body(body: Any) -> bytes | None:
    if body == "gzip bytes":
        return gzip.compress(b'{"owner":"a-1"}')
    return None if body is None else str(body).encode("latin-1")


# --- the variants, in the words of the file ---


def _line_variants(base: _Base, send: Mapping[str, Any], variants: Sequence[str]) -> list[Attempt]:
    make = _LINE_VARIANTS.get(base.case["id"])
    assert make is not None or not variants, f"{base.case['id']}: nobody says what its variants are"
    return [make(base, send, variant) for variant in variants] if make else []


def _other_headers(base: _Base, send: Mapping[str, Any], variant: str) -> Attempt:
    """`X: y` in place of the headers; `... -> 401` with that status."""
    text, _, status = variant.partition(" -> ")
    header = text.removesuffix(" (two spaces)")
    return base.request(variant, send["line"], [header], send.get("body"), int(status) if status else None)


def _other_query(base: _Base, send: Mapping[str, Any], variant: str) -> Attempt:
    return base.request(variant, send["line"].partition("?")[0] + variant)


def _other_agent(base: _Base, send: Mapping[str, Any], variant: str) -> Attempt:
    return base.request(variant, send["line"], [f"User-Agent: {variant}"])


_MULTIPART = '--b\r\nContent-Disposition: form-data; name="j"\r\nContent-Type: application/json\r\n\r\n{"owner":"a-1"}\r\n--b--\r\n'
_TYPES = {
    "two Content-Type headers": (["Content-Type: application/json", "Content-Type: text/plain"], None),
    "no Content-Type": ([], None),
    "multipart/form-data with a JSON part": (["Content-Type: multipart/form-data; boundary=b"], _MULTIPART),
}


def _other_type(base: _Base, send: Mapping[str, Any], variant: str) -> Attempt:
    headers, body = _TYPES.get(variant, ([f"Content-Type: {variant}"], None))
    return base.request(variant, send["line"], headers, body or send["body"])


def _other_body(base: _Base, send: Mapping[str, Any], variant: str) -> Attempt:
    body = "{" * 2000 if variant == "'{' * 2000" else variant
    return base.request(variant[:40] or "empty", send["line"], send["headers"], body)


def _other_target(base: _Base, send: Mapping[str, Any], variant: str) -> Attempt:
    return base.request(variant, f"GET {variant}")


_LINE_VARIANTS: dict[str, Callable[[_Base, Mapping[str, Any], str], Attempt]] = {
    "m01": _other_headers,
    "h04": _other_headers,
    "h10": _other_agent,
    "q02": _other_query,
    "b03": _other_type,
    "b05": _other_body,
    "l01": _other_target,
}


def _raw_variants(base: _Base, raw: Sequence[str], variants: Sequence[str]) -> list[Attempt]:
    make = _RAW_VARIANTS.get(base.case["id"])
    assert make is not None or not variants, f"{base.case['id']}: nobody says what its variants are"
    return [base.raw(segments, variant) for variant in variants for segments in make(raw, variant)] if make else []


def _absolute(raw: Sequence[str], variant: str) -> list[list[str]]:
    return [[raw[0].replace("http://evil.test/admin/x", variant)]]


def _request_line(raw: Sequence[str], variant: str) -> list[list[str]]:
    _, _, rest = raw[0].partition("\r\n")
    if "(HTTP/0.9)" in variant:
        return [["GET /docs/1\r\n\r\n"]]
    return [[f"{variant}\r\n{rest}"]]


def _coding(raw: Sequence[str], variant: str) -> list[list[str]]:
    """The Transfer-Encoding of each variant; what stands in brackets is a remark."""
    if variant == "two Transfer-Encoding headers":
        value = "chunked\r\nTransfer-Encoding: chunked"
    else:
        value = re.sub(r" \([^)]*\)", "", variant)
    return [[raw[0].replace("xchunked", value)]]


_LF_REQUEST = "GET /docs/1 HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {{TOK:alice}}\r\n"


def _line_ends(raw: Sequence[str], variant: str) -> list[list[str]]:
    if variant == "LF only after one header":
        return [[_LF_REQUEST.replace("app.test\r\n", "app.test\n") + "\r\n"]]
    if variant == "final \\r\\n\\n":
        return [[_LF_REQUEST + "\n"]]
    assert variant.startswith("Useless:\\n\\nGET / HTTP/1.1")
    return [[_LF_REQUEST + "Useless:\n\nGET / HTTP/1.1\r\nHost: app.test\r\n\r\n"]]


def _odd_spaces(raw: Sequence[str], variant: str) -> list[list[str]]:
    if variant == "tab before colon":
        return [[raw[0].replace("Encoding : chunked", "Encoding\t: chunked")]]
    if variant == " leading space line":
        return [[raw[0].replace("Transfer-Encoding : chunked", " Transfer-Encoding: chunked")]]
    assert variant == "first header line starts with space"
    return [[raw[0].replace("Host: app.test", " Host: app.test").replace("Encoding : chunked", "Encoding: chunked")]]


def _preface(raw: Sequence[str], variant: str) -> list[list[str]]:
    assert variant.startswith("PRI * HTTP/2.0")
    return [["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]]


_RAW_VARIANTS: dict[str, Callable[[Sequence[str], str], list[list[str]]]] = {
    "p18": _absolute,
    "m06": _request_line,
    "s04": _coding,
    "s07": _line_ends,
    "s08": _odd_spaces,
    "s19": _preface,
}
