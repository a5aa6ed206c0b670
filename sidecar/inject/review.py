"""An AdmissionReview (admission.k8s.io/v1) -> its answer. Pure: no I/O."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sidecar.inject.patch import INJECT, InjectionTemplate, Json, OptedOut, Uninjectable, owned, patch
from sidecar.wire import strict_json

API_VERSION = "admission.k8s.io/v1"
_POD = {"group": "", "version": "v1", "kind": "Pod"}


class Path(Enum):
    """The two webhooks, by their paths."""

    INJECT = "/inject"
    VALIDATE = "/validate"


class BadReview(Exception):
    """Not a review that this webhook can judge: HTTP 400, and the API server does as failurePolicy says."""


@dataclass(frozen=True)
class AdmissionPolicy:
    """Policy for a pod that stays without the sidecar: refused, unless the operator chose otherwise."""

    admit_uninjectable: bool = False
    admit_opted_out: bool = False

    def admits(self, why: Uninjectable) -> bool:
        """Return whether the pod is let through as it is."""
        return self.admit_opted_out if isinstance(why, OptedOut) else self.admit_uninjectable


@dataclass(frozen=True)
class Review:
    """Answer to a review, with facts for the log: which pod, whether it is let in, why not, how many operations."""

    answer: Json
    pod: str
    allowed: bool
    reason: str = ""
    operations: int = 0


def judge(path: Path, body: bytes, template: InjectionTemplate, policy: AdmissionPolicy) -> Review:
    """The answer to the AdmissionReview in `body`. Raises BadReview. A dry run is answered like any other."""
    request = _request(body)
    name = _name(request)
    try:
        if path is Path.INJECT:
            return _inject(request, name, template, policy)
        return _validate(request, name, template, policy)
    except ValueError as error:
        raise BadReview(str(error)) from None


def _inject(request: Json, name: str, template: InjectionTemplate, policy: AdmissionPolicy) -> Review:
    if request["operation"] != "CREATE" or request.get("subResource"):
        raise BadReview("a pod is injected when it is created, and at no other time")
    try:
        operations = patch(request["object"], template)
    except Uninjectable as why:
        return _without_sidecar(request, name, why, policy)
    more: Json = {}
    if operations:
        more = {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode("ascii")}
    return Review(_answer(request, True, **more), name, True, operations=len(operations))


_PARTS = {
    "labels": f"the labels {INJECT} and authz-sidecar/present of a protected pod: create the pod anew without them",
    "containers": "the sidecar's containers",
    "volumes": "the sidecar's volumes",
    "mounted by": "which containers mount the sidecar's volumes",
    "debugged by": "which ephemeral containers join the sidecar's processes (targetContainerName)",
}
"""The parts of a pod that no update may change, in the words of the refusal."""


def _validate(request: Json, name: str, template: InjectionTemplate, policy: AdmissionPolicy) -> Review:
    """After all that mutates: a new pod is as `_inject` wants it, and an update changes nothing of ours."""
    if request["operation"] == "UPDATE":
        old = request.get("oldObject")
        if not isinstance(old, dict):
            raise BadReview("found no object oldObject")
        before, after = owned(old, template), owned(request["object"], template)
        changed = [part for part, value in before.items() if after[part] != value]
        if changed:
            return _refused(request, name, f"an update may not change {_PARTS[changed[0]]}")
        return Review(_answer(request, True), name, True)
    if request["operation"] != "CREATE":
        raise BadReview(f"found the operation {request['operation']!r}, expected CREATE or UPDATE")
    try:
        operations = patch(request["object"], template)
    except Uninjectable as why:
        return _without_sidecar(request, name, why, policy)
    if operations:
        return _refused(request, name, "it is without the sidecar: the injecting webhook was not asked")
    return Review(_answer(request, True), name, True)


def _without_sidecar(request: Json, name: str, why: Uninjectable, policy: AdmissionPolicy) -> Review:
    if not policy.admits(why):
        return _refused(request, name, str(why))
    said = f"authorization sidecar: this pod is NOT protected: {why}"
    return Review(_answer(request, True, warnings=[said[:_MAX_WARNING]]), name, True, str(why))


_MAX_WARNING = 256
"""Characters (Kubernetes, "Dynamic Admission Control", response): longer ones may be cut."""


def _refused(request: Json, name: str, reason: str) -> Review:
    status = {"code": 403, "reason": "Forbidden", "message": f"authorization sidecar: {reason}"}
    return Review(_answer(request, False, status=status), name, False, reason)


def _answer(request: Json, allowed: bool, **more: Any) -> Json:
    response = {"uid": request["uid"], "allowed": allowed, **more}
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}


def _request(body: bytes) -> Json:
    try:
        review = strict_json.loads(body)
    except ValueError as error:
        raise BadReview(f"not JSON: {error}") from None
    if not isinstance(review, dict) or (review.get("apiVersion"), review.get("kind")) != (
        API_VERSION,
        "AdmissionReview",
    ):
        raise BadReview(f"expected an AdmissionReview of {API_VERSION}")
    request = review.get("request")
    if not isinstance(request, dict):
        raise BadReview("found no object request")
    for name in ("uid", "operation"):
        if not isinstance(request.get(name), str) or not request[name]:
            raise BadReview(f"found no text request.{name}")
    if request.get("kind") != _POD:
        raise BadReview(f"found the kind {request.get('kind')}, expected a v1 Pod")
    if not isinstance(request.get("object"), dict):
        raise BadReview("found no object request.object")
    return request


def _name(request: Json) -> str:
    """The pod as a person finds it; one that a controller creates has a beginning of a name only."""
    metadata = request["object"].get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    return f"{request.get('namespace', '')}/{named.get('name') or named.get('generateName') or '?'}"
