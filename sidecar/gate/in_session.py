"""Sessions at MCP servers in requests: the app is named its own id, and only for whom the session was given."""

from __future__ import annotations

from sidecar.gate.codes import Code
from sidecar.gate.evaluation import Evaluation
from sidecar.gate.mcp_session import SESSION, McpSessions
from sidecar.gate.obligation import BindSession
from sidecar.gate.request import Request
from sidecar.gate.routing import Route
from sidecar.gate.verdict import Refused


def in_session(evaluation: Evaluation, request: Request, route: Route, sessions: McpSessions) -> Request:
    """Name the session to the app by the app's own id, and demand that ids in its answer be bound. Raises Refused:
    HEADER_AMBIGUOUS, MCP_SESSION_FOREIGN, PROXY_UNABLE."""
    if not evaluation.holds_answer:
        raise Refused(Code.PROXY_UNABLE, "the head of the app's answer, with the id of an MCP session")
    facts, principal = evaluation.facts, evaluation.sender
    agent = principal.claims.get("client_id")
    binding = sessions.of(
        route.name, evaluation.app, principal.issuer, principal.id, agent if isinstance(agent, str) else ""
    )
    named = [value for name, value in request.headers if name == SESSION]
    if len(named) > 1:
        raise Refused(Code.HEADER_AMBIGUOUS, "mcp-session-id: found it twice")
    own = binding.own(named[0]) if named else None
    if own is not None:
        headers = [(SESSION, own) if pair[0] == SESSION else pair for pair in request.headers]
        request = request._replace(headers=headers)
        # in shadow, what is refused from here on goes to the app, too
        if evaluation.request is not None:
            evaluation.request = evaluation.request._replace(headers=headers)
    elif facts.mode == "shadow":
        # sessions that nobody has bound stay as they are
        return request
    elif named:
        raise Refused(Code.MCP_SESSION_FOREIGN)
    evaluation.obligations = (*evaluation.obligations, BindSession(binding.bind))
    return request


def in_own_session(evaluation: Evaluation, sent: Request, route: Route, sessions: McpSessions | None) -> Request:
    """Name the session in a request that is refused, and sent all the same, as in one that is not: whose it is is no
    rule of a route. Raises Refused, as `in_session`."""
    bound = any(isinstance(one, BindSession) for one in evaluation.obligations)
    if bound or not route.binds_sessions or sessions is None or evaluation.principal is None:
        return sent
    # a door that does not see the answer has given out no id that is bound
    return in_session(evaluation, sent, route, sessions) if evaluation.holds_answer else sent
