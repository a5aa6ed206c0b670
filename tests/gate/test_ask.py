"""What one method of a route asks, put together once."""

from __future__ import annotations

import pytest

from sidecar.gate.ask import Ask, asks
from sidecar.gate.references import parse_template

BODY, HEADER, OPTIONAL = (parse_template(text) for text in ("a-{body.owner}", "{header.x-a}", "{query.page?}"))


@pytest.mark.parametrize(
    ("ask", "needs", "optional"),
    [
        (Ask("a"), False, False),
        (Ask("a", id=HEADER), False, False),
        (Ask("a", attributes={"a": HEADER}), False, False),
        (Ask("a", id=BODY), True, False),
        (Ask("a", id=HEADER, attributes={"a": HEADER, "b": BODY}), True, False),
        (Ask("a", attributes={"a": OPTIONAL}), False, True),
        (Ask("a", needs_body=True), True, False),
    ],
)
def test_what_a_request_needs_is_known_before_it_comes(ask: Ask, needs: bool, optional: bool) -> None:
    assert (ask.needs_body, ask.has_optional) == (needs, optional)


def test_head_asks_as_get_and_an_action_by_name_takes_what_all_have() -> None:
    own = Ask("create", "thing")
    made = asks({"GET": "read", "POST": own}, kind="doc", id=HEADER)
    assert (made["GET"].kind, made["GET"].id, made["GET"].action) == ("doc", HEADER, "read")
    assert made["HEAD"] is made["GET"]
    assert made["POST"] is own
    assert "HEAD" not in asks({"POST": "create"})
