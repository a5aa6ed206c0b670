"""The part of the AWS command line that the docs use, by botocore's own models: an unknown operation or option is an error.

A command starts no interpreter with boto3 in it: it hands its words to a server in the tests' own process.
"""

from __future__ import annotations

import functools
import json
import re
import socketserver
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import jmespath
from botocore import xform_name

COMMAND = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    server.sendall(json.dumps([os.getcwd(), sys.argv[1:]]).encode() + b"\\n")
    status, said = json.loads(server.makefile().readline())
print(said, end="", file=sys.stderr if status else sys.stdout)
sys.exit(status)
"""


def options_of(words: Sequence[str]) -> dict[str, list[str]]:
    """`--name` -> the words after it."""
    found: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name = word.removeprefix("--")
            assert name not in found, f"--{name} comes twice"
            found[name] = []
        else:
            found[name].append(word)
    return found


def value_of(shape: Any, words: list[str], folder: Path) -> Any:
    """Words of the command line -> a parameter of this shape: text, file://, a flag, Key=Value,Key=Value."""
    if shape.type_name == "list":
        return [value_of(shape.member, [word], folder) for word in words]
    if shape.type_name == "boolean":
        assert not words
        return True
    (word,) = words
    if shape.type_name in ("structure", "map"):
        fields = dict(re.findall(r"(\w+)=((?:[^,]|,(?!\w+=))*)(?:,|$)", word))
        if shape.type_name == "structure":
            assert fields.keys() <= shape.members.keys(), f"{word}: expected {sorted(shape.members)}"
        return fields
    return (folder / word.removeprefix("file://")).read_text() if word.startswith("file://") else word


class Account:
    """Whose pools and stacks the commands work on: all at `endpoint`, in `region`."""

    def __init__(self, endpoint: str, region: str) -> None:
        self.client = functools.cache(
            functools.partial(
                boto3.client, endpoint_url=endpoint, region_name=region,
                aws_access_key_id="local", aws_secret_access_key="local",
            )
        )  # fmt: skip

    def run(self, words: Sequence[str], folder: Path) -> str:
        """What `aws` with these words prints, as `--output text` does: items by tabs. Raises what botocore raises."""
        service, operation = words[0], words[1]
        if operation == "wait":
            self._wait(service, words[2], options_of(words[3:]))
            return ""
        options = options_of(words[2:])
        options.pop("output", None)
        (query,) = options.pop("query", ["@"])
        call = operation.replace("-", "_")
        client = self.client(service)
        shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[call]).input_shape
        members = {xform_name(name, "-"): (name, member) for name, member in shape.members.items()}
        arguments = {members[name][0]: value_of(members[name][1], given, folder) for name, given in options.items()}
        answer = jmespath.search(query, getattr(client, call)(**arguments))
        return ("\t".join(map(str, answer)) if isinstance(answer, list) else str(answer)) + "\n"

    def _wait(self, service: str, what: str, options: dict[str, list[str]]) -> None:
        waiter = self.client(service).get_waiter(what.replace("-", "_"))
        arguments = {"StackName": options.pop("stack-name")[0]}
        assert options == {}
        waiter.wait(**arguments, WaiterConfig={"Delay": 1, "MaxAttempts": 30})

    @contextmanager
    def command(self, folder: Path) -> Iterator[Path]:
        """A program `aws` in this folder, while the context lasts."""
        account = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                place, words = json.loads(self.rfile.readline())
                try:
                    status, said = 0, account.run(words, Path(place))
                except Exception as error:  # noqa: BLE001 - told to who typed the command
                    status, said = 254, f"{type(error).__name__}: {error}\n"
                self.wfile.write(json.dumps([status, said]).encode() + b"\n")

        program = folder / "aws"
        program.write_text(COMMAND.format(python=sys.executable, path=str(folder / "aws.sock")))
        program.chmod(0o755)
        with socketserver.UnixStreamServer(str(folder / "aws.sock"), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            yield program
            server.shutdown()
            thread.join()
