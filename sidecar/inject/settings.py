"""How the injection webhook runs: flags of `sidecar inject`, no variables of the environment."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.inject.review import AdmissionPolicy
from sidecar.wire.grammar import host_and_port

REFUSE, ADMIT = "refuse", "admit"


@dataclass(frozen=True)
class InjectSettings:
    """All of them, parsed. `images` are by container name; `mirrors` and `before` as a `Template` has them."""

    host: str
    port: int
    certificate: str
    key: str
    images: Mapping[str, str]
    mirrors: tuple[str, ...]
    before: tuple[str, ...]
    policy: AdmissionPolicy
    log_level: str


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `sidecar inject`."""
    for flag, metavar, default, said in (
        (
            "--certificate",
            "FILE",
            "/etc/sidecar/tls/tls.crt",
            "PEM file with the certificate and its chain; read again when it changes",
        ),
        ("--key", "FILE", "/etc/sidecar/tls/tls.key", "PEM file with the certificate's key"),
        ("--image", "IMAGE", "", "the sidecar's image in the pods, instead of the template's"),
        ("--cerbos-image", "IMAGE", "", "Cerbos' image in the pods, instead of the template's"),
    ):
        shown = f" (default: {default})" if default else ""
        parser.add_argument(flag, metavar=metavar, default=default, help=said + shown)
    for flag, metavar, said in (
        (
            "--image-mirror",
            "REGISTRY",
            "a registry from which the cluster may take our images, such as `mirror.example.com/quay`; may be repeated",
        ),
        (
            "--before",
            "REPOSITORY",
            "an image whose containers may start before ours, such as `docker.io/istio/proxyv2`; may be repeated",
        ),
    ):
        parser.add_argument(flag, metavar=metavar, type=_repository, action="append", default=[], help=said)
    parser.add_argument(
        "--listen", type=_address, default="0.0.0.0:8443", metavar="HOST:PORT",
        help="the address to listen on, with TLS (default: 0.0.0.0:8443)",
    )  # fmt: skip
    for flag, choices, said in (
        (
            "--uninjectable",
            (REFUSE, ADMIT),
            "what to do with a pod that can't be protected; `admit` runs it WITHOUT the sidecar",
        ),
        ("--opt-out", (REFUSE, ADMIT), "what to do with a pod that has the label `authz-sidecar/inject: disabled`"),
        ("--log-level", ("info", "debug", "warning", "error"), "level of the log on stderr"),
    ):
        parser.add_argument(flag, choices=choices, default=choices[0], help=f"{said} (default: {choices[0]})")


def settings_of(options: argparse.Namespace) -> InjectSettings:
    """Read the flags into settings."""
    images = {"authz-sidecar": options.image, "authz-cerbos": options.cerbos_image}
    host, port = options.listen
    return InjectSettings(
        host=host,
        port=port,
        certificate=options.certificate,
        key=options.key,
        images={name: image for name, image in images.items() if image},
        mirrors=tuple(options.image_mirror),
        before=tuple(options.before),
        policy=AdmissionPolicy(options.uninjectable == ADMIT, options.opt_out == ADMIT),
        log_level=options.log_level,
    )


def _repository(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+(?::\d+)?(?:/[a-z0-9._-]+)*", text):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a registry or a repository without a tag")
    return text


def _address(text: str) -> tuple[str, int]:
    address = host_and_port(text)
    if address is None:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected host:port")
    return address
