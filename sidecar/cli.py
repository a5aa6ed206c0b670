"""The command line: run, check, explain, schema, inject, demo, and the commands of `sidecar/commands/`.

Only this file and theirs print, or read argv and environ. Each command imports what it alone needs: the others, and
`--help`, don't wait for it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from sidecar.commands.settings import add_settings, settings_given
from sidecar.config.settings import understand
from sidecar.run.errors import StartError

COMMANDS: Mapping[str, tuple[str, str]] = {
    "draft": ("sidecar.commands.draft", "draft policies and their tests from recorded traffic"),
    "report": (
        "sidecar.commands.report",
        "compare our verdicts with the app's own status, and say whether it is time to enforce",
    ),
    "replay": ("sidecar.commands.replay", "ask recorded questions of other policies: who would gain, who would lose"),
    "test": ("sidecar.commands.test", "run a table of cases through the gate and an embedded Cerbos, without ports"),
    "coverage": ("sidecar.commands.coverage", "list what no route, policy, lookup or test covers, in both directions"),
    "import": ("sidecar.commands.import_", "draft routes.yaml from specs, access logs and recordings"),
}
"""Commands with a module of their own in `sidecar/commands/`, which has `add_flags` and `command`: by name the module,
and what the command does."""


def main(argv: Sequence[str] | None = None) -> int:
    """The `sidecar` command. Returns the exit code: 0 done, 1 a fault that is told on stderr, 2 wrong usage;
    commands with codes of their own say so in their help."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["demo"]:
        return int(import_module("sidecar.demo").main(arguments[1:]))
    # of the commands only the one that is meant needs its flags, which take longer to make than to read
    named = next((argument for argument in arguments if not argument.startswith("-")), "")
    try:
        options = parser(named).parse_args(arguments)
    except SystemExit as ended:
        # 2 says something else there, and a misspelt flag must not look like it
        if ended.code == 2 and named == "replay":
            return 1
        raise
    try:
        code = int(options.command(options))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # whoever reads has had enough; what is left unwritten is not tried again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The command line's grammar, where `only` is given with the flags of that command alone."""
    made = argparse.ArgumentParser(prog="sidecar", description="Authorization sidecar: Cognito, routes.yaml, Cerbos.")
    made.add_argument("--version", action=_Version, nargs=0, help="print the version, and end")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for name, command, text in (
        ("run", run, "serve in front of an app"),
        ("check", check, "list every error in settings, routes and policies"),
        ("explain", explain, "show how one request is decided, and forward nothing"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        if only not in (None, name):
            continue
        add_settings(sub)
        if name == "explain":
            _add_request(sub)
        if name == "check":
            said = "exit with 1 if there is a warning; for CI"
            sub.add_argument("--warnings-as-errors", action="store_true", help=said)
            said = (
                "also ask each lookup, key server, PDP and Redis once, a lookup for the id sidecar-check; "
                "only connect to the app and Cognito"
            )
            sub.add_argument("--probe", action="store_true", help=said)
    said = "print the JSON Schema of routes.yaml or, with --log or --cases, of a log's line or a file of cases"
    schema = commands.add_parser("schema", help=said, description=said)
    of = schema.add_mutually_exclusive_group()
    of.add_argument("--log", action="store_true", help="print the schema of a line of the decision log")
    of.add_argument("--cases", action="store_true", help="print the schema of a file of cases for `sidecar test`")
    schema.set_defaults(command=print_schema)
    said = "serve the webhook that puts the sidecar into Kubernetes pods"
    injecting = commands.add_parser("inject", help=said, description=said)
    injecting.set_defaults(command=inject)
    if only in (None, "inject"):
        from sidecar.inject import settings as inject_settings

        inject_settings.add_flags(injecting)
    for name, (module, text) in COMMANDS.items():
        _add_command(commands.add_parser(name, help=text, description=text), module, flags=only in (None, name))
    commands.add_parser("demo", help="run everything on one machine, with a local Cognito and a legacy app")
    return made


class _Version(argparse.Action):
    """Prints `sidecar VERSION`: the version is looked up only where it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"sidecar {version('authorization-sidecar')}")
        parser.exit()


def _add_command(sub: argparse.ArgumentParser, module: str, *, flags: bool) -> None:
    sub.set_defaults(command=lambda options: import_module(module).command(options))
    if flags:
        import_module(module).add_flags(sub)


def _add_request(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("method", help="the request's method")
    sub.add_argument("target", help="the request's path, with its query")
    sub.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="a request header; may be given again"
    )
    sent = sub.add_mutually_exclusive_group()
    sent.add_argument("--body", default="", help="a body of the request: JSON, unless --header says another type")
    sent.add_argument(
        "--form", action="append", default=[], metavar="NAME=VALUE", help="a field of a form; may be given again"
    )
    said = "a JSON answer of the app, - for stdin: shows which items and fields of it the client would get"
    sub.add_argument("--answer", default="", metavar="FILE", help=said)
    who = sub.add_mutually_exclusive_group()
    who.add_argument("--token", default="", help="a real token, which the command verifies")
    who.add_argument("--claims", default="", help="claims as JSON, instead of a token")


def _complain(text: str) -> int:
    print(text, file=sys.stderr)
    return 1


def run(options: argparse.Namespace) -> int:
    """`sidecar run`: serve until SIGTERM."""
    # what a start makes stays to the end: the collector would look through all of it time and again, and is turned on
    # once the process serves
    gc.disable()
    from sidecar.run import workers

    flags = settings_given(options)
    try:
        workers.serve(understand(os.environ, flags), dict(os.environ), flags)
    except StartError as error:
        return _complain(str(error))
    return 0


def check(options: argparse.Namespace) -> int:
    """`sidecar check`: every problem of settings, routes and policies, and every warning; nothing is started, and
    nothing asked without --probe."""
    from sidecar.record import logs
    from sidecar.run import checking

    # what a probe meets is in its findings
    logs.configure("error")
    found = checking.findings(os.environ, settings_given(options), probe=options.probe)
    for problem in found.problems:
        print(problem, file=sys.stderr)
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if found.problems:
        print("".join(f"note: {note}\n" for note in found.unsettled), end="", file=sys.stderr)
        return 1
    print("".join(f"note: {note}\n" for note in (*found.notes, *found.unsettled)), end="")
    count = len(found.warnings)
    warned = f", {count} warning{'s' if count > 1 else ''}" if count else ""
    print(f"{' and '.join(found.checked)}: nothing wrong{warned}")
    return 1 if found.warnings and options.warnings_as_errors else 0


def explain(options: argparse.Namespace) -> int:
    """`sidecar explain METHOD PATH`: exit code 0 where it would be forwarded, 1 where it would be refused."""
    import asyncio

    from sidecar.run import explaining

    flags = settings_given(options)
    if not (flags.get("SIDECAR_UPSTREAM") or os.environ.get("SIDECAR_UPSTREAM")):
        flags["SIDECAR_UPSTREAM"] = "http://127.0.0.1:1"
    try:
        claims = _claims(options.claims) if options.claims else None
        asked = explaining.ExplainRequest(
            options.method, options.target, options.header, options.body, options.token, claims,
            _read_answer(options.answer), options.form,
        )  # fmt: skip
        forwarded, lines = asyncio.run(explaining.explain_one(understand(os.environ, flags), os.environ, asked))
    except StartError as error:
        return _complain(str(error))
    except ValueError as error:
        return _complain(f"--claims, --form or --header: {error}")
    print("\n".join(lines))
    return 0 if forwarded else 1


def _read_answer(file: str) -> bytes | None:
    """Raises StartError."""
    from pathlib import Path

    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes() if file else None
    except OSError as error:
        raise StartError(f"--answer: cannot read {file}: {error.strerror}") from None


def _claims(text: str) -> dict[str, Any]:
    claims = json.loads(text)
    if not isinstance(claims, dict):
        raise ValueError(f"found {text!r}, expected a JSON object")  # noqa: TRY004 - a user's value
    return claims


def print_schema(options: argparse.Namespace) -> int:
    """`sidecar schema`: the JSON Schema of routes.yaml, of a line of the decision log, or of a file of cases."""
    named = "study.case_grammar" if options.cases else "record.line" if options.log else "config.routes.grammar"
    print(json.dumps(import_module(f"sidecar.{named}").json_schema(), indent=2))
    return 0


def inject(options: argparse.Namespace) -> int:
    """`sidecar inject`: serve the injection webhook until SIGTERM."""
    from sidecar.inject import settings as inject_settings

    server = import_module("sidecar.inject.server")
    try:
        server.serve(inject_settings.settings_of(options))
    except server.InjectError as error:
        return _complain(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
