"""The cases of RFC 9111: what a cache may do with the app's answer to a principal, as one table."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire.caching import keep_private, merged_vary, private_control
from sidecar.wire.grammar import Header

SESSION, BEARER = (b"Cookie, Authorization", False), (b"Authorization", False)
RENEWED = (SESSION[0], True)

# what the app says (None: no such header), by what the answer goes out, and why (sections of RFC 9111 but where named)
CONTROLS: list[tuple[bytes | None, bytes, str]] = [
    (None, b"private", "4.2.2: without a word an answer is fresh by a guess, for shared caches too"),
    (b"", b"private", "5.2: an empty list says nothing"),
    (b"private", b"private", "5.2.2.7"),
    (b"Private, max-age=60", b"private, max-age=60", "5.2: names have no case"),
    (b"public", b"private", "5.2.2.9"),
    (b"PUBLIC , Max-Age=60", b"private, Max-Age=60", "5.2: names have no case; spaces around commas say nothing"),
    (b"public, max-age=31536000, immutable", b"private, max-age=31536000, immutable", "RFC 8246: as long as it is fresh"),
    (b"max-age=60", b"private, max-age=60", "5.2.2.1: fresh for shared caches too"),
    (b"s-maxage=600", b"private", "5.2.2.10: for shared caches alone, and leave to store what Authorization forbids"),
    (b"s-maxage=600, max-age=0", b"private, max-age=0", "5.2.2.10"),
    (b's-maxage="600"', b"private", "5.2: an argument may be quoted"),
    (b"must-revalidate, max-age=60", b"private, must-revalidate, max-age=60", "3.5: leave to store what Authorization forbids"),
    (b"proxy-revalidate", b"private, proxy-revalidate", "5.2.2.8: says nothing to a cache that is not shared"),
    (b"no-cache", b"private, no-cache", "5.2.2.4: it may be stored, and a 304 gives it to another"),
    (b'no-cache="set-cookie"', b'private, no-cache="set-cookie"', "5.2.2.4: about that header alone"),
    (b"no-store", b"private, no-store", "5.2.2.5"),
    (b"must-understand, no-store", b"private, must-understand, no-store", "5.2.2.3: no-store may be ignored beside it"),
    (b'private="set-cookie", max-age=60', b"private, max-age=60", "5.2.2.7: with an argument the rest is for all"),
    (b'private="x, public", public', b"private", "5.2: a comma in quotes parts nothing"),
    (b'ext="a, public, \\"b", public', b'private, ext="a, public, \\"b"', "RFC 9110 5.6.4: a quote may be escaped"),
    (b"stale-while-revalidate=60, stale-if-error=60", b"private, stale-while-revalidate=60, stale-if-error=60", "RFC 5861"),
    (b"no-transform", b"private, no-transform", "5.2.2.6"),
    (b"community=\"UCI\"", b"private, community=\"UCI\"", "5.2.3: an extension is kept as it came"),
    (b",, public ,,max-age=1,", b"private, max-age=1", "RFC 9110 5.6.1: empty elements say nothing"),
    (b"max-age=60, max-age=70", b"private, max-age=60, max-age=70", "4.2.1: which one counts is for the cache to say"),
    (b"max-age = 60", b"private", "no list: a space beside ="),
    (b"public; max-age=60", b"private", "no list: a semicolon"),
    (b"no-cache; no-store", b"private, no-store, no-cache", "no list, but the app meant to keep it from caches"),
    (b'private="x', b"private", "no list: a quote that does not end"),
    (b"max-age=", b"private", "no list: no argument"),
    (b"=60", b"private", "no list: no name"),
    (b"public\x00", b"private", "no list: a control character"),
    (b"public" + b", x" * 4000, b"private" + b", x" * 4000, "a long one is read all the same"),
    (b" " * 60000 + b"!@", b"private", "and what is no list in no more than one pass"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "sent", "why"), CONTROLS, ids=[why for _, _, why in CONTROLS])
@pytest.mark.parametrize("privacy", [SESSION, BEARER, RENEWED], ids=["session", "bearer", "renewed"])
def test_an_answer_to_a_principal_is_for_no_shared_cache(
    said: bytes | None, sent: bytes, why: str, privacy: tuple[bytes, bool]
) -> None:
    headers = [(b"content-type", b"text/plain"), *([(b"cache-control", said)] if said is not None else [])]
    found = keep_private(headers, *privacy)
    assert found[0] == (b"content-type", b"text/plain")
    (control,) = [value for name, value in found if name == b"cache-control"]
    if privacy[1]:
        rest = [one for one in sent.split(b", ")[1:] if one not in (b"no-store", b"must-understand")]
        sent = b", ".join([b"private", b"no-store", *rest])
    assert control == sent


@pytest.mark.parametrize(
    "name",
    [
        b"surrogate-control", b"cdn-cache-control", b"cloudflare-cdn-cache-control", b"akamai-cache-control",
        b"netlify-cdn-cache-control", b"vercel-cdn-cache-control", b"x-litespeed-cache-control", b"x-accel-expires", b"edge-control",
    ],
)  # fmt: skip
def test_what_shared_caches_take_before_cache_control_goes(name: bytes) -> None:
    """RFC 9111 section 5.3, RFC 9213 section 2.2, and the documentation of those who made the others."""
    found = keep_private([(name, b"max-age=600"), (b"etag", b'"1"')], *BEARER)
    assert found == [(b"etag", b'"1"'), (b"cache-control", b"private"), (b"vary", b"Authorization")]


@pytest.mark.parametrize(
    ("control", "sent"),
    [
        (None, b"private, no-cache"),
        (b"public", b"private, no-cache"),
        (b"Max-Age=60", b"private, Max-Age=60"),
        (b"s-maxage=60", b"private, no-cache"),
    ],
)
@pytest.mark.parametrize("expires", [b"0", b"Thu, 01 Jan 1970 00:00:00 GMT", b"Fri, 31 Dec 2100 00:00:00 GMT"])
def test_an_answer_without_its_expires_is_not_fresh_by_a_guess(
    expires: bytes, control: bytes | None, sent: bytes
) -> None:
    """RFC 9111 sections 4.2.2 and 5.3: a browser would keep what the app calls stale, past the sign-out."""
    said = [(b"cache-control", control)] if control is not None else []
    found = keep_private([(b"expires", expires), (b"last-modified", b"x"), *said], *BEARER)
    assert found == [(b"last-modified", b"x"), (b"cache-control", sent), (b"vary", b"Authorization")]


VARIES: list[tuple[list[bytes], bytes]] = [
    ([], b"Cookie, Authorization"),
    ([b"Accept-Encoding"], b"Accept-Encoding, Cookie, Authorization"),
    ([b"accept-encoding, COOKIE"], b"accept-encoding, COOKIE, Authorization"),
    ([b"Origin", b"Accept", b"origin"], b"Origin, Accept, Cookie, Authorization"),
    ([b"*"], b"*"),
    ([b"Accept, *"], b"*"),
    ([b""], b"Cookie, Authorization"),
    ([b" , Accept ,"], b"Accept, Cookie, Authorization"),
]


@pytest.mark.parametrize(("said", "sent"), VARIES)
def test_vary_names_what_identified_beside_what_the_app_named(said: list[bytes], sent: bytes) -> None:
    """RFC 9111 section 4.1: a browser keeps answers, too, and its next user has another session."""
    found = keep_private([(b"vary", value) for value in said], *SESSION)
    assert found == [(b"cache-control", b"private"), (b"vary", sent)]


def test_several_lines_are_one_list() -> None:
    headers: list[Header] = [
        (b"cache-control", b"max-age=60"),
        (b"a", b"1"),
        (b"cache-control", b"public"),
        (b"vary", b"A"),
        (b"vary", b"B"),
    ]
    assert keep_private(headers, *BEARER) == [
        (b"a", b"1"), (b"cache-control", b"private, max-age=60"), (b"vary", b"A, B, Authorization"),
    ]  # fmt: skip
    split: list[Header] = [(b"cache-control", b'private="a'), (b"cache-control", b'b", public')]
    assert keep_private(split, *BEARER)[0] == (b"cache-control", b"private")


def test_a_cookie_of_ours_is_kept_by_no_cache_whoever_it_is_for() -> None:
    assert keep_private([(b"cache-control", b"public, max-age=60")], b"", True) == [
        (b"cache-control", b"private, no-store, max-age=60")
    ]
    assert keep_private([], b"", True) == [(b"cache-control", b"private, no-store")]


def test_all_other_headers_stay_as_they_came_in_order() -> None:
    headers: list[Header] = [
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"a=1"),
        (b"age", b"1"),
        (b"x-cache-control-x", b"1"),
        (b"pragma", b"x"),
    ]
    assert keep_private(headers, *BEARER)[:-2] == headers


class Shared:
    """RFC 9111 section 3 by its words: whether a cache that is shared may store an answer, and section 5.2's reading."""

    LIST = re.compile(r'\s*(?:([^\s,="]+)(?:=("(?:[^"\\]|\\.)*"|[^\s,"]*))?)?\s*(?:,|$)')

    def __init__(self, control: bytes) -> None:
        self.said: dict[str, str | None] = {}
        at, text = 0, control.decode("latin-1")
        while at < len(text):
            match = self.LIST.match(text, at)
            assert match is not None, control
            if match[1]:
                self.said[match[1].lower()] = match[2]
            at = match.end()

    @property
    def may_store(self) -> bool:
        return not ("no-store" in self.said and "must-understand" not in self.said) and (
            "private" not in self.said or self.said["private"] is not None
        )


@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(
            st.sampled_from([b"public", b"private", b'private="x"', b"s-maxage=1", b"no-store", b"must-understand", b'x="', b",", b" ", b"=", b'"', b"\\"]),
            max_size=8,
        ).map(b", ".join),
    ),
    st.booleans(),
)  # fmt: skip
def test_whatever_the_app_says_no_shared_cache_may_store_it(said: bytes, no_store: bool) -> None:
    control = private_control(said, no_store)
    shared = Shared(control)
    assert not shared.may_store
    assert "public" not in shared.said
    assert "s-maxage" not in shared.said
    assert not no_store or ("no-store" in shared.said and "must-understand" not in shared.said)
    # and what was made once says the same again
    assert private_control(control, no_store) == control


@given(st.lists(st.binary(max_size=20), max_size=4))
def test_a_merged_vary_is_its_own(values: list[bytes]) -> None:
    merged = merged_vary(values)
    assert merged_vary([merged]) == merged
