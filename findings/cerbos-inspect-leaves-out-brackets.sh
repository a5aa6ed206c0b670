#!/bin/sh
# Cerbos 0.55.0 (npm package @cerbos/cerbos-linux-x64), seen on 2026-11-29.
#
# The Admin API's InspectPolicies lists the attributes that a policy reads (docs.cerbos.dev, "Admin API"). It finds those
# that are written with a dot. One in brackets, P.attr["team"], and one that is asked for by `"note" in R.attr` are missing
# from the list, though the conditions read the same attributes. So the list cannot tell what a policy needs to be told.
#
# Output seen:
#   cerbos 0.55.0
#   attributes: owner
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
          expr: R.attr.owner == P.id && P.attr["team"] == "a" && "note" in R.attr
YAML
# the password is `authz`: bcrypt, then base64
cat >cerbos.yaml <<YAML
server:
  grpcListenAddr: "unix:$folder/grpc.sock"
  httpListenAddr: "unix:$folder/http.sock"
  adminAPI:
    enabled: true
    adminCredentials:
      username: authz
      passwordHash: JDJiJDEwJGd2THIxbmgyMi9IaHZTMEwvZk44bXVidWJkR0dXdWN4T3NRNnUzMlBXdmhaNm5jZEVMcUlx
storage: {driver: disk, disk: {directory: "$folder/policies"}}
telemetry: {disabled: true}
YAML
"$binary" server --config=cerbos.yaml --log-level=error >log 2>&1 &
cerbos=$!
for _ in $(seq 100); do
    curl --silent --fail --unix-socket http.sock http://cerbos/_cerbos/health >/dev/null 2>&1 && break
    sleep 0.1
done
curl --silent --fail --user authz:authz --unix-socket http.sock http://cerbos/admin/policies/inspect >answer.json
echo "cerbos $("$binary" --version | head -n 1)"
python3 - <<'PYTHON'
import json

(result,) = json.load(open("answer.json"))["results"].values()
names = [attribute["name"] for attribute in result["attributes"]]
print("attributes:", ", ".join(names))
raise SystemExit(names != ["owner"])
PYTHON
