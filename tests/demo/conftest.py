"""What the tests of the demo share: ports that nobody uses, and the checkout with its node_modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.demo import cognito, hosted_ui
from tests import stack
from tests.forked import Forked


@pytest.fixture(scope="session", autouse=True)
def forked() -> Iterator[None]:
    """Each server of the demo forks from one that has imported what it needs; tests/browser starts those of the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cognito, "Process", Forked)
        patch.setattr(hosted_ui, "Process", Forked)
        yield


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives a port of the loopback interface on which nobody listens, another at each call."""
    return stack.free_port


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder with routes.yaml, policies/ and node_modules/."""
    return Path(__file__).parents[2]
