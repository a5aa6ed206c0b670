"""deploy/aws/cognito.yaml is what AWS takes, and the commands of docs/cognito.md make a pool that the sidecar works with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from sidecar.config.settings import read_settings
from sidecar.demo.processes import Process, status_of
from tests.deploy.aws import Account
from tests.stack import ROOT, Recorder, free_port, running_sidecar
from tests.tokens import SESSION_SECRET

TEMPLATE = ROOT / "deploy/aws/cognito.yaml"
PAGE = (ROOT / "docs/cognito.md").read_text()
ROUTES = """
version: 1
principal: {id: username, roles: "cognito:groups"}
routes:
  - {path: /contacts, resource: contact, actions: {GET: list}}
"""
Shell = Callable[..., subprocess.CompletedProcess[str]]


BLOCKS = re.findall(r"<!-- run by: tests/deploy/test_cognito.py -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
*MAKE, TOKEN = BLOCKS
"""The page's commands: those that make a pool and a user, in order, and the one that gets a token."""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a Cognito and a CloudFormation are."""
    folder, port = tmp_path_factory.mktemp("moto"), free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    environ |= {"PYTHONPATH": str(ROOT), "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    server = [sys.executable, "-m", "tests.deploy.cloudformation", str(port)]
    with Process.start("moto", server, folder, environ, lambda: status_of(port, "/moto-api/data.json") == 200):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def account(endpoint: str) -> Iterator[Account]:
    account = Account(endpoint, "eu-west-1")
    yield account
    for service in ("cognito-idp", "cloudformation"):
        account.client(service).close()


@pytest.fixture(scope="module")
def path(account: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PATH with `aws`."""
    folder = tmp_path_factory.mktemp("aws")
    with account.command(folder):
        yield f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def shell(path: str, tmp_path: Path) -> Shell:
    """Runs commands in a folder with the project's `deploy`."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")

    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SIDECAR_"))}

    def run(text: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["sh", "-eu", "-c", text],
            cwd=tmp_path,
            env={**environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


def settings_in(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def test_it_is_what_aws_takes() -> None:
    """By AWS's schemas of its resources. A remark (I...) is no fault."""
    from cfnlint.api import lint  # here: it takes a second, in which another process runs other tests

    def faults(text: str) -> list[str]:
        return [str(match) for match in lint(text, regions=["eu-west-1"]) if not match.rule.id.startswith("I")]

    assert faults(TEMPLATE.read_text()) == []
    broken = TEMPLATE.read_text().replace("AllowedOAuthFlows: [code]", "AllowedOAuthFlows: [password]")
    assert any("password" in fault for fault in faults(broken))


def test_the_commands_of_the_page_make_a_pool_and_its_settings(shell: Shell, account: Account, tmp_path: Path) -> None:
    assert len(MAKE) == 4
    shell("\n".join(MAKE))
    file = tmp_path / "sidecar.env"
    assert file.stat().st_mode & 0o077 == 0
    found = settings_in(file)
    settings = read_settings({"SIDECAR_UPSTREAM": "http://127.0.0.1:1", **found}, {})
    assert settings.login_modes == {"hosted"}
    assert settings.callback == "https://contacts.example.com/_sidecar/callback"
    assert settings.logout_urls == ("https://contacts.example.com/",)
    assert (settings.domain, settings.region) == ("contacts-7f3a", "eu-west-1")
    api = account.client("cognito-idp")
    pool, client_id = found["AWS_COGNITO_POOL_ID"], found["AWS_COGNITO_CLIENT_ID"]
    client = api.describe_user_pool_client(UserPoolId=pool, ClientId=client_id)["UserPoolClient"]
    assert settings.client_secrets == (client["ClientSecret"],)
    assert client["AllowedOAuthScopes"] == [*settings.scopes, "email"]
    assert "aws.cognito.signin.user.admin" in settings.scopes
    assert client["CallbackURLs"] == [settings.callback]
    assert client["LogoutURLs"] == list(settings.logout_urls)
    assert client["AllowedOAuthFlows"] == ["code"]
    assert client["ExplicitAuthFlows"] == ["ALLOW_REFRESH_TOKEN_AUTH", "ALLOW_USER_SRP_AUTH"]
    assert {group["GroupName"] for group in api.list_groups(UserPoolId=pool)["Groups"]} == {"admin", "user"}
    assert api.describe_user_pool_domain(Domain="contacts-7f3a")["DomainDescription"]["UserPoolId"] == pool
    made = api.describe_user_pool(UserPoolId=pool)["UserPool"]
    assert made["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"] is True


def test_each_output_is_a_setting(shell: Shell, tmp_path: Path) -> None:
    parameters = (
        "ParameterKey=DomainPrefix,ParameterValue=outputs ParameterKey=AppUrl,ParameterValue=http://localhost:8080"
    )
    shell(
        f"aws cloudformation create-stack --stack-name outputs --template-body file://{TEMPLATE} --parameters {parameters}"
    )
    done = shell(
        "aws cloudformation describe-stacks --stack-name outputs --query 'Stacks[0].Outputs[].[OutputKey,OutputValue][]'"
    )
    words = done.stdout.rstrip("\n").split("\t")
    outputs = dict(zip(words[::2], words[1::2], strict=True))
    text = outputs.pop("Environment")
    named = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper(): value for name, value in outputs.items()}
    assert named == dict(line.split("=", 1) for line in text.splitlines())
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["sidecar"]["environment"]
    assert named.keys() <= compose.keys()
    with_secret = {**named, "SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_SESSION_SECRET": SESSION_SECRET}
    assert read_settings(with_secret, {}).login_modes == {"hosted"}


def test_a_user_of_the_pool_passes_the_sidecar(shell: Shell, endpoint: str, tmp_path: Path) -> None:
    """With a public client, by the page's own commands."""
    more = "ParameterKey=ClientType,ParameterValue=public ParameterKey=PasswordSignIn,ParameterValue=yes"
    text = "\n".join(MAKE).replace("contacts-login", "scripts").replace("contacts-7f3a", f"scripts {more}")
    token = shell(f"{text}\n{TOKEN}").stdout.split()[-1]
    found = settings_in(tmp_path / "sidecar.env")
    assert found["AWS_COGNITO_CLIENT_SECRET"] == "None"
    del found["AWS_COGNITO_CLIENT_SECRET"]
    environ = {**found, "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": endpoint}
    upstream = Recorder()
    with running_sidecar(
        tmp_path, ROUTES, ROOT / "policies", f"http://127.0.0.1:{upstream.port}", environ, shared=True
    ) as sidecar:
        assert sidecar.get("/contacts").status == 401
        assert sidecar.get("/contacts", token).status == 200
    assert upstream.seen[-1].values("x-auth-roles") == ["user"]
    upstream.close()
