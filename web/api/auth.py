"""Who asks: bearer tokens, of which only digests are known here. A token's name is the actor in audit entries."""

import hmac
from collections.abc import Sequence
from http import HTTPStatus

from flask import g

from web.api.problems import Refused
from worker.settings import ApiToken, token_digest

NOT_CONFIGURED = (
    "no API token is configured: set VERISINK_API_TOKENS to name:token, and send that token as bearer token"
)


def actor(header: str | None, tokens: Sequence[ApiToken]) -> str:
    """The name of the token in an Authorization header. Raises Refused."""
    if not tokens:
        raise Refused(HTTPStatus.UNAUTHORIZED, NOT_CONFIGURED)
    scheme, _, presented = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not presented.strip():
        raise Refused(HTTPStatus.UNAUTHORIZED, "send `Authorization: Bearer <token>`")
    # Servers hand headers over as Latin-1, whatever their bytes meant.
    digest = token_digest(presented.strip().encode("latin-1", "replace").decode("utf-8", "replace"))
    names = [token.name for token in tokens if hmac.compare_digest(token.sha256, digest)]
    if not names:
        raise Refused(HTTPStatus.UNAUTHORIZED, "the token is not known here")
    return f"api:{names[0]}"


def may_see_personal() -> bool:
    """Whether this request's token may see personal data. Where tokens have no scopes, every token may."""
    caller = getattr(g, "caller", None)
    return caller is None or bool(caller.may("results:pii"))
