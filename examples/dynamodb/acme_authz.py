"""Whose an order is, by DynamoDB: the function that `routes.yaml` beside it names."""

from __future__ import annotations

import os
from typing import Any

import boto3
from botocore.config import Config

from sidecar.api import BatchLookupRequest, LookupRequest

TABLE = os.environ.get("ORDERS_TABLE", "orders")
# made once, since making one takes a tenth of a second; a client, unlike a session, may be used by several threads. Its
# time-outs are shorter than the lookup's: a thread that waits for AWS keeps its place
_CLIENT = boto3.client(
    "dynamodb",
    region_name=os.environ["AWS_REGION"],
    config=Config(
        connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1}, max_pool_connections=32
    ),
)  # fmt: skip


_READ = {"ConsistentRead": True, "ProjectionExpression": "id, owner_id, readers"}


def order(request: LookupRequest) -> dict[str, Any] | None:
    """The owner and the readers of an order; None where there is none."""
    found = _CLIENT.get_item(TableName=TABLE, Key={"id": {"S": request.id}}, **_READ)
    return _document(found["Item"]) if "Item" in found else None


def orders(request: BatchLookupRequest) -> list[dict[str, Any]]:
    """The same of many: up to 100, as `batch: true` asks for and DynamoDB takes."""
    keys = [{"id": {"S": one}} for one in request.ids]
    found = _CLIENT.batch_get_item(RequestItems={TABLE: {"Keys": keys, **_READ}})
    if found["UnprocessedKeys"]:
        # they are not missing: nobody knows what they are like, and so the list is refused
        raise RuntimeError("DynamoDB has left out keys")
    return [_document(item) for item in found["Responses"][TABLE]]


def _document(item: dict[str, Any]) -> dict[str, Any]:
    # DynamoDB writes {"S": "alice"}; a number is a text there, and a Decimal in the resources of boto3
    readers = item["readers"]["SS"] if "readers" in item else []
    return {"id": item["id"]["S"], "owner_id": item["owner_id"]["S"], "readers": sorted(readers)}
