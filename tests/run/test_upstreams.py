"""Connections to the apps, as the settings and the route file say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.config.routes.file import RoutesFile, read_routes
from sidecar.config.settings import read_settings
from sidecar.gate.codes import Ground
from sidecar.gate.verdict import Destination, Facts
from sidecar.net.connection import Fault
from sidecar.net.upstream import UpstreamState
from sidecar.record.reasons import Reason
from sidecar.run.errors import StartError
from sidecar.run.upstreams import make_named, upstream
from tests.permits import Permit
from tests.stack import Recorder

APPS = """\
version: 1
upstreams:
  crm: {{url: "http://127.0.0.1:{port}", connect_timeout: 1s}}
  wiki: {wiki}
routes:
  - {{path: /a, access: public, upstream: crm}}
  - {{path: /b, access: public, upstream: wiki}}
"""


def routes(port: int, wiki: str = '"http://127.0.0.1:1"') -> RoutesFile:
    return read_routes(APPS.format(port=port, wiki=wiki), "routes.yaml", {})


def permit(named: Destination | None) -> Permit:
    return Permit(b"GET", b"/", ((b"host", b"x"),), Ground.PUBLIC, Facts("id", "GET", "/"), upstream=named)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of an app that answers."""
    app = Recorder()
    yield app.port
    app.close()


async def test_a_permit_leads_to_its_app_and_to_none_that_nobody_has(port: int) -> None:
    named = routes(port)
    app = upstream(read_settings({}, {}))
    assert make_named(app, named)() == ()
    crm, wiki = named.table.upstreams
    response = await app.send(permit(crm), None)
    assert response.status == 200
    await response.read()
    response.close()
    assert [each.name for each in app.states()] == ["crm", "wiki"]
    for lost in (None, Destination("crm", "http://127.0.0.1:1"), crm._replace(ca="/x")):
        with pytest.raises(Fault) as caught:
            await app.send(permit(lost), None)
        assert caught.value.reason is Reason.DESTINATION_NOT_FOUND
        assert "127.0.0.1" in app.place(permit(lost)) or app.place(permit(lost)) == "SIDECAR_UPSTREAM: not set"
    # what stays is not made anew, and who has a permit to what goes may still use it
    (gone,) = make_named(app, read_routes(APPS.format(port=1, wiki='"http://127.0.0.1:1"'), "routes.yaml", {}))()
    assert gone == crm
    assert app.made(wiki) is app.made(wiki)
    assert (await app.send(permit(crm), None)).status == 200
    retiring = asyncio.create_task(app.retire([gone]))
    await asyncio.sleep(0)
    with pytest.raises(Fault):
        await app.send(permit(crm), None)
    assert not retiring.done()
    await app.aclose()
    retiring.cancel()


async def test_connections_of_an_app_that_is_gone_end_when_nobody_uses_them(port: int) -> None:
    named = routes(port)
    app = upstream(read_settings({"SIDECAR_UPSTREAM": "http://127.0.0.1:1"}, {}))
    make_named(app, named)()
    response = await app.send(permit(named.table.upstreams[0]), None)
    assert next(app.states()) == UpstreamState("", 0, 0, False)
    gone = app.put_in_force({})
    retiring = asyncio.create_task(app.retire(gone))
    await asyncio.sleep(0)
    assert not retiring.done()
    await response.read()
    response.close()
    await asyncio.wait_for(retiring, 20)
    await app.aclose()


async def test_cases_ask_one_app_in_place_of_all(port: int) -> None:
    app = upstream(read_settings({}, {}))
    url = f"http://127.0.0.1:{port}"
    # no file of the real ones is looked for
    named = routes(1, '{url: "https://wiki", ca: /nowhere.pem}')
    make_named(app, named, url)()
    for each in named.table.upstreams:
        assert (await app.send(permit(each), None)).status == 200
    await app.aclose()


@pytest.mark.parametrize(
    ("wiki", "told"),
    [
        ('{{url: "https://w", ca: {no}}}', "routes.yaml: upstreams.wiki.ca: expected a PEM file of CAs: "),
        (
            '{{url: "https://w", certificate: {no}, key: {no}}}',
            "routes.yaml: upstreams.wiki.certificate, routes.yaml: upstreams.wiki.key: expected PEM files of a certificate",
        ),
        ('"http://w:0"', "routes.yaml: upstreams.wiki.url: found 'http://w:0', expected http(s)://host:port"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_told_with_its_name(tmp_path: Path, wiki: str, told: str) -> None:
    (tmp_path / "no.pem").write_text("none")
    found = routes(1, wiki.format(no=tmp_path / "no.pem"))
    with pytest.raises(StartError) as caught:
        make_named(upstream(read_settings({}, {})), found)
    (problem,) = caught.value.problems
    assert problem.startswith(told)
