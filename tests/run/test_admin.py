"""The admin port's app."""

import httpx

from sidecar.record.metrics import Metrics
from sidecar.run.admin import admin_app


class Told:
    def __init__(self, ready: bool, reload: str) -> None:
        self._ready = ready
        self._reload = reload

    def readiness(self) -> dict[str, bool]:
        return {"cerbos": self._ready, "keys": True}

    def remarks(self) -> dict[str, str]:
        return {"reload": self._reload}

    def config(self) -> dict[str, int]:
        return {"generation": 3}


def client(ready: bool = True, reload: str = "ok") -> httpx.AsyncClient:
    metrics = Metrics()
    metrics.reloaded("ok")
    app = admin_app(Told(ready, reload), metrics.of_all)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin")


async def test_liveness_needs_nothing() -> None:
    async with client(ready=False) as http:
        assert (await http.get("/livez")).status_code == 200


async def test_readiness_names_what_is_not_ready() -> None:
    async with client() as http:
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()) == (
            200,
            {"ready": True, "cerbos": True, "keys": True, "reload": "ok"},
        )
    async with client(ready=False) as http:
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()) == (
            503,
            {"ready": False, "cerbos": False, "keys": True, "reload": "ok"},
        )


async def test_a_reload_that_failed_is_told_and_leaves_it_ready() -> None:
    async with client(reload="failed: routes.yaml:2:9") as http:
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["reload"]) == (200, "failed: routes.yaml:2:9")


async def test_metrics_and_config_are_shown() -> None:
    async with client() as http:
        shown = await http.get("/metrics")
        assert 'sidecar_config_reloads_total{outcome="ok"} 1.0' in shown.text
        assert shown.headers["content-type"].startswith("text/plain; version=")
        assert (await http.get("/config")).json() == {"generation": 3}


async def test_health_is_an_exact_path_and_method() -> None:
    async with client() as http:
        assert (await http.get("/livez/")).status_code == 404
        assert (await http.post("/livez")).status_code == 405
        assert (await http.get("/contacts")).status_code == 404
