"""`examples/dynamodb` as it stands: boto3 in the function, moto as DynamoDB, and a real Cerbos."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.conftest import Stack
from tests.stack import ROOT, Sidecar, free_port, reply, running_sidecar

FOLDER = ROOT / "examples/dynamodb"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@pytest.fixture
def table(stack: Stack) -> Iterator[dict[str, str]]:
    """A table of orders in moto; the variables that name it."""
    environ = {
        **CREDENTIALS, "ORDERS_TABLE": "orders-of-acme", "PYTHONPATH": str(FOLDER),
        "AWS_ENDPOINT_URL_DYNAMODB": stack.environ["AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER"],
    }  # fmt: skip
    client: Any = boto3.client(
        "dynamodb", region_name=stack.environ["AWS_REGION"], endpoint_url=environ["AWS_ENDPOINT_URL_DYNAMODB"],
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    client.create_table(
        TableName="orders-of-acme", BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )  # fmt: skip
    for item in (
        {"id": {"S": "1"}, "owner_id": {"S": "alice"}, "readers": {"SS": ["bob"]}},
        {"id": {"S": "2"}, "owner_id": {"S": "bob"}},
    ):
        client.put_item(TableName="orders-of-acme", Item=item)
    yield environ
    client.delete_table(TableName="orders-of-acme")


def running(stack: Stack, folder: Path, environ: dict[str, str]) -> Any:
    routes = (FOLDER / "routes.yaml").read_text(encoding="utf-8")
    app = f"http://127.0.0.1:{stack.upstream.port}"
    return running_sidecar(folder, routes, FOLDER / "policies", app, {**stack.environ, **environ}, shared=True)


def outcome(sidecar: Sidecar, method: str, path: str, token: str) -> int | str:
    got = sidecar.request(method, path, token)
    return got.status if got.status == 200 else got.code


def test_the_table_says_whose_an_order_is(stack: Stack, table: dict[str, str], tmp_path: Path) -> None:
    alice, bob = stack.tokens["alice"], stack.tokens["bob"]
    with running(stack, tmp_path, table) as sidecar:
        assert outcome(sidecar, "GET", "/orders/1", alice) == 200
        assert outcome(sidecar, "DELETE", "/orders/1", alice) == 200
        assert outcome(sidecar, "GET", "/orders/1", bob) == 200
        assert outcome(sidecar, "DELETE", "/orders/1", bob) == "denied_by_policy"
        assert outcome(sidecar, "GET", "/orders/2", alice) == "denied_by_policy"
        assert outcome(sidecar, "GET", "/orders/3", alice) == "denied_by_policy"
        codes = [line["code"] for line in sidecar.decisions()]
        assert codes[-3:] == ["denied_by_policy", "denied_by_policy", "resource_missing"]


def test_a_list_is_looked_up_in_one_call(stack: Stack, table: dict[str, str], tmp_path: Path) -> None:
    items = [{"id": "2"}, {"id": "1"}, {"id": "3"}]
    stack.upstream.answer = reply(200, json.dumps({"orders": items}).encode(), "Content-Type: application/json")
    with running(stack, tmp_path, table) as sidecar:
        for user, kept in (("alice", items[1:2]), ("bob", items[:2])):
            got = sidecar.get("/orders", stack.tokens[user])
            assert (got.status, json.loads(got.body)) == (200, {"orders": kept})
        alone = [outcome(sidecar, "GET", f"/orders/{number}", stack.tokens["bob"]) for number in (1, 2, 3)]
        assert alone == [200, 200, "denied_by_policy"]


def test_a_table_that_is_away_is_a_lookup_that_is(stack: Stack, table: dict[str, str], tmp_path: Path) -> None:
    nowhere = {**table, "AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{free_port()}"}
    with running(stack, tmp_path, nowhere) as sidecar:
        assert outcome(sidecar, "GET", "/orders/1", stack.tokens["alice"]) == "lookup_unavailable"
        line = sidecar.decisions()[-1]
        assert "EndpointConnectionError in acme_authz.py:" in line["detail"]
