"""Manifests built by kubectl, and what Kubernetes makes of them."""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stack import ROOT

Object = dict[str, Any]

K8S = ROOT / "deploy" / "k8s"


@cache
def _built(folder: Path) -> tuple[Object, ...]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not on PATH (apt-get install kubernetes-client)")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.load_all(done.stdout, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def built(folder: Path) -> list[Object]:
    """The objects that `kubectl kustomize` makes of a folder. Skips without kubectl."""
    return copy.deepcopy(list(_built(folder)))


def named(objects: list[Object], kind: str, name: str) -> Object:
    """The one object of this kind and name."""
    found = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    assert len(found) == 1, (kind, name, len(found))
    return found[0]


def pod_specs(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Every pod's spec, with the name of what it belongs to."""
    for one in objects:
        if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet"):
            yield f"{one['kind']}/{one['metadata']['name']}", one["spec"]["template"]["spec"]
        elif one["kind"] == "Pod":
            yield f"Pod/{one['metadata']['name']}", one["spec"]


def pod_of(deployment: Object, name: str) -> Object:
    """A pod as the Deployment's ReplicaSet creates it, with a name."""
    template = copy.deepcopy(deployment["spec"]["template"])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **template["metadata"]},
        "spec": template["spec"],
    }


def violations(spec: Object) -> list[str]:
    """What keeps a pod out of a namespace with the restricted profile (Kubernetes, "Pod Security Standards")."""
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    kinds = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    found += [f"volume {one['name']}" for one in spec.get("volumes", ()) if not set(one) - {"name"} <= kinds]
    pod = spec.get("securityContext", {})
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        own = container.get("securityContext", {})
        both = {**pod, **own}
        wrong = {
            "runAsNonRoot": both.get("runAsNonRoot") is not True,
            "runAsUser": both.get("runAsUser") == 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"),
            "privileged": bool(own.get("privileged")),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is not False,
            "capabilities.drop": "ALL" not in own.get("capabilities", {}).get("drop", ()),
            "capabilities.add": not set(own.get("capabilities", {}).get("add", ())) <= {"NET_BIND_SERVICE"},
            "hostPort": any(port.get("hostPort") for port in container.get("ports", ())),
            "procMount": own.get("procMount", "Default") != "Default",
        }
        found += [f"{container['name']}: {name}" for name, is_wrong in wrong.items() if is_wrong]
    return found


def lets_in(policies: list[Object], labels: dict[str, str], port: int, namespace: str, peer: dict[str, str]) -> bool:
    """Whether NetworkPolicies let a pod `peer` of a namespace (by its name) to a TCP port of a pod with `labels`.

    As Kubernetes has it ("Network Policies"): a pod that no policy selects is open, one that some select takes what
    any of them lets in. Knows the selectors that our policies use, and fails at any other.
    """
    selecting = [one["spec"] for one in policies if _matches(one["spec"]["podSelector"], labels)]
    rules = [rule for spec in selecting for rule in spec.get("ingress", ())]
    return not selecting or any(_rule_lets_in(rule, port, namespace, peer) for rule in rules)


def _matches(selector: Object, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels", "matchExpressions"}, selector
    expressions = selector.get("matchExpressions", ())
    assert all(one["operator"] == "DoesNotExist" for one in expressions), selector
    is_without = not any(one["key"] in labels for one in expressions)
    return is_without and set(selector.get("matchLabels", {}).items()) <= set(labels.items())


def _rule_lets_in(rule: Object, port: int, namespace: str, peer: dict[str, str]) -> bool:
    assert set(rule) <= {"ports", "from"}, rule
    ports = [one["port"] for one in rule.get("ports", ()) if one["protocol"] == "TCP"]
    if "ports" in rule and port not in ports:
        return False
    return "from" not in rule or any(_is_peer(one, namespace, peer) for one in rule["from"])


def _is_peer(one: Object, namespace: str, peer: dict[str, str]) -> bool:
    assert set(one) <= {"podSelector", "namespaceSelector"}, one
    inside = namespace == "default"
    if "namespaceSelector" in one:
        inside = _matches(one["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
    return inside and _matches(one.get("podSelector", {}), peer)
