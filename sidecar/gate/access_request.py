"""Offer of a PDP to ask for what it denied, and on what page (AuthZEN Access Request and Approval Profile)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, NamedTuple

MAX_URL = 2048
MAX_TITLE = 128
MAX_DESCRIPTION = 512
# https with a host and nobody's name before it, or a path of the app's own origin
_URL = re.compile(
    r"(?:https://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?(?=[/?#]|\Z)|/(?![/\\]))"
    r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*"
)
_TEMPLATE = re.compile(r"[!-~]{1,128}")
# RFC 3339 section 5.6
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_UNSEEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")


class AccessRequest(NamedTuple):
    """Offer of a PDP to ask for what it denied. What binds it to the decision is not in here: it may tell of attributes
    that whoever asked does not know."""

    form_url: str
    """Page where a person asks: of https, or a path of the app's own origin; "" where there is none."""
    expires_at: str
    template: str = ""
    title: str = ""
    description: str = ""

    def members(self) -> dict[str, object]:
        """Members that a client is told, under the names of the profile."""
        display = {name: text for name, text in (("title", self.title), ("description", self.description)) if text}
        told: dict[str, object] = {"form_url": self.form_url, "template": self.template, "display": display}
        return {**{name: value for name, value in told.items() if value}, "expires_at": self.expires_at}


def access_request_of(context: Mapping[str, Any]) -> AccessRequest | None:
    """The offer in the context of a denial; None where there is none, or none that can be read. What of it cannot be
    shown is left out: a denial stays a denial."""
    said = context.get("access_request")
    if not isinstance(said, dict) or not _matches(_TIME, said.get("expires_at"), 64):
        return None
    display = said.get("display")
    shown = display if isinstance(display, dict) else {}
    url, template = said.get("form_url"), said.get("template")
    return AccessRequest(
        url if isinstance(url, str) and _matches(_URL, url, MAX_URL) else "",
        said["expires_at"],
        template if isinstance(template, str) and _matches(_TEMPLATE, template, 128) else "",
        _text(shown.get("title"), MAX_TITLE),
        _text(shown.get("description"), MAX_DESCRIPTION),
    )


def _matches(pattern: re.Pattern[str], value: object, most: int) -> bool:
    return isinstance(value, str) and len(value) <= most and pattern.fullmatch(value) is not None


def _text(value: object, most: int) -> str:
    """A text that shows what it says, "" for another."""
    if not isinstance(value, str) or len(value) > most or any(unicodedata.category(char) in _UNSEEN for char in value):
        return ""
    return value
