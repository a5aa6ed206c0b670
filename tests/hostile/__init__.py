"""Requests that mean harm, as data (hostile.yaml), sent to the real sidecar before a real Cerbos."""
