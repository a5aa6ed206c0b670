"""Text that the demo prints once it runs: who may sign in, and command lines to paste, each with the status it
promises."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import NamedTuple

from sidecar.demo.cognito import User


class Step(NamedTuple):
    """One command line for bash or zsh. `status` is that of the HTTP answer which it shows, None where it shows none.

    A title is pasted along with its command, and zsh does not take `#` for a comment: plain words only.
    """

    title: str
    command: str
    status: int | None = None


def steps(endpoint: str, client_id: str, users: Iterable[User], url: str) -> list[Step]:
    """The tour: `endpoint` is Cognito's, `url` is the sidecar's; `users` have alice and admin among them."""
    passwords = {user.name: user.password for user in users}

    def token(name: str) -> Step:
        return Step(f"sign in as {name}", sign_in(endpoint, client_id, name, passwords[name]))

    return [
        token("alice"),
        Step(
            "the list has her own contacts, and those of the team without their phone numbers",
            _call("GET", f"{url}/contacts", "alice"),
            200,
        ),
        Step("read a contact of the team, without its phone number", _call("GET", f"{url}/contacts/2", "alice"), 200),
        Step("read a contact that bob keeps private", _call("GET", f"{url}/contacts/4", "alice"), 403),
        Step("update a contact of her own", _call("PATCH", f"{url}/contacts/1", "alice"), 200),
        Step("update a contact of bob", _call("PATCH", f"{url}/contacts/2", "alice"), 403),
        Step("the app hears who asks, whoever a client says it is", _hello(f"{url}/hello", "alice"), 200),
        token("admin"),
        Step("the list of an admin has all of them", _call("GET", f"{url}/contacts", "admin"), 200),
        Step("the same update by an admin", _call("PATCH", f"{url}/contacts/2", "admin"), 200),
        Step("read without a token", _call("GET", f"{url}/contacts/1"), 401),
        Step(
            "a browser without a session is sent to a page to sign in, and back afterwards",
            _browser(f"{url}/contacts/2"),
            302,
        ),
        Step(
            "a form that a browser sends after its session has ended gets a page with a link to sign in",
            _browser(f"{url}/contacts", " -d name=Ada"),
            401,
        ),
        Step("a path that no route names, even by an admin", _call("GET", f"{url}/db", "admin"), 403),
    ]


def sign_in(endpoint: str, client_id: str, name: str, password: str) -> str:
    """A command that puts a user's access token into the shell variable of the user's name, in capitals."""
    parameters = {"USERNAME": name, "PASSWORD": password}
    body = json.dumps({"AuthFlow": "USER_PASSWORD_AUTH", "ClientId": client_id, "AuthParameters": parameters})
    return (
        f"{name.upper()}=$(curl -s {endpoint}/ -H 'Content-Type: application/x-amz-json-1.1'"
        f" -H 'X-Amz-Target: AWSCognitoIdentityProviderService.InitiateAuth' -d {shlex.quote(body)}"
        """ | sed -n 's/.*"AccessToken": *"\\([^"]*\\)".*/\\1/p')"""
    )


def _call(method: str, url: str, name: str = "") -> str:
    token = f' -H "Authorization: Bearer ${name.upper()}"' if name else ""
    body = """ -X PATCH -H 'Content-Type: application/json' -d '{"phone": "+1 202 555 0199"}'"""
    return f"curl -iw '\\n'{token}{body if method == 'PATCH' else ''} {url}"


def _hello(url: str, name: str) -> str:
    return f"{_call('GET', url, name)} -H 'Remote-User: root'"


def _browser(url: str, more: str = "") -> str:
    return f"curl -iw '\\n' -H 'Accept: text/html'{more} {url}"


def show(users: Iterable[User], tour: Iterable[Step], url: str) -> str:
    """The whole text: a table of users, a page to open in a browser, and a block per step. `url` is the sidecar's."""
    table = [f"{user.name:<10}{user.password:<14}{', '.join(user.groups)}{_note(user)}" for user in users]
    blocks = [f"# {step.title}{f': {step.status}' if step.status else ''}\n{step.command}\n" for step in tour]
    return "\n".join(
        [
            f"{'user':<10}{'password':<14}groups",
            *table,
            "",
            *_browse(url),
            "",
            "Or paste into another terminal:",
            "",
            *blocks,
        ]
    )


def _note(user: User) -> str:
    return " (the password is temporary: the first sign-in asks for a new one)" if user.temporary else ""


def _browse(url: str) -> list[str]:
    return [
        "Open in a browser, sign in as alice, sign out, and sign in as admin: each sees what the policy lets them do.",
        f"    {console(url, 'DELETE', '/contacts/2')}",
        "Then open the app's own list: each gets the contacts and phone numbers that the policy lets them see.",
        f"    {url}/contacts",
    ]


def console(url: str, method: str, path: str) -> str:
    """Where the console tells the whole way of a request."""
    return f"{url}/_sidecar/console?method={method}&path={path}"
