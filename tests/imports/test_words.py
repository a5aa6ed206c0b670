"""Words of paths."""

from __future__ import annotations

import pytest

from sidecar.imports.words import acts, is_known, is_plural, is_prefix, singular, snake, stands_beside_ids


@pytest.mark.parametrize(
    ("noun", "kind"),
    [
        ("contacts", "contact"), ("companies", "company"), ("addresses", "address"), ("statuses", "status"), ("boxes", "box"),
        ("branches", "branch"), ("people", "person"), ("children", "child"), ("purchase-orders", "purchase_order"), ("houses", "house"),
        ("orderItems", "order_item"), ("news", "news"), ("status", "status"), ("class", "class"), ("virus", "virus"), ("analysis", "analysis"),
        ("movies", "movie"), ("data", "data"), ("contact", "contact"), ("s", "s"), ("HTTPProxies", "http_proxy"),
    ],
)  # fmt: skip
def test_a_collection_has_a_kind(noun: str, kind: str) -> None:
    assert singular(noun) == kind
    assert is_plural(noun) == (kind != snake(noun))


@pytest.mark.parametrize(
    "word", ["contacts", "reset-password", "v2", "me", "-", "sendInvoice", "healthz", "favicon.ico", "export", "order"]
)
def test_words_of_paths_are_known(word: str) -> None:
    assert is_known(word)


@pytest.mark.parametrize("word", ["alice", "secret-project", "bob-smith", "qkzjx", "open-your-heart"])
def test_names_are_not(word: str) -> None:
    assert not is_known(word)


def test_an_uncommon_word_is_a_name_in_a_collection_alone() -> None:
    pairs = (("alice", "users"), ("charges", "reports"), ("alice", "user"), ("alice", ""))
    assert [stands_beside_ids(*pair) for pair in pairs] == [False, True, True, True]


def test_actions_and_prefixes() -> None:
    assert [acts(word) for word in ("archive", "reset-password", "archives", "contact")] == [True, True, False, False]
    assert [is_prefix(word) for word in ("api", "V1", "contacts")] == [True, True, False]
