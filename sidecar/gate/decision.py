"""PDP: the question to Cerbos, and the strict parsing of its answer; only an explicit allow allows (R16)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from types import MappingProxyType
from typing import Any, NamedTuple

from sidecar.gate.access_request import AccessRequest
from sidecar.gate.codes import Code
from sidecar.gate.identity import Principal
from sidecar.gate.trace import Header
from sidecar.gate.verdict import Refused

ALLOW = "EFFECT_ALLOW"
DENY = "EFFECT_DENY"


class Resource(NamedTuple):
    """Resource of a question: its kind, id and attributes, and the action on it, with others that are asked beside it.

    `scope` names which of several policies for the kind is asked ("" for the one without a scope).
    """

    kind: str
    id: str
    action: str
    attributes: Mapping[str, Any]
    more_actions: tuple[str, ...] = ()
    scope: str = ""


def resources_of(
    kind: str, actions: Sequence[str], ids: Sequence[str], attributes: Sequence[Mapping[str, Any]], scope: str
) -> tuple[Resource, ...]:
    """Resources of one kind, about each of which these actions are asked."""
    action, *more = actions
    more_actions = tuple(more)
    rows = [(kind, id_, action, known, more_actions, scope) for id_, known in zip(ids, attributes, strict=True)]
    return tuple(map(_resource_of, rows))


_resource_of: Callable[[tuple[Any, ...]], Resource] = partial(tuple.__new__, Resource)
"""Makes a resource of all its fields, at a fifth of the time of its constructor: a list has many."""


class Question(NamedTuple):
    """A question to the PDP: may the principal do to each resource what it says?"""

    request_id: str
    principal: Principal
    resources: tuple[Resource, ...]
    trace: tuple[Header, ...] = ()
    """Headers that go with the call and are no part of what is asked."""
    alone: bool = False
    """True if it is asked in a call of its own: one that is traced, since a call has one trace."""


class Result(NamedTuple):
    """The part of an answer about one resource, as the PDP gave it. `effects`: action -> name of the effect.

    `policies`: action -> name of the policy that decided on it, where the PDP tells one.
    """

    kind: str
    id: str
    effects: Mapping[str, str]
    invalid: bool = False
    policies: Mapping[str, str] = MappingProxyType({})
    derived_roles: tuple[str, ...] = ()
    access_request: AccessRequest | None = None
    """How to ask for the first action, where it is denied and the PDP offers it."""

    @property
    def policy(self) -> str:
        """The policy of the first action: of the only one, where one was asked about."""
        return next(iter(self.policies.values()), "")


class PdpAnswer(NamedTuple):
    """A CheckResources answer, unjudged."""

    request_id: str
    call_id: str
    results: tuple[Result, ...]


def judge(question: Question, answer: PdpAnswer) -> list[bool]:
    """Return whether each resource of the question is allowed, in its order.

    Raises Refused(PDP_MISMATCH) unless the answer is about exactly this question: request id, number, kinds, ids,
    actions, a plain allow or deny, and no schema violation.
    """
    _require_whole(question, answer)
    return [_allowed(resource, result) for resource, result in zip(question.resources, answer.results, strict=True)]


def granted(question: Question, answer: PdpAnswer) -> list[frozenset[str]]:
    """Return the actions that are allowed on each resource of the question, in its order, of all that were asked.
    Raises Refused(PDP_MISMATCH), as `judge`."""
    resources, results = question.resources, answer.results
    if len(resources) == 1 and not resources[0].more_actions:
        (is_allowed,) = judge(question, answer)
        return [frozenset((resources[0].action,) if is_allowed else ())]
    _require_whole(question, answer)
    if not resources:
        return []
    kinds, ids, actions, _, more_actions, _ = zip(*resources, strict=True)
    about_kinds, about_ids, effects, invalid, *_ = zip(*results, strict=True)
    if about_ids != ids or about_kinds != kinds or any(invalid):
        for resource, result in zip(resources, results, strict=True):
            _require_about(resource, result)
    # of a list the same is asked about each, and a PDP says the same of many, most often in the same object
    same = actions.count(actions[0]) == more_actions.count(more_actions[0]) == len(actions)
    said = list(map(id, effects)) if same else list(zip(map(id, effects), actions, more_actions, strict=True))
    allowed = {said_of: _granted(resources[at], results[at]) for said_of, at in dict(zip(said, count())).items()}
    return list(map(allowed.__getitem__, said))


def _granted(resource: Resource, result: Result) -> frozenset[str]:
    return frozenset([action for action in (resource.action, *resource.more_actions) if _effect(result, action)])


def _require_whole(question: Question, answer: PdpAnswer) -> None:
    if answer.request_id != question.request_id:
        raise Refused(Code.PDP_MISMATCH, "an answer to another request")
    if len(answer.results) != len(question.resources):
        raise Refused(Code.PDP_MISMATCH, f"{len(answer.results)} results for {len(question.resources)} resources")


def _require_about(resource: Resource, result: Result) -> None:
    if result.id != resource.id or result.kind != resource.kind:
        raise Refused(Code.PDP_MISMATCH, "an answer about another resource")
    if result.invalid:
        raise Refused(Code.PDP_MISMATCH, "the attributes do not fit the policy's schema")


def _allowed(resource: Resource, result: Result) -> bool:
    _require_about(resource, result)
    return _effect(result, resource.action)


def _effect(result: Result, action: str) -> bool:
    effect = result.effects.get(action)
    if effect not in (ALLOW, DENY):
        raise Refused(Code.PDP_MISMATCH, f"the effect {effect}, expected {ALLOW} or {DENY}")
    return effect == ALLOW


def deciding_policy(matched: str, scope: str, allowed: bool) -> str:
    """The policy that decided: Cerbos names the one of the scope that was asked for, and beside it the scope that did.

    A deny without a scope keeps the name that Cerbos gave: the policy without a scope may have denied, or no rule at
    all may have been met, which look alike.
    """
    policy, slash, _ = matched.partition("/")
    if not slash or not (scope or allowed):
        return matched
    return f"{policy}/{scope}" if scope else policy
