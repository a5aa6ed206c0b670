"""Words of paths, as APIs have them: what stands before kinds, what acts, and how a plural becomes a kind."""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PREFIXES = _words("api apis rest ajax json rpc web app www internal public private external service services v")
"""Words that say nothing of the resource at the beginning of a path."""
FILES = _words("favicon.ico robots.txt sitemap.xml manifest.json apple-touch-icon.png service-worker.js openapi.json")
"""Names of files that browsers and tools ask every app for."""
STRUCTURE = PREFIXES | _words(
    """
    - _ admin auth oauth oauth2 account accounts manage management backend portal site static assets media
    .well-known docs debug system crm
    """
)  # fmt: skip
"""Words under which further fixed words stand."""
VERBS = _words(
    """
    accept activate add answer apply approve archive assign attach authenticate authorize ban batch block book
    broadcast bulk calculate callback cancel capture charge check checkout clear clone close collect complete
    confirm connect convert copy deactivate decline deliver deploy detach disable disconnect discard dismiss
    dispatch download duplicate edit enable enqueue escalate evaluate exchange execute expire export fetch
    filter finish flag follow forward generate grant hide import impersonate introspect invite invoke join leave
    like link lock login logout mark merge migrate move mute notify open pause pay pin ping poll post preview
    print process promote publish purge query read reactivate rebuild recalculate recover redeem refresh refund
    register reindex reject release remind remove rename renew reopen reorder replace reply report request
    resend reset resolve restart restore resume retry return revert review revoke rollback rotate run save
    schedule search send share ship sign signin signout signup simulate snooze sort split star start stop submit
    subscribe suspend sync terminate test toggle transfer transition trigger unarchive unassign unblock undo
    undelete unfollow unlink unlock unpublish unstar unsubscribe upload upsert validate verify view void vote
    withdraw
    """
)  # fmt: skip
"""Last words of a path that are actions."""
SELF = _words("me self current whoami myself mine")
"""Words in the place of an id for whoever asks."""
_KNOWN = _words(
    """
    about access activity activities addresses address agents alerts all analytics announcements answers
    applications appointments articles assets attachments audit authors availability avatar balance balances
    billing boards bookings branches brands budgets calendar campaigns cards cart carts categories category
    changes channels charts chat clients collections comments commits companies company config configuration
    contacts content contracts conversations count countries coupons courses credits currencies customers daily
    dashboard dashboards data databases default deals deliveries departments departures details devices digest
    discounts discussions documents domains drafts email emails employees entries environments errors estimates
    events expenses facets favicon favorites feed feedback fields files flags folders forms games goals graphql
    groups health healthz help history home hooks images inbox index info instances integrations inventory
    invitations invoices issues items jobs keys labels languages latest leads ledger lessons libraries licenses
    lines links list lists livez locations logs mail mcp meetings members memberships menu messages metadata
    metrics monthly movies new news notes notifications offers openapi options orders organization organizations
    orgs outbox overview owners packages pages participants password patients payments people permissions
    persons photo photos pictures ping pipelines places plans players playlists policies popular posts
    preferences prices product products profile profiles progress projects properties providers pulls purchases
    questions queue quizzes quotes rates ratings reactions readyz receipts recent records redoc references
    refunds regions releases reports repos repositories requests reservations resources results reviews roles
    rooms rows rules schedules schema schemas scores sections segments sensors servers session sessions settings
    shifts shipments shops sites skills songs sources spaces stages stats statistics status statuses stock
    stores stories streams students subjects subscriptions suggestions suite summary suppliers surveys swagger
    tables tags tasks teachers team teams templates tenants terms tests threads tickets timeline timesheets
    today token tokens topics total totals tracks transactions transfers translations trash trips types units
    unread upcoming updates uploads usage user userinfo users values variants vehicles vendors version versions
    videos visits votes wallets warehouses webhooks weekly widgets wiki workflows workspaces ws yearly zones
    jwks login logout readiness liveness robots sitemap manifest static
    """
)  # fmt: skip
_BETWEEN = _words("all and by for from in of on or out to up with new create update delete get set make")
_VERSION = re.compile(r"v[0-9]{1,2}(?:\.[0-9])?")
_MAX_PARTS = 4


def is_known(word: str) -> bool:
    """Return whether a word is one that paths have, rather than the name of a thing or a person."""
    if word in FILES or word.lower() in STRUCTURE or _VERSION.fullmatch(word.lower()):
        return True
    parts = snake(word).split("_")
    return len(parts) <= _MAX_PARTS and all(part in _VOCABULARY for part in parts)


def is_prefix(word: str) -> bool:
    """Return whether a word at the beginning of a path says nothing of the resource."""
    return word.lower() in PREFIXES or _VERSION.fullmatch(word.lower()) is not None


def acts(word: str) -> bool:
    """Return whether a word begins with an action: `archive`, `reset-password`, `sendInvoice`."""
    return snake(word).partition("_")[0] in VERBS


_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def snake(word: str) -> str:
    """Return a word of a path in lower case, its parts joined by `_`."""
    return "_".join(part.lower() for part in _PARTS.findall(word))


_IRREGULAR = {
    "people": "person", "children": "child", "men": "man", "women": "woman", "mice": "mouse", "indices": "index",
    "matrices": "matrix", "vertices": "vertex", "criteria": "criterion", "analyses": "analysis", "bases": "base",
    "data": "data", "media": "media", "news": "news", "series": "series", "status": "status", "address": "address",
    "addresses": "address", "statuses": "status", "buses": "bus", "movies": "movie", "cookies": "cookie", "ties": "tie",
    "caches": "cache", "lives": "life", "quizzes": "quiz", "aliases": "alias", "analytics": "analytics",
    "progress": "progress",
}  # fmt: skip
_RULES = (
    (re.compile(r"(.{2,})ies"), r"\1y"),
    (re.compile(r"(.*(?:ss|sh|ch|x|zz))es"), r"\1"),
    (re.compile(r"(.{2,}[^sui])s"), r"\1"),
)


def singular(noun: str) -> str:
    """Return the kind of a collection: `purchase-orders` is `purchase_order`."""
    *before, last = snake(noun).split("_")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    else:
        for pattern, made in _RULES:
            if pattern.fullmatch(last):
                last = pattern.sub(made, last)
                break
    return "_".join([*before, last])


def is_plural(noun: str) -> bool:
    """Return whether a noun is one of many."""
    return singular(noun) != snake(noun)


def stands_beside_ids(word: str, above: str) -> bool:
    """Return whether a word that is not known is fixed where ids stand too: under a collection it is a name."""
    return not is_plural(above) or is_plural(word)


_WORDS = _KNOWN | STRUCTURE | VERBS | SELF | _BETWEEN
_VOCABULARY = _WORDS | frozenset(map(singular, _WORDS))

LOOKS_PUBLIC = {
    "health": _words("health healthz livez readyz ping liveness readiness status heartbeat up"),
    "files of pages": FILES | _words("static assets public media .well-known"),
    "signing in": _words("login logout signin signout sign-in sign-out signup sign-up register oauth oauth2 sso"),
    "documentation": _words("docs redoc swagger openapi.json openapi.yaml openapi swagger.json swagger-ui"),
}
"""Words that apps often show to everybody, by what they are."""
