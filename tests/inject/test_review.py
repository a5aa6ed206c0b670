"""AdmissionReviews as the API server sends them, and broken ones."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest

from sidecar.inject.review import AdmissionPolicy, BadReview, Path, Review, judge
from sidecar.inject.server import template_of
from tests.inject.json_patch import applied
from tests.inject.pods import defaulted, pod, review

TEMPLATE = template_of({})


def judged(document: Any, path: Path = Path.INJECT, policy: AdmissionPolicy | None = None) -> Review:
    return judge(path, json.dumps(document).encode(), TEMPLATE, policy or AdmissionPolicy())


def patched(outcome: Review, before: dict[str, Any]) -> dict[str, Any]:
    response = outcome.answer["response"]
    assert response["patchType"] == "JSONPatch"
    made = applied(before, json.loads(base64.b64decode(response["patch"], validate=True)))
    assert isinstance(made, dict)
    return made


@pytest.mark.parametrize("dry", [False, True])
def test_a_created_pod_is_patched(dry: bool) -> None:
    outcome = judged(review(pod(), dryRun=dry))
    assert outcome.answer["apiVersion"] == "admission.k8s.io/v1"
    assert outcome.answer["kind"] == "AdmissionReview"
    response = outcome.answer["response"]
    assert response["uid"] == "705ab4f5-6393-11e8-b7cc-42010a800002"
    assert response["allowed"] is True
    made = patched(outcome, pod())
    assert [one["name"] for one in made["spec"]["initContainers"]] == ["authz-cerbos", "authz-sidecar"]
    assert outcome.pod == "shop/shop-7c9d8b5f6d-"


def test_a_pod_of_a_labelled_namespace_needs_no_label_of_its_own() -> None:
    unlabelled = pod()
    del unlabelled["metadata"]["labels"]
    assert "authz-sidecar/present" in patched(judged(review(unlabelled)), unlabelled)["metadata"]["labels"]


def test_a_second_call_changes_nothing() -> None:
    made = defaulted(patched(judged(review(pod())), pod()))
    assert judged(review(made)).answer["response"] == {"uid": review(made)["request"]["uid"], "allowed": True}


def test_what_cannot_be_protected_is_refused_with_the_reason() -> None:
    response = judged(review(pod(hostNetwork=True))).answer["response"]
    assert response["allowed"] is False
    assert response["status"]["code"] == 403
    assert "hostNetwork" in response["status"]["message"]


def test_what_cannot_be_protected_is_admitted_where_the_operator_says_so() -> None:
    outcome = judged(review(pod(hostNetwork=True)), policy=AdmissionPolicy(admit_uninjectable=True))
    response = outcome.answer["response"]
    assert response["allowed"] is True
    assert "patch" not in response
    assert "NOT protected" in response["warnings"][0]
    assert len(response["warnings"][0]) <= 256


def test_opting_out_is_a_matter_of_its_own() -> None:
    out = pod()
    out["metadata"]["labels"]["authz-sidecar/inject"] = "disabled"
    for path in Path:
        assert not judged(review(out), path).allowed
        assert not judged(review(out), path, AdmissionPolicy(admit_uninjectable=True)).allowed
        assert judged(review(out), path, AdmissionPolicy(admit_opted_out=True)).allowed
        assert not judged(review(pod(hostNetwork=True)), path, AdmissionPolicy(admit_opted_out=True)).allowed


def test_validation_wants_a_new_pod_as_it_was_injected() -> None:
    made = defaulted(patched(judged(review(pod())), pod()))
    assert judged(review(made), Path.VALIDATE).allowed
    without = judged(review(pod()), Path.VALIDATE)
    assert not without.allowed
    assert "without the sidecar" in without.reason
    made["spec"]["initContainers"][1]["image"] = "registry.example.com/lets-all-through:1"
    assert not judged(review(made), Path.VALIDATE).allowed


def test_an_update_takes_nothing_out() -> None:
    made = defaulted(patched(judged(review(pod())), pod()))
    update = review(made, "UPDATE", oldObject=made)
    assert judged(update, Path.VALIDATE).allowed
    changes = {
        "labels": lambda one: one["metadata"]["labels"].pop("authz-sidecar/present"),
        "containers": lambda one: one["spec"]["initContainers"][1].update(image="other"),
        "mount": lambda one: one["spec"].update(ephemeralContainers=[{"name": "d", "volumeMounts": [{"name": "authz-socket"}]}]),
        "targetContainerName": lambda one: one["spec"].update(ephemeralContainers=[{"name": "d", "targetContainerName": "authz-sidecar"}]),
    }  # fmt: skip
    for part, change in changes.items():
        after = copy.deepcopy(made)
        change(after)
        outcome = judged(review(after, "UPDATE", oldObject=made), Path.VALIDATE)
        assert not outcome.allowed
        assert part in outcome.reason


def test_no_label_is_taken_away_in_two_steps() -> None:
    """An update without the label that asked for the sidecar would be the last that a webhook sees of the pod."""
    made = defaulted(patched(judged(review(pod())), pod()))
    first = copy.deepcopy(made)
    del first["metadata"]["labels"]["authz-sidecar/inject"]
    outcome = judged(review(first, "UPDATE", oldObject=made), Path.VALIDATE)
    assert not outcome.allowed
    assert "authz-sidecar/inject" in outcome.reason


def test_a_debugging_container_beside_the_app_is_let_in() -> None:
    made = defaulted(patched(judged(review(pod())), pod()))
    after = copy.deepcopy(made)
    after["spec"]["ephemeralContainers"] = [{"name": "d", "targetContainerName": "shop"}]
    update = review(after, "UPDATE", oldObject=made, subResource="ephemeralcontainers")
    assert judged(update, Path.VALIDATE).allowed


def test_a_pod_that_was_there_before_the_label_may_change() -> None:
    old, new = pod(), pod()
    new["metadata"]["labels"]["more"] = "x"
    assert judged(review(new, "UPDATE", oldObject=old), Path.VALIDATE).allowed


DEPLOYMENT = {"group": "apps", "version": "v1", "kind": "Deployment"}
BAD = {
    "another kind": review(pod(), kind=DEPLOYMENT),
    "no object": review(None),
    "no uid": review(pod(), uid=""),
    "no kind": review(pod(), kind=None),
    "an update to inject": review(pod(), "UPDATE", oldObject=pod()),
    "a subresource to inject": review(pod(), subResource="ephemeralcontainers"),
    "a deletion": review(pod(), "DELETE"),
    "an older review": {**review(pod()), "apiVersion": "admission.k8s.io/v1beta1"},
    "no review": {**review(pod()), "kind": "Pod"},
    "no request": {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"},
    "a list": [],
    "a pod without spec": review({"metadata": {}}),
    "a pod of lists": review({"metadata": [], "spec": []}),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_about_a_new_pod_is_a_bad_review(case: str) -> None:
    with pytest.raises(BadReview):
        judged(BAD[case])


@pytest.mark.parametrize(
    "update", [review(pod(), "UPDATE"), review(pod(), "CONNECT"), review({"metadata": {}}, "UPDATE", oldObject=pod())]
)
def test_a_bad_review_to_validate(update: dict[str, Any]) -> None:
    with pytest.raises(BadReview):
        judged(update, Path.VALIDATE)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a": 1, "a": 2}', b"[" * 100_000])
def test_what_is_not_json_is_a_bad_review(body: bytes) -> None:
    with pytest.raises(BadReview, match="JSON"):
        judge(Path.INJECT, body, TEMPLATE, AdmissionPolicy())
