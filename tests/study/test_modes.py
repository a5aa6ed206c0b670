"""What `sidecar check` says of modes."""

from __future__ import annotations

from sidecar.gate.mode import Mode
from sidecar.study.modes import notes, warnings
from tests.config.routes.reading import read

ROUTES = """\
version: 1
routes:
  - {path: /a, resource: a, actions: {GET: read, PUT: write}, mode: shadow}
  - {path: /b, resource: b, actions: {GET: read, PUT: {action: write, mode: shadow}, POST: {action: make, mode: shadow}}}
  - {path: /c, resource: c, actions: {GET: read}, mode: {enforce: 10%}}
  - {path: /d, access: authenticated, mode: enforce}
  - {path: /e, access: public}
"""


def told(mode: Mode, text: str = ROUTES) -> list[str]:
    return notes(read(text).table, mode)


def test_each_route_that_does_not_enforce_is_noted() -> None:
    assert told("enforce") == [
        "mode shadow: /a, /b (POST, PUT)", "mode enforce for 10%, otherwise shadow-policy: /c",
    ]  # fmt: skip
    assert told("shadow") == [
        "SIDECAR_MODE: shadow, where a route has no mode of its own",
        "mode enforce for 10%, otherwise shadow-policy: /c", "mode enforce: /d",
    ]  # fmt: skip
    assert told("enforce", "version: 1\nroutes: [{path: /a, access: public}]\n") == []


def test_a_budget_is_warned_of_since_it_opens() -> None:
    text = "version: 1\nroutes: [{path: /a, access: authenticated, mode: {enforce: 100%, budget: {refusals: 20, within: 5m}}}]\n"
    (warning,) = warnings(read(text), "routes.yaml", "enforce")
    assert warning == (
        "routes.yaml:2:50: routes[0].mode: /a: found a budget, which puts it into shadow-policy for everybody after more "
        "than 20 refusals of 5 principals within 300 s, expected none, unless you would sooner let too much through than refuse too much"
    )


def test_a_route_that_enforces_while_other_paths_pass_is_warned_of() -> None:
    routes = read(ROUTES)
    (warning,) = warnings(routes, "routes.yaml", "shadow")
    assert warning.startswith("SIDECAR_MODE: found shadow, and /c is stricter, expected enforce or shadow-policy")
    assert [*warnings(routes, "routes.yaml", "enforce"), *warnings(routes, "routes.yaml", "shadow-policy")] == []
    alike = "version: 1\nroutes: [{path: /a, access: authenticated, mode: shadow}]\n"
    assert list(warnings(read(alike), "routes.yaml", "shadow")) == []


def test_a_wildcard_in_shadow_above_what_is_enforced_is_warned_of() -> None:
    text = """\
version: 1
routes:
  - {path: "/app/**", access: authenticated, mode: shadow}
  - {path: /app/contacts, resource: a, actions: {GET: read}}
  - {path: /other, resource: a, actions: {GET: read}}
"""
    (warning,) = warnings(read(text), "routes.yaml", "enforce")
    assert warning.startswith(
        "routes.yaml:3:52: routes[0].mode: /app/**: found shadow on a wildcard, and /app/contacts below it is stricter, expected"
    )
    for changed in (text.replace("/app/contacts", "/contacts"), text.replace("mode: shadow", "mode: shadow-policy")):
        assert list(warnings(read(changed), "routes.yaml", "enforce")) == []
    assert list(warnings(read(text), "routes.yaml", "shadow")) == []
