"""The lines that the demo prints can be pasted, titles and all, into bash and zsh."""

from __future__ import annotations

import json
import re
import subprocess

from sidecar.demo.cognito import USERS, User
from sidecar.demo.guide import show, sign_in, steps

TOUR = steps("http://127.0.0.1:9229", "client", USERS, "http://127.0.0.1:8080")


def test_the_tour_promises_each_kind_of_answer() -> None:
    assert [step.status for step in TOUR] == [
        None, 200, 200, 403, 200, 403, 200, None, 200, 200, 401, 302, 401, 403,
    ]  # fmt: skip


def test_a_title_is_plain_words_which_no_shell_reads_as_more() -> None:
    """In zsh a pasted `#` starts no comment: quotes, brackets and arrows in a title would do something."""
    assert all(re.fullmatch(r"[A-Za-z ,]+", step.title) for step in TOUR)


def test_the_text_has_each_user_and_each_command_on_a_line_of_its_own() -> None:
    lines = show(USERS, TOUR, "http://127.0.0.1:8080").splitlines()
    assert "    http://127.0.0.1:8080/_sidecar/console?method=DELETE&path=/contacts/2" in lines
    assert "    http://127.0.0.1:8080/contacts" in lines
    assert all(step.command in lines for step in TOUR)
    assert "alice     Alice-1234    user" in lines
    assert "carol     Carol-1234    user (the password is temporary: the first sign-in asks for a new one)" in lines
    assert "# update a contact of bob: 403" in lines
    assert "# sign in as alice" in lines


def test_a_password_with_quotes_and_blanks_reaches_cognito_as_it_is() -> None:
    """The command is run with a curl that repeats its last argument, which is the body of the request."""
    password = """it's "a b" $HOME `id` \\ !"""
    command = sign_in("http://127.0.0.1:1", "client", "eve", password)
    script = f'curl() {{ printf %s "${{@: -1}}" >&2; }}\n{command}\n'
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(ended.stderr)["AuthParameters"] == {"USERNAME": "eve", "PASSWORD": password}


def test_a_token_is_taken_out_of_cognitos_answer() -> None:
    """Other fields before and after it, with and without a blank after the colon."""
    command = sign_in("http://127.0.0.1:1", "client", *User("eve", "x", ())[:2])
    for answer in ('{"AuthenticationResult":{"IdToken":"i","AccessToken":"a.b-c_d","ExpiresIn":3600}}',
                   '{"AuthenticationResult": {"AccessToken": "a.b-c_d", "RefreshToken": "r"}}'):  # fmt: skip
        script = f"curl() {{ printf %s '{answer}'; }}\n{command}\nprintf %s \"$EVE\""
        assert subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout == "a.b-c_d"
