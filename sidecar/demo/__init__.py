"""`sidecar demo`: a local Cognito, an app that knows nothing of users, and the sidecar in front of it."""

from __future__ import annotations

from sidecar.demo.run import Ports, main, run_demo

__all__ = ["Ports", "main", "run_demo"]
