"""ETags: who has an answer already is told so, and not sent it again.

Only the asker may keep it, and must ask each time. A cache in between must keep nothing: it does not know whose token
may see what.
"""

import hashlib

from flask import Response, g, request

from web.api import coding
from worker.reports.build import json_text

OWN = "private, no-cache"
"""Said of what has an ETag and is not for everybody. All else is not kept at all."""

DIGITS = 32
"""128 bits: nobody finds two answers with one tag, not even on purpose."""


def tag(*parts: object) -> str:
    """The ETag of what these parts identify, for this caller: what a token may see depends on its scopes."""
    scopes = getattr(getattr(g, "caller", None), "scopes", ())
    return digest(json_text([sorted(scopes), *parts]).encode("ascii"))


def digest(body: bytes) -> str:
    """The ETag of these bytes."""
    return hashlib.sha256(body).hexdigest()[:DIGITS]


def known(tag: str) -> str | None:
    """The form of `tag` under which the caller has the answer already, if it has one that it could take."""
    forms = [tag, tag + coding.SUFFIX] if coding.is_wanted(coding.SHORTEST) else [tag]
    return next((form for form in forms if request.if_none_match.contains_weak(form)), None)


def validated(answer: Response, tag: str, keeping: str = OWN) -> Response:
    """The answer with its ETag; or 304 without it, if the caller has it already."""
    form = known(tag)
    if form is not None:
        answer = Response(status=304)
        del answer.headers["Content-Type"]
    answer.set_etag(form or tag)
    answer.headers["Cache-Control"] = keeping
    if keeping == OWN:
        answer.vary.add("Authorization")
    return answer
