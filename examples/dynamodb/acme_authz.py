"""Whose an order is, by DynamoDB: the function that `routes.yaml` beside it names."""

from __future__ import annotations

import os
from typing import Any

import boto3
from botocore.config import Config

from sidecar.api import LookupRequest

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


def order(request: LookupRequest) -> dict[str, Any] | None:
    """The owner and the readers of an order; None where there is none."""
    found = _CLIENT.get_item(
        TableName=TABLE,
        Key={"id": {"S": request.id}},
        ConsistentRead=True,
        ProjectionExpression="id, owner_id, readers",
    )
    item = found.get("Item")
    if item is None:
        return None
    # DynamoDB writes {"S": "alice"}; a number is a text there, and a Decimal in the resources of boto3
    readers = item["readers"]["SS"] if "readers" in item else []
    return {"id": item["id"]["S"], "owner_id": item["owner_id"]["S"], "readers": sorted(readers)}
