"""moto's server with Cognito among what its CloudFormation makes: `python -m tests.deploy.cloudformation PORT`.

moto's own knows no AWS::Cognito resources. The template is read, its parameters, conditions, references and outputs are
worked out by moto; what is here only hands a resource's properties to moto's Cognito, by the API's names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

from moto.cognitoidp.models import cognitoidp_backends
from moto.core.common_models import CloudFormationModel
from moto.server import main

Create = Callable[[Any, dict[str, Any]], str]


def _pool(backend: Any, asked: dict[str, Any]) -> str:
    return str(backend.create_user_pool(asked.pop("UserPoolName"), asked).id)


def _domain(backend: Any, asked: dict[str, Any]) -> str:
    return str(backend.create_user_pool_domain(asked["UserPoolId"], asked["Domain"]).domain)


def _client(backend: Any, asked: dict[str, Any]) -> str:
    return str(backend.create_user_pool_client(asked.pop("UserPoolId"), asked.pop("GenerateSecret"), asked).id)


def _group(backend: Any, asked: dict[str, Any]) -> str:
    pool, name, said = asked["UserPoolId"], asked["GroupName"], asked.get("Description", "")
    return str(backend.create_group(pool, name, said, None, asked.get("Precedence")).group_name)


def _clean(value: Any) -> Any:
    """A property without the items of lists that are AWS::NoValue, which moto leaves as None."""
    if isinstance(value, list):
        return [_clean(item) for item in value if item is not None]
    return {name: _clean(item) for name, item in value.items()} if isinstance(value, dict) else value


def _model(kind: str, create: Create) -> type[CloudFormationModel]:
    def make(cls: type[Any], /, name: str, resource: dict[str, Any], account: str, region: str, **_: Any) -> Any:
        made = cls()
        made.physical_resource_id = create(cognitoidp_backends[account][region], _clean(resource["Properties"]))
        return made

    members = {
        "cloudformation_type": staticmethod(lambda: kind),
        "cloudformation_name_type": staticmethod(lambda: ""),
        "has_cfn_attr": classmethod(lambda cls, attribute: False),
        "create_from_cloudformation_json": classmethod(make),
    }
    return type(kind.rpartition(":")[2], (CloudFormationModel,), members)


# moto finds them by asking for the subclasses
MODELS = [
    _model("AWS::Cognito::UserPool", _pool),
    _model("AWS::Cognito::UserPoolDomain", _domain),
    _model("AWS::Cognito::UserPoolClient", _client),
    _model("AWS::Cognito::UserPoolGroup", _group),
]

OTHERS = frozenset(
    (
        "apigateway", "autoscaling", "awslambda", "batch", "cloudwatch", "datapipeline", "dynamodb", "ec2", "ecr", "ecs", "efs", "elb",
        "elbv2", "emr", "events", "iot", "kinesis", "kms", "rds", "redshift", "route53", "s3", "sagemaker", "sns", "sqs",
        "ssm", "stepfunctions",
    )
)  # fmt: skip
"""Services that moto's CloudFormation imports, which takes two seconds: no template of ours has a resource of theirs."""


class _Nothing(ModuleType):
    """A module in which each name is that of an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Without(MetaPathFinder, Loader):
    """Imports nothing in the place of these services."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, rest = name.partition(".")
        ours = package == "moto" and rest.partition(".")[0] in OTHERS
        return spec_from_loader(name, self, is_package=True) if ours else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Nothing(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


if __name__ == "__main__":
    sys.meta_path.insert(0, Without())
    main(["-H", "127.0.0.1", "-p", sys.argv[1]])
