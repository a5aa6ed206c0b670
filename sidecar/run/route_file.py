"""Route file of the settings: read once, with all that is wrong with it, by itself and beside the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from sidecar.config.routes.file import RoutesError, RoutesFile, read_routes
from sidecar.config.setting_table import Settings
from sidecar.config.shapes import Mark
from sidecar.config.suggest import did_you_mean
from sidecar.gate.routing import Access
from sidecar.run.errors import StartError
from sidecar.trust.issuers import Trust, trust_from


class RouteFile(NamedTuple):
    """A route file as it was read. `problems` are all of it, and of what it says beside the settings. `routes` are
    without those that have a fault where it is not `whole`, and None where it cannot be said what is sound. `doubtful`
    are the names of its top level whose values may not be what the file means."""

    text: str
    routes: RoutesFile | None
    problems: tuple[str, ...] = ()
    whole: bool = True
    doubtful: frozenset[str] = frozenset()

    def sure(self, *names: str) -> bool:
        """Return whether no fault is about one of these names of the top level."""
        return self.doubtful.isdisjoint(names)

    @property
    def in_force(self) -> bool:
        """Return whether nothing that is known of the file keeps it from being put in force."""
        return self.whole and not self.problems and self.routes is not None and self.routes.draft_mark is None


def read_route_file(settings: Settings, environ: Mapping[str, str]) -> RouteFile:
    """Read and check the route file."""
    try:
        text = Path(settings.routes).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = f"SIDECAR_ROUTES: cannot read {settings.routes}: {error}"
        return RouteFile("", None, (*_unjudged(settings), problem), whole=False)
    try:
        routes = read_routes(text, settings.routes, environ)
    except RoutesError as error:
        beside = _unjudged(settings) if error.sound is None else _beside_settings(settings, error.sound)
        return RouteFile(text, error.sound, (*map(str, error.problems), *beside), False, error.doubtful)
    return RouteFile(text, routes, tuple(_beside_settings(settings, routes)))


def load_routes(settings: Settings, environ: Mapping[str, str]) -> RoutesFile:
    """Read and check the route file. Raises StartError with every problem."""
    file = read_route_file(settings, environ)
    if file.routes is None or file.problems:
        raise StartError(*file.problems)
    return file.routes


def _unjudged(settings: Settings) -> Iterator[str]:
    """Yield what contradicts the settings most likely, where the routes could not be read."""
    if missing := without_upstream(settings, None):
        yield missing


def _beside_settings(settings: Settings, routes: RoutesFile) -> Iterator[str]:
    """Yield what contradicts the settings, each with its place."""
    if missing := without_upstream(settings, routes):
        yield missing
    yield from _unlisted(settings, routes)
    yield from _pushing(settings, routes)


_NO_UPSTREAM = "SIDECAR_UPSTREAM: not set, expected the protected app: `http(s)://host:port`, or `unix:/path`"


def without_upstream(settings: Settings, routes: RoutesFile | None) -> str:
    """Return why there has to be an app in the settings and there is none, or "". None stands for routes that could not
    be read."""
    if settings.upstream:
        return ""
    if routes is None:
        return f"{_NO_UPSTREAM}; or an `upstream` for each route of {settings.routes}"
    table = routes.table
    alone = next((route.name for route in (*table.routes, *routes.drafts) if route.upstream is None), "")
    if alone:
        return f"{_NO_UPSTREAM}; or an `upstream` for each route of {settings.routes}: {alone} has none"
    if table.fallback is Access.AUTHENTICATED:
        return f"{_NO_UPSTREAM}: `defaults.access: authenticated` lets paths through that no route names"
    if settings.mode == "shadow":
        return f"{_NO_UPSTREAM}: the mode `shadow` forwards what no route names, too"
    return ""


def _unlisted(settings: Settings, routes: RoutesFile) -> Iterator[str]:
    """Yield the hosts in the route file that SIDECAR_HOSTS turns away."""
    listed = settings.hosts
    if listed is None:
        return
    told = ", ".join(sorted(listed))
    for each in routes.placed_hosts:
        for host in each.unlisted(listed):
            yield _told_at(
                settings, each.mark, f"found {host!r}, expected one of SIDECAR_HOSTS ({told}): requests for others are "
                f"refused{did_you_mean(host, listed)}",
            )  # fmt: skip


def _pushing(settings: Settings, routes: RoutesFile) -> Iterator[str]:
    """Yield the lists that the PDP of the settings cannot narrow."""
    for route in routes.table.routes if settings.pdp else ():
        method = next((method for method in route.actions if route.asks[method].push is not None), None)
        if method is not None:
            text = (
                f"found `push` at {route.name} and SIDECAR_PDP, expected one of the two: AuthZEN has no plans, so "
                "`push` needs Cerbos"
            )
            yield routes.told_at(settings.routes, route, text, f"{method}.items", "items")


def _told_at(settings: Settings, mark: Mark, text: str) -> str:
    return f"{settings.routes}:{mark.line}:{mark.column}: {mark.path}: {text}"


def require_callback(settings: Settings, routes: RoutesFile) -> None:
    """Raise StartError where nobody says to which URL the hosted UI sends a browser back."""
    if "hosted" in settings.login_modes and not settings.callback and routes.table.hosts is None:
        raise StartError(
            "AWS_COGNITO_HOSTED_UI_CALLBACK_URL: not set, expected the callback URL of the app client, or one host in "
            "SIDECAR_HOSTS, or routes with `hosts`"
        )


def require_in_force(settings: Settings, routes: RoutesFile) -> None:
    """Raise StartError where the whole route file is a draft."""
    if routes.draft_mark is not None:
        raise StartError(
            f"{settings.routes}:{routes.draft_mark.line}:{routes.draft_mark.column}: found `draft: true` of the whole "
            "file, expected a file that is in force: look through it and take that line out, then the one of each "
            "route that you want in force"
        )


def load_trust(settings: Settings, routes: RoutesFile) -> Trust:
    """Return the trusted issuers. Raises StartError, with every problem, where a route needs a principal and nobody is
    trusted, or where its clients would be told of endpoints that nobody knows."""
    trust = trust_from(settings, routes.identities, frozenset(one.resource for one in routes.table.protected))
    problems = [*_untold(settings, routes), *_untrusting(settings, routes, trust)]
    if problems:
        raise StartError(*problems)
    return trust


def _untold(settings: Settings, routes: RoutesFile) -> Iterator[str]:
    """Yield the resources whose clients are to be told of Cognito's endpoints, where nobody knows these."""
    if settings.domain and ("://" in settings.domain or settings.region):
        return
    for route in routes.table.routes:
        one = route.protected
        if one is not None and one.metadata and not one.server:
            text = (
                f"found the resource {one.resource} and no AWS_COGNITO_DOMAIN (with AWS_REGION, where it is a prefix), "
                "expected it, so that clients are told where to sign in; or `authorization_server`, or `metadata: off`"
            )
            yield routes.told_at(settings.routes, route, text, "mcp")


def _untrusting(settings: Settings, routes: RoutesFile, trust: Trust) -> Iterator[str]:
    """Yield the first route that needs a principal where nobody is trusted: of the others the same is wrong."""
    needing = next((route for route in routes.table.routes if route.access is not Access.PUBLIC), None)
    if needing is not None and not trust.issuers:
        text = (
            f"{needing.name} needs to know who asks, and there is no issuer of tokens: set AWS_REGION, "
            "AWS_COGNITO_POOL_ID and AWS_COGNITO_CLIENT_ID, or give `identity`"
        )
        yield routes.told_at(settings.routes, needing, text)
