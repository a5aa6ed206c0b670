#!/bin/sh
# Cerbos 0.55.0 (npm package @cerbos/cerbos-linux-x64), seen on 2026-11-30.
#
# A rule allows what has no owner or is the principal's own: `!has(R.attr.owner) || R.attr.owner == P.id`. CheckResources
# allows a resource without the attribute. PlanResources gives for the same principal and action a filter with the
# comparison alone, `eq(request.resource.attr.owner, "alice")`: the absence test is gone, as the unknown attribute is taken
# to be there. Whoever lists by the plan misses rows that the check allows, and nothing in the plan tells of it.
#
# Output seen:
#   cerbos 0.55.0
#   check of a resource without owner: EFFECT_ALLOW
#   plan: KIND_CONDITIONAL eq(request.resource.attr.owner, alice)
#
# Exits with 0 while this is so, with 1 when it has changed. Needs Linux on x64, npm, curl and python3.
set -eu
folder=$(mktemp -d)
trap 'kill "$cerbos" 2>/dev/null || true; rm -rf "$folder"' EXIT
cerbos=
cd "$folder"
npm install --silent --no-audit --no-fund @cerbos/cerbos-linux-x64@0.55.0 >/dev/null
binary=node_modules/@cerbos/cerbos-linux-x64/cerbos-linux-x64
mkdir policies
cat >policies/doc.yaml <<'YAML'
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: doc
  version: default
  rules:
    - actions: [read]
      effect: EFFECT_ALLOW
      roles: [user]
      condition:
        match:
          expr: "!has(R.attr.owner) || R.attr.owner == P.id"
YAML
cat >cerbos.yaml <<YAML
server: {grpcListenAddr: "unix:$folder/grpc.sock", httpListenAddr: "unix:$folder/http.sock"}
storage: {driver: disk, disk: {directory: "$folder/policies"}}
telemetry: {disabled: true}
YAML
"$binary" server --config=cerbos.yaml --log-level=error >log 2>&1 &
cerbos=$!
for _ in $(seq 100); do
    curl --silent --fail --unix-socket http.sock http://cerbos/_cerbos/health >/dev/null 2>&1 && break
    sleep 0.1
done
ask() {
    curl --silent --fail --unix-socket http.sock --header 'Content-Type: application/json' --data "$2" "http://cerbos/api/$1"
}
principal='"principal": {"id": "alice", "roles": ["user"]}'
ask check/resources "{$principal, \"resources\": [{\"actions\": [\"read\"], \"resource\": {\"kind\": \"doc\", \"id\": \"1\"}}]}" >check.json
ask plan/resources "{$principal, \"action\": \"read\", \"resource\": {\"kind\": \"doc\"}}" >plan.json
echo "cerbos $("$binary" --version | head -n 1)"
python3 - <<'PYTHON'
import json


def text(operand):
    """A part of the plan as a call."""
    if "expression" in operand:
        called = operand["expression"]
        return f"{called['operator']}({', '.join(map(text, called['operands']))})"
    return str(operand.get("variable", operand.get("value")))


effect = json.load(open("check.json"))["results"][0]["actions"]["read"]
plan = json.load(open("plan.json"))["filter"]
said = f"{plan['kind']} {text(plan['condition']) if 'condition' in plan else ''}".strip()
print("check of a resource without owner:", effect)
print("plan:", said)
raise SystemExit((effect, said) != ("EFFECT_ALLOW", "KIND_CONDITIONAL eq(request.resource.attr.owner, alice)"))
PYTHON
