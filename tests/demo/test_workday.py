"""The workday that is watched: what the guide tells of it, and the log that nginx wrote of the same requests."""

from __future__ import annotations

import importlib.resources
import re
from collections import Counter

from sidecar.demo.workday import OUTDATED, OWN, PEOPLE, workday

LOG = importlib.resources.files("sidecar.demo").joinpath("workday_access.txt").read_text()


def test_nginx_saw_the_same_requests_and_the_app_let_everybody_do_everything() -> None:
    logged = re.findall(r'"([A-Z]+) (\S+) HTTP/1\.1" (\d+) ', LOG)
    assert Counter((visit.method, visit.path) for visit in workday()) == Counter(pair[:2] for pair in logged)
    assert {status for _, _, status in logged} == {"200", "201"}


def test_people_keep_to_their_own_but_for_two_requests() -> None:
    names = {user.name for user in PEOPLE}
    others = []
    for visit in workday():
        assert visit.user in names
        mine = {*OWN.get(visit.user, ()), *OUTDATED.get(visit.user, ())}
        contact = visit.path.removeprefix("/contacts").strip("/").partition("?")[0]
        if visit.user in OWN and contact and contact not in mine:
            others.append((visit.user, visit.method, visit.path))
    assert others == [("dora", "PATCH", "/contacts/2"), ("bob", "GET", "/db")]
