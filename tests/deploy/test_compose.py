"""docker-compose.yaml as it stands, with profile dev: what gets through the one door, and that there is no other."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpx
import jwt
import pytest
import yaml

from sidecar.config.routes.file import read_routes
from sidecar.demo.cognito import USERS
from tests.deploy.engine import PINS, Container, Engine
from tests.signing_in import forms
from tests.stack import ROOT, free_port, wait_for

LOGIN = "127.0.0.1:9230"
"""Where deploy/compose/dev.env has the hosted UI; the tests publish it elsewhere."""
PROJECT = "front-door-test"
"""Always the same: its images are made again from what is there."""
SEVERAL = Path("deploy/compose/several-apps.yaml")
SERVICES = ("app", "cerbos", "redis", "cognito", "sidecar", "cognito-relay")
PROBE = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor

def outcome(place):
    host, port = place.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError as error:
        return type(error).__name__
    return "connected"

print(*ThreadPoolExecutor().map(outcome, sys.argv[1:]))
"""
NOWHERE = ("TimeoutError", "OSError")


@dataclass(frozen=True)
class FrontDoor:
    """The services, running. `names` are those of their containers."""

    engine: Engine
    project: str
    url: str
    api: str
    login: str
    names: dict[str, str]
    up: Callable[..., None]
    """Starts the services of these compose files besides."""

    def container(self, service: str) -> Container:
        """The container of a service."""
        return Container(self.engine, self.names[service])

    def probe(self, service: str, *places: str) -> list[str]:
        """What comes of it where a service connects to each of these."""
        return self.container(service).run("python", "-c", PROBE, *places).stdout.split()

    def redis(self, *command: str) -> str:
        """What Redis answers."""
        return self.container("redis").run("redis-cli", *command).stdout.strip()

    def token(self, user: str) -> str:
        """An access token of a user of the local Cognito, by its public API."""
        password = next(one.password for one in USERS if one.name == user)
        client = re.search(
            r"^AWS_COGNITO_CLIENT_ID=(\S+)$", (ROOT / "deploy/compose/dev.env").read_text(), re.MULTILINE
        )
        assert client is not None
        answer = httpx.post(
            self.api,
            headers={
                "X-Amz-Target": "AWSCognitoIdentityProviderService.InitiateAuth",
                "Content-Type": "application/x-amz-json-1.1",
            },
            json={
                "ClientId": client[1],
                "AuthFlow": "USER_PASSWORD_AUTH",
                "AuthParameters": {"USERNAME": user, "PASSWORD": password},
            },
            trust_env=False,
        )
        return str(answer.json()["AuthenticationResult"]["AccessToken"])


def composer() -> list[str]:
    """The command of docker or podman compose."""
    if shutil.which("podman-compose"):
        return ["podman-compose"]
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    pytest.skip("neither podman-compose nor docker compose is here")


def with_stand_ins(engine: Engine) -> dict[str, Any]:
    """The services of docker-compose.yaml whose images this machine has under another name."""
    changed: dict[str, Any] = {}
    for name, service in yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"].items():
        image, built = service.get("image", ""), service.get("build")
        if engine.image(image) != image:
            changed[name] = {"image": engine.image(image)}
        if built is not None and PINS["PYTHON"] in engine.stand_ins:
            changed[name] = {"build": {**built, "args": {"PYTHON": engine.image(PINS["PYTHON"])}}}
    return changed


def names_of(engine: Engine, project: str) -> dict[str, str]:
    """The containers of a project, by their services."""
    label = '"com.docker.compose.service"'
    name = f"{{{{index .Labels {label}}}}}" if engine.is_podman else f"{{{{.Label {label}}}}}"
    said = engine.call("ps", "--all", of_project(project), f"--format={name} {{{{.Names}}}}")
    return dict(line.split() for line in said.stdout.splitlines())


def of_project(project: str) -> str:
    """The filter for what a project has."""
    return f"--filter=label=com.docker.compose.project={project}"


def remove(engine: Engine, project: str) -> None:
    """Remove all of a project at once: `down` asks each container to end, one after the other."""
    if engine.is_podman:
        engine.call("pod", "rm", "--force", "--ignore", "--time", "0", f"pod_{project}")
    if names := names_of(engine, project).values():
        engine.call("rm", "--force", "--volumes", *names)
    if networks := engine.call("network", "ls", of_project(project), "--format={{.Name}}").stdout.split():
        engine.call("network", "rm", *networks)


@dataclass(frozen=True)
class Compose:
    """What runs the project, with its files and settings."""

    command: list[str]
    environ: dict[str, str]
    stand_ins: list[Path]

    def run(self, *arguments: str, more: Sequence[Path] = ()) -> None:
        """Run a command, with `more` files."""
        files = [part for file in ("docker-compose.yaml", *more, *self.stand_ins) for part in ("-f", str(file))]
        base = [*self.command, *files, "-p", PROJECT, "--env-file", "deploy/compose/dev.env", "--profile", "dev"]
        done = subprocess.run(
            [*base, *arguments], cwd=ROOT, env=self.environ, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout[-3000:]}\n{done.stderr[-6000:]}"


@pytest.fixture(scope="module")
def compose(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Compose:
    environ = {
        **os.environ,
        "BUILDAH_FORMAT": "docker",
        "SIDECAR_CERBOS_TIMEOUT": "10s",  # what is tried here is who may, not how fast
        "SIDECAR_SESSION_SECRET": secrets.token_urlsafe(32),
        **{name: str(free_port()) for name in ("SIDECAR_PORT", "COGNITO_API_PORT", "COGNITO_LOGIN_PORT")},
    }
    override = tmp_path_factory.mktemp("compose") / "stand-ins.yaml"
    override.write_text(yaml.safe_dump({"services": with_stand_ins(engine)}))
    return Compose(composer(), environ, [override] if engine.stand_ins else [])


@pytest.fixture(scope="module")
def built(engine: Engine, sidecar_image: str, compose: Compose) -> Iterator[list[str]]:
    """Images of all services that are built here. Theirs and the sidecar's have a test of their own, so that each test
    has its time."""
    separator = "_" if compose.command == ["podman-compose"] else "-"
    app, redis, sidecar, wiki, files = (
        f"{PROJECT}{separator}{service}" for service in ("app", "redis", "sidecar", "wiki", "files")
    )
    compose.run("build", "app", "redis", "cognito")
    # the image that the other tests have built; and the further apps are of the same as the first
    for one, other in ((sidecar_image, sidecar), (app, wiki), (app, files)):
        engine.call("tag", one, other)
    yield [app, redis, "localhost/front-door-cognito"]
    engine.call("rmi", "--force", sidecar, check=False)


@pytest.fixture(scope="module")
def front_door(engine: Engine, built: list[str], compose: Compose) -> Iterator[FrontDoor]:
    names: dict[str, str] = {}

    def up(*more: Path) -> None:
        compose.run("up", "-d", "--no-build", more=more)
        names.update(names_of(engine, PROJECT))
        # each command of the engine takes from them the time that they start in
        wait_for(lambda: all(map(answers, (door.url, door.api, door.login))), 90)
        for container in map(door.container, names):
            container.wait_until(container.healthy, 60)

    ports = (compose.environ[name] for name in ("SIDECAR_PORT", "COGNITO_API_PORT", "COGNITO_LOGIN_PORT"))
    url, api, login = (f"http://127.0.0.1:{port}" for port in ports)
    door = FrontDoor(engine, PROJECT, url, api, login, names, up)
    # a run that was cut short may have left some
    remove(engine, PROJECT)
    try:
        up()
        yield door
    finally:
        remove(engine, PROJECT)


def answers(url: str) -> bool:
    """Whether somebody answers."""
    with contextlib.suppress(httpx.HTTPError):
        httpx.get(url, trust_env=False, timeout=5)
        return True
    return False


@pytest.mark.parametrize("images", ["sidecar_image", "built"])
def test_each_image_names_a_user_without_rights(engine: Engine, images: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(images)
    for image in [made] if isinstance(made, str) else made:
        assert engine.inspect(image)["Config"]["User"] == "65532:65532"


def test_the_door_lets_through_what_the_policy_allows_and_nothing_else(front_door: FrontDoor) -> None:
    tokens = {user: front_door.token(user) for user in ("alice", "admin")}
    cases: list[tuple[str, str, str, Any, int]] = [
        ("", "GET", "/contacts", None, 401),
        ("alice", "GET", "/contacts", None, 200),
        ("alice", "GET", "/contacts/1", None, 200),
        ("alice", "PATCH", "/contacts/1", {"phone": "1"}, 200),
        ("alice", "PATCH", "/contacts/2", {"phone": "1"}, 403),
        ("alice", "DELETE", "/contacts/2", None, 403),
        ("alice", "GET", "/contacts/99", None, 403),
        ("alice", "PROPFIND", "/contacts", None, 405),
        ("alice", "GET", "/db", None, 403),
        ("alice", "GET", "/contacts/..%2fdb", None, 400),
        ("admin", "DELETE", "/contacts/2", None, 200),
        ("admin", "GET", "/contacts/2", None, 403),
    ]
    with httpx.Client(base_url=front_door.url, trust_env=False) as client:
        for user, method, path, body, status in cases:
            headers = {"Authorization": f"Bearer {tokens[user]}"} if user else {}
            answer = client.request(method, path, headers=headers, json=body)
            assert answer.status_code == status, (user, method, path, answer.text)


def test_the_commands_of_the_guide_say_what_is_written_beside_them(front_door: FrontDoor) -> None:
    page = (ROOT / "docs/guides/compose.md").read_text()
    start, ask = re.findall(r"<!-- run by: tests/deploy/test_compose.py -->\n```sh\n(.*?)```", page, re.DOTALL)
    # what the fixture has run, but for the name of the project
    assert "compose --env-file deploy/compose/dev.env --profile dev up -d --build\n" in start
    text = ask.replace("http://127.0.0.1:8080", front_door.url).replace("http://127.0.0.1:9229", front_door.api)
    done = subprocess.run(["sh", "-eu", "-c", text], capture_output=True, text=True, timeout=60)
    expected = re.findall(r"# (\d{3}):", ask)
    assert len(expected) == 7
    assert done.stdout.split() == expected, done.stderr


def test_nobody_reaches_the_app_but_by_the_sidecar(front_door: FrontDoor) -> None:
    engine, project = front_door.engine, front_door.project
    networks = engine.inspect(front_door.container("app").name, "container")["NetworkSettings"]["Networks"]
    assert list(networks) == [f"{project}_app"]
    address = networks[f"{project}_app"]["IPAddress"]

    # that the probe can connect is shown from where it may
    assert front_door.probe("sidecar", "app:3000", f"{address}:3000") == ["connected"] * 2
    # the cognito service is on the network of all others
    reached, by_name, by_address = front_door.probe("cognito", "sidecar:8080", "app:3000", f"{address}:3000")
    assert (reached, by_name) == ("connected", "gaierror")
    assert by_address in NOWHERE
    # a container of somebody else on this machine
    image = engine.inspect(front_door.container("cognito").name, "container")["Image"]
    done = engine.call("run", "--rm", image, "python", "-c", PROBE, f"{address}:3000", check=False)
    assert done.stdout.strip() in NOWHERE


def test_the_app_reaches_neither_cerbos_nor_redis_nor_the_world(front_door: FrontDoor) -> None:
    places = ("cerbos:3593", "redis:6379", "cognito:9229", "192.0.2.1:443")
    *others, world = front_door.probe("app", *places)
    assert (others, world in NOWHERE) == (["gaierror"] * 3, True)


def test_only_the_sidecar_publishes_a_port_and_the_local_cognito_to_this_machine(front_door: FrontDoor) -> None:
    published = {}
    for service in SERVICES:
        bindings = front_door.engine.inspect(front_door.container(service).name, "container")["HostConfig"][
            "PortBindings"
        ]
        # an image's own ports are named too, with nobody to reach them
        published[service] = {port: {one["HostIp"] for one in hosts} for port, hosts in bindings.items() if hosts}
    here = {"127.0.0.1"}
    assert {name: ports for name, ports in published.items() if ports} == {
        "sidecar": {"8080/tcp": here},
        "cognito": {"9229/tcp": here, "19230/tcp": here},
    }


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "cerbos"])
def test_each_runs_without_rights_on_a_file_system_that_it_cannot_write(front_door: FrontDoor, service: str) -> None:
    container = front_door.container(service)
    said = container.run("sh", "-c", "cat /proc/1/status; touch /new 2>&1", check=False)
    status = dict(re.findall(r"^(\w+):\s+(\S+)", said.stdout, re.MULTILINE))
    assert (status["Uid"], status["NoNewPrivs"], int(status["CapBnd"], 16)) == ("65532", "1", 0)
    assert "Read-only file system" in said.stdout
    assert said.returncode != 0


def test_cerbos_has_no_rights_either(front_door: FrontDoor) -> None:
    """Its image has no shell to ask."""
    known = front_door.engine.inspect(front_door.container("cerbos").name, "container")
    assert known["Config"]["User"] == "65532:65532"
    assert known["HostConfig"]["ReadonlyRootfs"] is True
    assert not known.get("EffectiveCaps")
    assert any("no-new-privileges" in option for option in known["HostConfig"]["SecurityOpt"])


@dataclass
class Person:
    """A browser: keeps the cookies of each place, and follows redirects."""

    door: FrontDoor
    cookies: dict[str, dict[str, str]] = field(default_factory=dict)

    def send(self, method: str, url: str, form: dict[str, str] | None = None) -> httpx.Response:
        """The last answer of a navigation, whose `url` is as the browser shows it."""
        while True:
            place = urlsplit(url).netloc
            jar = self.cookies.setdefault(place, {})
            headers = {"accept": "text/html", "cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
            if method == "POST":
                headers |= {"origin": f"http://{place}", "sec-fetch-site": "same-origin"}
            # every name below localhost is this machine to a browser
            asked = re.sub(r"//\w+\.localhost:", "//127.0.0.1:", url.replace(f"http://{LOGIN}", self.door.login))
            with httpx.Client(trust_env=False, timeout=20) as client:
                answer = client.request(method, asked, data=form, headers={**headers, "host": place})
            for name, value in answer.headers.multi_items():
                if name == "set-cookie":
                    key, _, content = value.partition(";")[0].partition("=")
                    jar[key] = content
                    if "max-age=0" in value.lower():
                        del jar[key]
            if answer.status_code not in (302, 303):
                return answer
            method, form, url = "GET", None, urljoin(url, answer.headers["location"])

    def sign_in(self, page: httpx.Response) -> httpx.Response:
        """Fill in the form of the sign-in page as alice."""
        form = forms(page)[0]
        action = form.action.replace(self.door.login, f"http://{LOGIN}")
        return self.send("POST", action, {**form.fields, "username": "alice", "password": "Alice-1234"})


def test_a_person_signs_in_and_the_session_is_in_redis(front_door: FrontDoor) -> None:
    assert front_door.redis("dbsize") == "0"
    person = Person(front_door)
    answer = person.sign_in(person.send("GET", f"{front_door.url}/contacts/1"))
    assert (answer.status_code, answer.json()["owner_id"]) == (200, "alice")
    assert int(front_door.redis("dbsize")) >= 1
    again = person.send("GET", f"{front_door.url}/_sidecar/whoami")
    assert again.status_code == 200
    # the cookie is a key to what Redis has: without that, and with no session at Cognito either, nobody is signed in
    front_door.redis("flushall")
    del person.cookies[LOGIN]
    assert forms(person.send("GET", f"{front_door.url}/contacts/1")) != []


def test_a_session_needs_redis_and_a_bearer_token_does_not(front_door: FrontDoor) -> None:
    engine, redis = front_door.engine, front_door.container("redis").name
    token = front_door.token("alice")
    engine.call("pause", redis)
    try:
        answer = httpx.get(
            f"{front_door.url}/contacts/1", headers={"Authorization": f"Bearer {token}"}, trust_env=False
        )
        assert answer.status_code == 200
    finally:
        engine.call("unpause", redis)


def test_sigterm_ends_the_door_in_order(front_door: FrontDoor) -> None:
    """The last test of the one app: what follows is the same front door of several."""
    door = front_door.container("sidecar")
    began = time.monotonic()
    front_door.engine.call("stop", "--time", "20", door.name)
    assert time.monotonic() - began < 20
    assert door.state["ExitCode"] == 0


# --- several apps ---


@dataclass(frozen=True)
class Several:
    """The front door of several apps. `routes` is a copy of the example's file, which it reads."""

    door: FrontDoor
    routes: Path

    def get(self, host: str, path: str, token: str = "", **headers: str) -> httpx.Response:
        """Ask for a path at a host."""
        place = f"{host}:{self.door.url.rpartition(':')[2]}"
        bearer = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.get(f"{self.door.url}{path}", headers={"host": place, **bearer, **headers}, trust_env=False)

    def url(self, host: str) -> str:
        """The front door at a host, as a browser has it."""
        return f"http://{host}:{self.door.url.rpartition(':')[2]}"


@pytest.fixture(scope="module")
def several(front_door: FrontDoor, tmp_path_factory: pytest.TempPathFactory) -> Several:
    """The same project, started once more with the file that adds apps: what it does not change runs on."""
    folder = tmp_path_factory.mktemp("several")
    routes, override = folder / "routes.yaml", folder / "routes-copy.yaml"
    routes.write_text((ROOT / "deploy/compose/several-apps.routes.yaml").read_text())
    routes.chmod(0o644)
    volume = f"{routes}:/etc/sidecar/several-apps.yaml:ro"
    override.write_text(yaml.safe_dump({"services": {"sidecar": {"volumes": [volume]}}}))
    front_door.up(SEVERAL, override)
    return Several(front_door, routes)


def test_the_guide_says_how_it_was_started() -> None:
    page = (ROOT / "docs/guides/several-apps.md").read_text()
    (command,) = re.findall(r"<!-- run by: tests/deploy/test_compose.py -->\n```sh\n(.*?)\n```", page, re.DOTALL)
    files = f"-f docker-compose.yaml -f {SEVERAL}"
    assert command == f"docker compose --env-file deploy/compose/dev.env --profile dev {files} up -d --build"


def test_three_apps_are_told_apart_by_host_and_by_path(several: Several) -> None:
    token = several.door.token("alice")
    for host, path, status, shown in (
        ("crm.localhost", "/contacts", 200, "Ada"),
        ("wiki.localhost", "/pages/home", 200, "The wiki"),
        ("crm.localhost", "/files/plan.txt", 200, "A file"),
        ("wiki.localhost", "/files/plan.txt", 200, "A file"),
        ("wiki.localhost", "/contacts", 403, "route_unmapped"),
        ("crm.localhost", "/pages/home", 403, "route_unmapped"),
        ("other.localhost", "/files/plan.txt", 421, "host_not_allowed"),
        ("127.0.0.1", "/_sidecar/whoami", 421, "host_not_allowed"),
    ):
        answer = several.get(host, path, token)
        assert (answer.status_code, shown in answer.text) == (status, True), (host, path, answer.text)
        assert several.get(host, path).status_code == (401 if status == 200 else status)


def test_each_app_is_reached_by_the_sidecar_alone(several: Several) -> None:
    assert several.door.probe("sidecar", "app:3000", "wiki:3000", "files:3000") == ["connected"] * 3
    assert several.door.probe("wiki", "app:3000", "files:3000", "cerbos:3593") == ["gaierror"] * 3
    assert several.door.probe("cognito", "wiki:3000", "files:3000") == ["gaierror"] * 2


def test_a_person_signs_in_once_and_has_a_session_at_each_host(several: Several) -> None:
    person = Person(several.door)
    crm, wiki = several.url("crm.localhost"), several.url("wiki.localhost")
    answer = person.sign_in(person.send("GET", f"{crm}/contacts"))
    assert (answer.status_code, answer.url.path) == (200, "/contacts")
    # the pool remembers who it is, and asks nothing: there and back by this host's own URLs
    answer = person.send("GET", f"{wiki}/pages/home")
    assert (answer.status_code, answer.json()["text"]) == (200, "The wiki")
    jars = [person.cookies[url.removeprefix("http://")] for url in (crm, wiki)]
    assert jars[0]["__Host-session"] != jars[1]["__Host-session"]
    for jar, own, other in ((jars[0], "crm", "wiki"), (jars[1], "wiki", "crm")):
        cookie = f"__Host-session={jar['__Host-session']}"
        for host, status in ((own, 200), (other, 401)):
            assert several.get(f"{host}.localhost", "/files/plan.txt", cookie=cookie).status_code == status
    # each host has a sign-in of its own, which comes back to it
    for url in (crm, wiki):
        page = httpx.get(
            f"{several.door.url}/_sidecar/login", headers={"host": url.removeprefix("http://")}, trust_env=False
        )
        assert f"redirect_uri={quote(f'{url}/_sidecar/callback', safe='')}" in page.headers["location"]


def test_tokens_of_a_pool_are_good_at_its_hosts_alone(several: Several) -> None:
    token = several.door.token("alice")
    said = jwt.decode(token, options={"verify_signature": False})
    pool = said["iss"].rpartition("/")[2]
    identity = {"issuer": said["iss"], "jwks_url": f"http://127.0.0.1:9229/{pool}/.well-known/jwks.json"}
    identity |= {"client_ids": [said["client_id"]], "hosts": ["wiki.localhost"]}
    with several.routes.open("a") as file:
        file.write(yaml.safe_dump({"identity": [identity]}))
    sidecar = several.door.container("sidecar")
    sidecar.wait_until(lambda: several.get("crm.localhost", "/files/plan.txt", token).status_code == 401)
    assert several.get("wiki.localhost", "/files/plan.txt", token).status_code == 200


# --- the files ---


def test_it_does_not_start_without_a_secret_of_ones_own() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SIDECAR_", "AWS_"))}
    command = [*composer(), "--env-file", "deploy/compose/dev.env", "config"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "openssl rand -base64 32" in done.stdout + done.stderr


def test_an_app_and_a_redis_of_ones_own_are_one_line_each() -> None:
    text = (ROOT / "docker-compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    app, redis = (
        re.sub(rf"(?m)^    build: .*{name}.*$", f"    image: {image}", text)
        for name, image in (("deploy/compose/app", "your/app"), ("deploy/compose/redis", "redis:7-alpine"))
    )
    for service, image, changed in (("app", "your/app", app), ("redis", "redis:7-alpine", redis)):
        after = yaml.safe_load(changed)["services"]
        assert sum(old != new for old, new in zip(text.splitlines(), changed.splitlines(), strict=True)) == 1
        expected = {name: value for name, value in services[service].items() if name != "build"} | {"image": image}
        assert after == {**services, service: expected}
        # nothing of it is told of the app that was there before
        assert "node" not in str(after[service])


def test_each_of_several_apps_is_in_a_network_that_only_the_sidecar_shares() -> None:
    folder = ROOT / "deploy/compose"
    whole = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    more = yaml.safe_load((folder / "several-apps.yaml").read_text())
    routes = read_routes((folder / "several-apps.routes.yaml").read_text(), "routes.yaml", {})
    sidecar = {**whole["services"]["sidecar"], **more["services"]["sidecar"]}
    networks = [*whole["services"]["sidecar"]["networks"], *more["services"]["sidecar"]["networks"]]
    services = {**whole["services"], **more["services"]}
    for app in routes.table.upstreams:
        name, port = app.url.removeprefix("http://").split(":")
        (network,) = services[name]["networks"]
        assert port == "3000"
        assert network in networks
        assert {**whole["networks"], **more["networks"]}[network] == {"internal": True}
        assert [other for other, one in services.items() if network in one.get("networks", [])] in (
            ["sidecar", name], [name],
        )  # fmt: skip
        assert services[name]["read_only"] is True
    # without an app of the settings, each route has to name its own
    assert sidecar["environment"]["SIDECAR_UPSTREAM"] == ""
    assert all(route.upstream is not None for route in routes.table.routes)
    (volume,) = more["services"]["sidecar"]["volumes"]
    source, target, _ = volume.split(":")
    assert (ROOT / source, target) == (folder / "several-apps.routes.yaml", sidecar["environment"]["SIDECAR_ROUTES"])
    assert routes.table.hosts == {"crm.localhost", "wiki.localhost"}
