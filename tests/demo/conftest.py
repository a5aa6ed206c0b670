"""What the tests of the demo share: ports that nobody uses, and the checkout with its node_modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import stack


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives a port of the loopback interface on which nobody listens, another at each call."""
    return stack.free_port


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder with routes.yaml, policies/ and node_modules/."""
    return Path(__file__).parents[2]
