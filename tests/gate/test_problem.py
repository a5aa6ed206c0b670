"""Problem JSON."""

from __future__ import annotations

import json
from http import HTTPStatus

from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.problem import problem_json


def test_a_problem_has_the_fields_of_rfc_9457_and_ours() -> None:
    assert json.loads(problem_json(503, Code.PDP_TIMEOUT, "r1")) == {
        "type": "about:blank", "title": "Service Unavailable", "status": 503, "code": "pdp_timeout", "request_id": "r1",
    }  # fmt: skip


def test_without_a_request_id_it_has_none() -> None:
    assert "request_id" not in json.loads(problem_json(400, Code.REQUEST_INVALID))


@given(
    st.sampled_from(list(HTTPStatus)),
    st.sampled_from(list(Code)),
    st.text(),
    st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text()), max_size=3),
)
def test_it_is_the_json_that_the_library_writes(
    status: int, code: Code, request_id: str, more: dict[str, object]
) -> None:  # fmt: skip
    own = {"type", "title", "status", "code", "request_id"}
    more = {name: value for name, value in more.items() if name not in own}
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": int(status), "code": code, **more}
    problem |= {"request_id": request_id} if request_id else {}
    assert problem_json(status, code, request_id, more) == json.dumps(problem).encode("ascii")
