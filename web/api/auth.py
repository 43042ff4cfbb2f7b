"""Who asks, what they may, and how often: bearer tokens, of which only digests are known here.

A token's name is the actor in audit entries. Tokens of the settings have every scope and need no database; those that
`verisink token create` made have the scopes that it was given.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from flask import Blueprint, Response, g, request

from web.api.problems import Refused
from worker.domain.scopes import ALL_SCOPES, TOKEN, Caller, Scope
from worker.pipeline.api_limits import Standing
from worker.pipeline.api_tokens import TokensAway
from worker.pipeline.budget import WINDOW_SECONDS
from worker.runtime import Runtime
from worker.settings import token_digest

UNKNOWN = "the token is not known here"

NOT_CONFIGURED = UNKNOWN + (
    ". Make one with `verisink token create`, or set VERISINK_API_TOKENS to name:token, and send that token as bearer "
    "token"
)

BY_REFERENCE = "finding results by reference needs the scope results:pii"
"""Said wherever a reference would find somebody for a caller who may not see whom."""


def register(routes: Blueprint, runtime: Runtime, needed: Mapping[str, Scope]) -> None:
    """Let only those in who have a token with the scope that the route needs; `needed` has it by the name of the
    endpoint. They are `g.caller`, and `g.actor` in audit entries."""
    gate = _Gate(runtime, needed)
    routes.before_request(gate.enter)
    routes.after_request(gate.leave)


@dataclass(frozen=True, slots=True)
class _Ticket:
    """Who asks, and the name under which their requests are counted."""

    caller: Caller
    counted_as: str


class _Gate:
    def __init__(self, runtime: Runtime, needed: Mapping[str, Scope]) -> None:
        self._needed = needed
        self._settings = runtime.settings
        self._tokens = runtime.tokens
        self._limits = runtime.api_limits

    def enter(self) -> None:
        """Raises Refused."""
        ticket = self._ticket(request.headers.get("Authorization"))
        g.standing = self._limits.spend(ticket.counted_as)
        if g.standing is not None and not g.standing.taken:
            raise _too_many(g.standing, f"a token may ask {self._limits.per_minute} times a minute")
        needed = self._needed.get(request.endpoint or "")
        if needed is None or not ticket.caller.may(needed):
            raise _lacking(needed)
        g.caller, g.actor = ticket.caller, ticket.caller.actor

    def leave(self, answer: Response) -> Response:
        """Tell the caller how much it may still ask, in the fields of draft-ietf-httpapi-ratelimit-headers."""
        standing: Standing | None = g.get("standing")
        if standing is not None:
            answer.headers["RateLimit-Policy"] = f'"token";q={self._limits.per_minute};w={WINDOW_SECONDS}'
            answer.headers["RateLimit"] = f'"token";r={standing.left};t={standing.more_in}'
        answer.headers.update(g.get("why_refused", {}))
        return answer

    def _ticket(self, header: str | None) -> _Ticket:
        scheme, _, presented = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not presented.strip():
            raise Refused(HTTPStatus.UNAUTHORIZED, "send `Authorization: Bearer <token>`")
        # Servers hand headers over as Latin-1, whatever their bytes meant.
        token = presented.strip().encode("latin-1", "replace").decode("utf-8", "replace")
        ticket = self._of_settings(token) or self._of_database(token)
        if ticket is None:
            standing = self._limits.spend_wrong()
            if not standing.taken:
                raise _too_many(standing, "too many wrong tokens were sent here")
            raise Refused(HTTPStatus.UNAUTHORIZED, UNKNOWN if self._settings.api_tokens else NOT_CONFIGURED)
        return ticket

    def _of_settings(self, token: str) -> _Ticket | None:
        digest = token_digest(token)
        names = [known.name for known in self._settings.api_tokens if hmac.compare_digest(known.sha256, digest)]
        return _Ticket(Caller(names[0], ALL_SCOPES), f"setting:{names[0]}") if names else None

    def _of_database(self, token: str) -> _Ticket | None:
        if not TOKEN.fullmatch(token):
            return None
        try:
            found = self._tokens.find(token_digest(token))
        except TokensAway:
            detail = "the database, which knows the tokens, is not available; try again in a few seconds"
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, detail) from None
        return None if found is None else _Ticket(found.caller, f"token:{found.id}")


def _too_many(standing: Standing, why: str) -> Refused:
    g.why_refused = {"Retry-After": str(standing.more_in)}
    return Refused(HTTPStatus.TOO_MANY_REQUESTS, f"{why}; try again in {standing.more_in} seconds")


def _lacking(needed: Scope | None) -> Refused:
    if needed is None:
        return Refused(HTTPStatus.FORBIDDEN, "no scope is declared for this, so nobody may do it")
    g.why_refused = {"WWW-Authenticate": f'Bearer realm="verisink", error="insufficient_scope", scope="{needed}"'}
    return Refused(HTTPStatus.FORBIDDEN, f"this needs a token with the scope {needed}")


def may_see_personal() -> bool:
    """Whether this request's token may see personal data."""
    return bool(g.caller.may(Scope.RESULTS_PII))
