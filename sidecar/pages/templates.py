"""The pages that people see, made from templates that a folder of the user's may replace, one by one."""

from __future__ import annotations

import html
import logging
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.doors.answer import Offer, plain_page
from sidecar.gate.codes import Code

if TYPE_CHECKING:
    from jinja2 import Environment

log = logging.getLogger("sidecar.pages")

TEMPLATES = Path(__file__).parent / "html"


class TemplateError(Exception):
    """Templates of the user's folder cannot be used; the message has a line for each, with its file and its line."""


class Pages:
    """Renders templates: those of `folder` before our own. Every value is escaped."""

    def __init__(self, folder: str = "") -> None:
        self._folder = folder
        self._made: Environment | None = None
        self._errors: dict[tuple[int, Code, Offer, tuple[bool, bool]], bytes] = {}

    def check(self) -> None:
        """Compile every template of the user's folder. Raises TemplateError with every problem."""
        if not self._folder:
            return
        from jinja2 import TemplateSyntaxError

        if not Path(self._folder).is_dir():
            raise TemplateError(f"SIDECAR_TEMPLATES: found {self._folder!r}, expected a folder")
        known = {path.name for path in TEMPLATES.glob("*.html")}
        problems = []
        for path in sorted(Path(self._folder).glob("*.html")):
            if path.name not in known:
                problems.append(f"{path}: no page has this name, expected one of {', '.join(sorted(known))}")
                continue
            try:
                self._environment().get_template(path.name)
            except TemplateSyntaxError as error:
                problems.append(f"{path}:{error.lineno}: {error.message}")
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{path}: {error}")
        if problems:
            raise TemplateError("\n".join(problems))

    def error(
        self, status: int, code: Code, request_id: str, offer: Offer = Offer.NOTHING, back: str = "/", says: str = "",
        access_form: str = "",
    ) -> bytes:  # fmt: skip
        """The page of a refusal, made once for each kind; it never fails. `back` is percent-encoded, `says` are the
        words of another server, and `access_form` is where a person may ask for what was denied."""
        try:
            kept = self._error(status, code, offer, (bool(says), bool(access_form)))
            page = kept.replace(_PLACE, request_id.encode("ascii", "replace"))
            page = page.replace(_BACK, back.encode("ascii", "replace"))
            # last: what another server says may name one of the places
            place, text = (_SAYS, says) if says else (_FORM, access_form)
            return page.replace(place, html.escape(text).encode("utf-8", "replace"))
        except Exception:
            log.exception("the page of %s could not be made", code)
            return plain_page(status, code, request_id)

    def _error(self, status: int, code: Code, offer: Offer, more: tuple[bool, bool]) -> bytes:
        page = self._errors.get((status, code, offer, more))
        if page is None:
            page = self.render(
                "error.html", status=status, title=HTTPStatus(status).phrase, code=code, request_id=_PLACE.decode(),
                offer=offer, back=_BACK.decode(), says=_SAYS.decode() if more[0] else "",
                access_form=_FORM.decode() if more[1] else "",
            ).encode("utf-8")  # fmt: skip
            self._errors[status, code, offer, more] = page
        return page

    def render(self, name: str, **values: Any) -> str:
        """A page. A template of the user's that fails is replaced by ours, and says why in the log."""
        environment = self._environment()
        if self._folder:
            try:
                return environment.get_template(name).render(values)
            except Exception:
                log.exception("the template %s of SIDECAR_TEMPLATES failed, ours is shown", name)
            environment = _our_environment()
        return environment.get_template(name).render(values)

    def _environment(self) -> Environment:
        if self._made is None:
            self._made = _environment_of(Path(self._folder), TEMPLATES) if self._folder else _our_environment()
        return self._made


_BACK, _SAYS, _FORM = b"-back-", b"-says-", b"-access-form-"
_PLACE = b"-request-id-"
"""Where a request id goes; it has no character that HTML would take for markup."""


_ours: Environment | None = None


def _our_environment() -> Environment:
    """Our own templates: each is compiled once, where it is first shown, and not again after a reload."""
    global _ours
    if _ours is None:
        _ours = _environment_of(TEMPLATES)
    return _ours


def _environment_of(*folders: Path) -> Environment:
    # here and not above: a sidecar that shows no page need not load it
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader([str(folder) for folder in folders]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
