"""The pool's API, asked at a local Cognito."""

from __future__ import annotations

import pytest

from sidecar.clients.provider import AppClient, Asker, Challenge, Grant, Reason, SignInFailed
from sidecar.clients.userpool import PASSWORD, SRP, UserPool
from sidecar.demo.cognito import LocalCognito, User


@pytest.mark.parametrize("flow", [SRP, PASSWORD])
async def test_a_password_gives_tokens_and_a_refresh_token_gives_more(cognito: LocalCognito, flow: str) -> None:
    pool = UserPool(f"{cognito.endpoint}/", cognito.pool_id, AppClient(cognito.client_id, ""), Asker(), flow)
    grant = await pool.sign_in("alice", "Alice-1234")
    assert isinstance(grant, Grant)
    assert (await pool.refresh(grant.refresh_token, "alice")).access_token.count(".") == 2


async def test_wrong_password_and_unknown_user_are_the_same(cognito: LocalCognito) -> None:
    pool = UserPool(f"{cognito.endpoint}/", cognito.pool_id, AppClient(cognito.client_id, ""), Asker(), PASSWORD)
    for name in ("alice", "nobody"):
        with pytest.raises(SignInFailed) as caught:
            await pool.sign_in(name, "wrong")
        assert caught.value.reason is Reason.WRONG_PASSWORD


async def test_a_temporary_password_is_a_challenge(cognito: LocalCognito) -> None:
    cognito.add_user(User("temporary", "Temp-1234", (), temporary=True))
    pool = UserPool(f"{cognito.endpoint}/", cognito.pool_id, AppClient(cognito.client_id, ""), Asker(), PASSWORD)
    challenge = await pool.sign_in("temporary", "Temp-1234")
    assert isinstance(challenge, Challenge)
    assert isinstance(await pool.respond(challenge, {"password": "Better-1234"}), Grant)
