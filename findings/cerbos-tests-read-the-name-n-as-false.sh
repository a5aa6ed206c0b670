#!/bin/sh
# Cerbos 0.51.0 and 0.55.0 (npm package @cerbos/cerbos-linux-x64), seen on 2026-11-30.
#
# A rule allows where `R.attr.n == 5`, and a test of it has a resource with `attr: {n: 5}`. 0.55.0 passes the test. In 0.51.0
# it fails: a plain `n` is a boolean in YAML 1.1, so the resource has no attribute of that name, and nothing says so. With
# `"n": 5` both pass. `y`, `on`, `off`, `yes` and `no` are such names too.
#
# Output seen:
#   0.51.0 n: RESULT_FAILED, "n": RESULT_PASSED
#   0.55.0 n: RESULT_PASSED, "n": RESULT_PASSED
#
# Exits with 0 while this is so, with 1 when it has changed. Needs Linux on x64, npm and python3.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir policies
cat >policies/doc.yaml <<'YAML'
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: doc
  version: default
  rules: [{actions: [read], effect: EFFECT_ALLOW, roles: [user], condition: {match: {expr: R.attr.n == 5}}}]
YAML
cat >policies/doc_test.yaml <<'YAML'
name: doc
principals: {alice: {id: alice, roles: [user]}}
resources:
  plain: {kind: doc, id: "1", attr: {n: 5}}
  quoted: {kind: doc, id: "2", attr: {"n": 5}}
tests:
  - name: numbers
    input: {principals: [alice], resources: [plain, quoted], actions: [read]}
    expected:
      - {principal: alice, resource: plain, actions: {read: EFFECT_ALLOW}}
      - {principal: alice, resource: quoted, actions: {read: EFFECT_ALLOW}}
YAML
for version in 0.51.0 0.55.0; do
    npm install --silent --no-audit --no-fund --prefix "$version" "@cerbos/cerbos-linux-x64@$version" >/dev/null
    "$version/node_modules/@cerbos/cerbos-linux-x64/cerbos-linux-x64" compile --output=json --verbose policies >"$version.json" 2>/dev/null || true
done
python3 - <<'PYTHON'
import json

seen = {}
for version in ("0.51.0", "0.55.0"):
    (suite,) = json.load(open(f"{version}.json"))["suites"]
    resources = suite["testCases"][0]["principals"][0]["resources"]
    seen[version] = {each["name"]: each["actions"][0]["details"]["result"] for each in resources}
    print(version, f'n: {seen[version]["plain"]}, "n": {seen[version]["quoted"]}')
passed = {"plain": "RESULT_PASSED", "quoted": "RESULT_PASSED"}
raise SystemExit(0 if seen == {"0.51.0": {**passed, "plain": "RESULT_FAILED"}, "0.55.0": passed} else 1)
PYTHON
