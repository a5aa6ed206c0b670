"""deploy/istio and deploy/envoy-gateway: each field is one that its documentation names, and together they fail closed.

No cluster runs here, and no package carries these definitions with what may not be in them. So the fields that are used
are written down as schemas, by the reference pages named beside each; a field that is not in them is a fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.stack import ROOT

ISTIO, GATEWAY = ROOT / "deploy/istio/sidecar.yaml", ROOT / "deploy/envoy-gateway/sidecar.yaml"
MESH = ROOT / "deploy/istio/mesh-config.yaml"

Schema = dict[str, Any]
NAME: Schema = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}
TEXT: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "integer", "minimum": 1}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
TIME: Schema = {"type": "string", "pattern": r"^\d+(ms|s|m|h)$"}
LABELS: Schema = {"type": "object", "additionalProperties": TEXT, "minProperties": 1}


def one_of(*words: str) -> Schema:
    return {"enum": list(words)}


def many(schema: Schema) -> Schema:
    return {"type": "array", "items": schema, "minItems": 1}


def of(_required: str = "", **fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": _required.split(), "additionalProperties": False}


# istio.io/latest/docs/reference/config/networking/virtual-service, .../destination-rule
DESTINATION = of("host port", host=NAME, port=of("number", number=PORT))
TLS = of("mode", mode=one_of("DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"))
UPGRADE = one_of("DEFAULT", "DO_NOT_UPGRADE", "UPGRADE")
POOL = of(
    tcp=of(connectTimeout=TIME),
    http=of(h2UpgradePolicy=UPGRADE, http2MaxRequests=NUMBER, maxRequestsPerConnection=NUMBER),
)
OUTLIERS = of(consecutive5xxErrors=NUMBER, interval=TIME, baseEjectionTime=TIME)
PORT_SETTINGS = of("port", port=of("number", number=PORT), tls=TLS, connectionPool=POOL, outlierDetection=OUTLIERS)
ROUTE = of(
    "name route",
    name=NAME,
    match=many(of("uri", uri=of("prefix", prefix=TEXT))),
    route=many(of("destination", destination=DESTINATION)),
    timeout=TIME,
    headers=of(response=of(remove=many(NAME))),
)
# istio.io/latest/docs/reference/config/security/authorization-policy, .../peer_authentication
SELECTOR = of("matchLabels", matchLabels=LABELS)
OPERATION = of(notPaths=many(TEXT), ports=many({"type": "string", "pattern": r"^\d+$"}))
RULE = of(to=many(of("operation", operation=OPERATION)))
RULE["properties"]["from"] = many(of("source", source=of(principals=many(TEXT))))
ACTION = one_of("ALLOW", "DENY", "AUDIT", "CUSTOM")
# istio.io/latest/docs/reference/config/istio.mesh.v1alpha1
BODY = of("maxRequestBytes", maxRequestBytes=NUMBER, allowPartialMessage=FLAG, packAsBytes=FLAG)
PROVIDER = of(
    "service port timeout",
    service=NAME,
    port=PORT,
    timeout=TIME,
    failOpen=FLAG,
    statusOnError={"type": "string", "pattern": r"^[45]\d\d$"},
    clearRouteCache=FLAG,
    includeRequestBodyInCheck=BODY,
)
NORMALIZATION = one_of("DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")
MESH_CONFIG = of(
    "meshConfig",
    meshConfig=of(
        pathNormalization=of("normalization", normalization=NORMALIZATION),
        extensionProviders=many(of("name envoyExtAuthzGrpc", name=NAME, envoyExtAuthzGrpc=PROVIDER)),
    ),
)
# gateway-api.sigs.k8s.io/reference/spec
REFERENCE = of("name", name=NAME, port=PORT)
HTTP_RULE = of(
    "matches backendRefs",
    matches=many(of("path", path=of("type value", type=one_of("Exact", "PathPrefix"), value=TEXT))),
    filters=many(of("type", type=one_of("ResponseHeaderModifier"), responseHeaderModifier=of(remove=many(NAME)))),
    backendRefs=many(REFERENCE),
    timeouts=of(request=TIME),
)
# gateway.envoyproxy.io/latest/api/extension_types: SecurityPolicySpec, ExtAuth, ClientTrafficPolicySpec, PathSettings
GROUP = one_of("gateway.networking.k8s.io")
TARGETS = many(of("group kind name", group=GROUP, kind=one_of("Gateway", "HTTPRoute"), name=NAME))
EXT_AUTH = of(
    "grpc",
    failOpen=FLAG,
    statusOnError={"type": "integer", "minimum": 400, "maximum": 599},
    timeout=TIME,
    recomputeRoute=FLAG,
    grpc=of("backendRefs", backendRefs=many(REFERENCE)),
)
SLASHES = one_of("KeepUnchanged", "RejectRequest", "UnescapeForward", "UnescapeRedirect")
UNDERSCORES = one_of("Allow", "RejectRequest", "DropHeader")
REQUEST_ID = one_of("PreserveOrGenerate", "Preserve", "Generate", "Disable")
SPECS: dict[tuple[str, str], Schema] = {
    ("networking.istio.io/v1", "DestinationRule"): of(
        "host trafficPolicy", host=NAME, trafficPolicy=of(tls=TLS, portLevelSettings=many(PORT_SETTINGS))
    ),
    ("networking.istio.io/v1", "VirtualService"): of(
        "hosts http", hosts=many(NAME), gateways=many(TEXT), http=many(ROUTE)
    ),
    ("security.istio.io/v1", "PeerAuthentication"): of(
        "mtls", selector=SELECTOR, mtls=of("mode", mode=one_of("UNSET", "DISABLE", "PERMISSIVE", "STRICT"))
    ),
    ("security.istio.io/v1", "AuthorizationPolicy"): of(
        "selector action rules", selector=SELECTOR, action=ACTION, provider=of("name", name=NAME), rules=many(RULE)
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): of(
        "parentRefs rules", parentRefs=many(of("name", name=NAME)), hostnames=many(NAME), rules=many(HTTP_RULE)
    ),
    ("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy"): of(
        "targetRefs extAuth", targetRefs=TARGETS, extAuth=EXT_AUTH
    ),
    ("gateway.envoyproxy.io/v1alpha1", "ClientTrafficPolicy"): of(
        "targetRefs",
        targetRefs=TARGETS,
        path=of(escapedSlashesAction=SLASHES, disableMergeSlashes=FLAG),
        headers=of(withUnderscoresAction=UNDERSCORES, requestID=REQUEST_ID),
        timeout=of(http=of(requestReceivedTimeout=TIME)),
    ),
}
CORE = {"v1", "networking.k8s.io/v1"}


def objects(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def check(one: dict[str, Any]) -> None:
    """Raises where an object is none of its kind."""
    if one["apiVersion"] in CORE:
        kubernetes_validate.validate(one, "1.31", strict=True)
        return
    spec = SPECS[one["apiVersion"], one["kind"]]
    metadata = of("name namespace", name=NAME, namespace=NAME)
    jsonschema.validate(one, of("metadata spec", apiVersion=TEXT, kind=TEXT, metadata=metadata, spec=spec))


def named(path: Path, kind: str, name: str) -> dict[str, Any]:
    (found,) = [one["spec"] for one in objects(path) if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return dict(found)


@pytest.mark.parametrize(
    "one", [*objects(ISTIO), *objects(GATEWAY)], ids=lambda one: f"{one['kind']} {one['metadata']['name']}"
)
def test_every_object_has_known_fields_alone(one: dict[str, Any]) -> None:
    check(one)
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check({**one, "spec": {**one["spec"], "nonsense": 1}})


def test_the_mesh_is_told_how_to_ask() -> None:
    text = yaml.safe_load(MESH.read_text())
    jsonschema.validate(text, MESH_CONFIG)
    (provider,) = text["meshConfig"]["extensionProviders"]
    asked = provider["envoyExtAuthzGrpc"]
    assert (asked["failOpen"], asked["statusOnError"]) == (False, "503")
    body = {"maxRequestBytes": 1 << 20, "allowPartialMessage": True, "packAsBytes": True}
    assert asked["includeRequestBodyInCheck"] == body
    # paths that are decoded, or whose slashes are merged, could be judged as others than their sender meant
    assert text["meshConfig"]["pathNormalization"] == {"normalization": "BASE"}
    policy = named(ISTIO, "AuthorizationPolicy", "ask-the-sidecar")
    assert policy["provider"]["name"] == provider["name"]
    service, namespace, *_ = asked["service"].split(".")
    (found,) = [one for one in objects(ISTIO) if one["kind"] == "Service"]
    assert found["metadata"] == {"name": service, "namespace": namespace}
    ports = {port["port"]: port["appProtocol"] for port in found["spec"]["ports"]}
    assert ports[asked["port"]] == "grpc"


def test_what_istio_does_not_ask_about_leads_to_the_sidecar() -> None:
    policy = named(ISTIO, "AuthorizationPolicy", "ask-the-sidecar")
    assert policy["action"] == "CUSTOM"
    assert policy["rules"] == [{"to": [{"operation": {"notPaths": ["/_sidecar/*"]}}]}]
    first, second = named(ISTIO, "VirtualService", "app")["http"]
    assert first["match"] == [{"uri": {"prefix": "/_sidecar/"}}]
    assert first["route"][0]["destination"]["host"].startswith("authorization-sidecar.")
    assert "match" not in second
    assert set(second["headers"]["response"]["remove"]) == {"x-auth-subject", "x-auth-roles", "x-auth-assertion"}


def test_nobody_else_may_ask_in_the_mesh() -> None:
    assert named(ISTIO, "PeerAuthentication", "authorization-sidecar")["mtls"] == {"mode": "STRICT"}
    for name in ("only-the-gateway-asks", "only-by-the-gateway"):
        policy = named(ISTIO, "AuthorizationPolicy", name)
        assert policy["action"] == "ALLOW"
        assert all(rule["from"] for rule in policy["rules"])


def test_envoy_gateway_asks_about_the_app_s_route_and_fails_closed() -> None:
    policy = named(GATEWAY, "SecurityPolicy", "ask-the-sidecar")
    asked = policy["extAuth"]
    assert (asked["failOpen"], asked["statusOnError"]) == (False, 503)
    assert [target["name"] for target in policy["targetRefs"]] == ["app"]
    assert asked["grpc"]["backendRefs"] == [{"name": "authorization-sidecar", "port": 9002}]
    app, own = named(GATEWAY, "HTTPRoute", "app"), named(GATEWAY, "HTTPRoute", "sidecar")
    assert [rule["matches"][0]["path"]["value"] for rule in (*app["rules"], *own["rules"])] == ["/", "/_sidecar/"]
    assert own["rules"][0]["backendRefs"] == [{"name": "authorization-sidecar", "port": 8080}]
    (service,) = [one for one in objects(GATEWAY) if one["kind"] == "Service"]
    ports = {port["port"]: port.get("appProtocol") for port in service["spec"]["ports"]}
    assert ports == {8080: None, 9002: "kubernetes.io/h2c"}
    path = named(GATEWAY, "ClientTrafficPolicy", "one-reading")["path"]
    assert path == {"escapedSlashesAction": "KeepUnchanged", "disableMergeSlashes": True}
