"""AdmissionReviews as a Kubernetes API server sends them: fields, defaults and the ServiceAccount's volume included."""

from __future__ import annotations

import copy
from typing import Any

TOKEN_MOUNT = {
    "name": "kube-api-access-x7k2p", "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
}  # fmt: skip


def pod(**spec: Any) -> dict[str, Any]:
    """A pod that a Deployment's ReplicaSet creates, as it comes to a mutating webhook; `spec` goes over its spec."""
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "generateName": "shop-7c9d8b5f6d-",
            "namespace": "shop",
            "creationTimestamp": None,
            "labels": {"app": "shop", "pod-template-hash": "7c9d8b5f6d", "authz-sidecar/inject": "enabled"},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-7c9d8b5f6d", "controller": True,
                    "uid": "5c1c6d5e-6f5e-4d0f-8a6e-2a3f3b6a4f10", "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "volumes": [
                {
                    "name": "kube-api-access-x7k2p",
                    "projected": {
                        "sources": [
                            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                        ],
                        "defaultMode": 420,
                    },
                }
            ],
            "containers": [
                {
                    "name": "shop",
                    "image": "registry.example.com/shop:4.2",
                    "ports": [{"containerPort": 3000, "protocol": "TCP"}],
                    "resources": {},
                    "volumeMounts": [copy.deepcopy(TOKEN_MOUNT)],
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                    "imagePullPolicy": "IfNotPresent",
                }
            ],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default",
            "serviceAccount": "default",
            "securityContext": {"runAsUser": 1000, "fsGroup": 2000},
            "schedulerName": "default-scheduler",
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            ],
            "priority": 0,
            "enableServiceLinks": True,
            "preemptionPolicy": "PreemptLowerPriority",
            **spec,
        },
        "status": {},
    }  # fmt: skip


def review(object_: Any, operation: str = "CREATE", **request: Any) -> dict[str, Any]:
    """The AdmissionReview about an object; `request` goes over its request."""
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": operation,
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "a1d0b1c2-3f51-4c1c-8c9e-5a6b7c8d9e0f",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
            },
            "object": object_,
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
            **request,
        },
    }


def defaulted(made: dict[str, Any]) -> dict[str, Any]:
    """A patched pod as it comes at a reinvocation: the API server's defaults and plugins have been at work on it."""
    made = copy.deepcopy(made)
    for container in made["spec"]["initContainers"]:
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container["volumeMounts"].append(copy.deepcopy(TOKEN_MOUNT))
        container["resources"]["limits"]["cpu"] = "500m"  # a LimitRange
        for port in container.get("ports", ()):
            port["protocol"] = "TCP"
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            if name in container:
                defaults = {"periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
                container[name] = {**defaults, **container[name]}
                if "httpGet" in container[name]:
                    container[name]["httpGet"]["scheme"] = "HTTP"
    for volume in made["spec"]["volumes"]:
        if "configMap" in volume:
            volume["configMap"].setdefault("defaultMode", 420)
    return made
