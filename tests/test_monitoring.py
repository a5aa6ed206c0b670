"""deploy/monitoring: every expression of the dashboard and of the alerts finds what the real sidecar shows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.record.metrics import FAMILIES
from sidecar.tether import tethered
from tests.conftest import Stack
from tests.stack import ROOT, free_port, raw_reply, wait_for

FOLDER = ROOT / "deploy" / "monitoring"
GUIDE = ROOT / "docs" / "guides" / "operate.md"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="apt-get install prometheus: the real one reads our rules"
)


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return loaded


def panels() -> dict[str, str]:
    """Panel and number of its query -> expression, its variables filled in."""
    found = {
        f"{panel['title']} {at}": target["expr"]
        for panel in dashboard()["panels"]
        for at, target in enumerate(panel["targets"])
    }
    found["reloads"] = dashboard()["annotations"]["list"][0]["expr"]
    return {name: text.replace("$instance", ".*").replace("$__rate_interval", "1m") for name, text in found.items()}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def names(expression: str) -> set[str]:
    return set(re.findall(r"\bsidecar_\w+", expression))


LIST = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 47\r\n\r\n"
    b'[{"id": 2, "owner_id": "bob", "phone": "1234"}]'
)
SHOWN = {
    f"{name}{suffix}"
    for name, family in FAMILIES.items()
    for suffix in {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[family.kind]
}


def test_every_metric_that_is_named_is_one_and_every_one_is_shown() -> None:
    expressions = [*panels().values(), *(rule["expr"] for rule in rules())]
    used = set().union(*map(names, expressions))
    assert used <= SHOWN
    assert {name for name in FAMILIES if not any(one.startswith(name) for one in used)} == set()


def test_every_alert_says_what_is_to_be_done_and_is_tested() -> None:
    guide, tests = GUIDE.read_text(), (FOLDER / "alerts_test.yaml").read_text()
    for rule in rules():
        heading, alert = rule["annotations"]["runbook"].rpartition("#")[::2]
        assert heading == "docs/guides/operate.md"
        assert alert == rule["alert"].lower()
        assert f"### {rule['alert']}\n" in guide
        assert f"alertname: {rule['alert']}}}" in tests
        assert f'alertname="{rule["alert"]}"' in tests


def test_the_dashboards_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


@needs_prometheus
def test_the_rules_are_ones_and_fire_when_they_should() -> None:
    for command in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        done = subprocess.run([str(PROMTOOL), *command], cwd=FOLDER, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


class Prometheus:
    """The real one, by its HTTP API."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self._base}/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            said = json.loads(answer.read())
        assert said["status"] == "success", said
        return said["data"]

    def result(self, expression: str) -> list[Any]:
        found: list[Any] = self.get("query", query=expression)["result"]
        return found

    def is_up(self) -> bool:
        """It takes five seconds from its start to its first scrape."""
        time.sleep(0.2)
        try:
            return bool(self.result('up{job="sidecar"} == 1'))
        except OSError:
            return False


@pytest.fixture
def prometheus(stack: Stack, tmp_path: Path) -> Iterator[Prometheus]:
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(FOLDER / "alerts.yaml")],
        "scrape_configs": [
            {"job_name": "sidecar", "static_configs": [{"targets": [f"127.0.0.1:{stack.sidecar.admin_port}"]}]}
        ],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    port = free_port()
    command = [
        str(PROMETHEUS), f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    with subprocess.Popen(tethered(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        made = Prometheus(port)
        try:
            wait_for(made.is_up, 60, "a scrape")
            yield made
        finally:
            process.terminate()


@needs_prometheus
def test_every_expression_finds_what_a_real_scrape_brings(stack: Stack, prometheus: Prometheus) -> None:
    def some_of_everything() -> None:
        token = stack.tokens["alice"]
        assert stack.sidecar.get("/contacts/1", token).status == 200
        assert stack.sidecar.request("PUT", "/contacts/2", token).status == 403
        assert stack.sidecar.get("/contacts/500", token).status == 503
        stack.upstream.reset(raw_reply(LIST))
        assert stack.sidecar.get("/list", token).body == b'[{"id": 2, "owner_id": "bob"}]'
        stack.upstream.reset(raw_reply(b"nonsense\r\n\r\n"))
        assert stack.sidecar.get("/public").status == 502
        stack.upstream.reset()

    stack.hook.json("/contacts/500", {}, 500)
    waiting = panels()
    # a reload is what the annotation shows, and none has happened
    del waiting["reloads"]

    def all_found() -> bool:
        some_of_everything()
        # a rate takes two scrapes
        time.sleep(0.5)
        for name in [name for name, expression in waiting.items() if prometheus.result(expression)]:
            del waiting[name]
        return not waiting

    wait_for(all_found, 60, f"data for {waiting}")
    assert prometheus.result(panels()["reloads"]) == []
    known = set(prometheus.get("label/__name__/values"))
    for rule in rules():
        assert names(rule["expr"]) <= known
        prometheus.result(rule["expr"])
    (group,) = prometheus.get("rules")["groups"]
    assert {rule["name"] for rule in group["rules"]} == {rule["alert"] for rule in rules()}
    wait_for(lambda: {r["health"] for r in prometheus.get("rules")["groups"][0]["rules"]} == {"ok"}, what="evaluated")
