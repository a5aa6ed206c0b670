"""`lookups` of a route file -> lookups of the gate: whom each asks."""

from sidecar.config.routes.lookups import SOURCES
from tests.config.routes.reading import faults, one_route


def test_a_lookup_that_says_not_whom_it_asks_is_one_fault_and_its_name_is_known() -> None:
    (fault,) = faults(
        one_route("{path: /x, resource: r, actions: {GET: a}, lookup: l}", "lookups: {l: {attributes: {a: b}}}\n")
    )
    assert (
        fault
        == f"routes.yaml:2:14: lookups.l: found nothing that says whom it asks, expected one of {', '.join(SOURCES)}"
    )
