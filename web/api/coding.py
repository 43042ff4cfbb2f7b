"""gzip, for whoever takes it: lists and documents are mostly names that repeat.

Compressing what an attacker may steer beside what is secret tells the secret (BREACH). Here a browser sends no token by
itself, no answer holds one, and the answers that quote the request, problems, are never compressed.
"""

import gzip

from flask import Response, request
from werkzeug.datastructures import Accept

SHORTEST = 1024
"""Bytes. What is shorter fits into one packet anyway."""

LEVEL = 5
"""Of a megabyte of JSON level 9 takes three times as long, and leaves a few hundredths less."""

CODED = frozenset({"application/json", "text/html", "text/css", "text/javascript"})

SUFFIX = "-gzip"
"""Behind the tag of what is compressed: a strong ETag names bytes, and these are others."""


def is_wanted(size: int, accepted: Accept | None = None) -> bool:
    """Whether an answer of so many bytes is wanted compressed, by `accepted` or else by this request."""
    choices = request.accept_encodings if accepted is None else accepted
    wanted = choices.quality("gzip")
    names = {name.lower() for name, _ in choices}
    plain = choices.quality("identity") if names & {"identity", "*"} else None
    if wanted > 0 and plain == 0:
        # It would rather have no answer than a plain one.
        return True
    return wanted > 0 and wanted >= (plain or 0) and size >= SHORTEST


def compressed(body: bytes) -> bytes:
    """The body in gzip; the same bytes each time, because ETags rely on it."""
    return gzip.compress(body, LEVEL, mtime=0)


def encode(answer: Response) -> Response:
    """The answer to this request, compressed if it is worth it and wanted."""
    return encoded(answer, request.accept_encodings)


def encoded(answer: Response, accepted: Accept, packed: bytes | None = None) -> Response:
    """The answer for whoever sent this Accept-Encoding. `packed` is what it is compressed, if that was done before."""
    if answer.status_code == 304:
        answer.vary.add("Accept-Encoding")
    if answer.mimetype not in CODED or "Content-Encoding" in answer.headers:
        return answer
    answer.vary.add("Accept-Encoding")
    body = answer.get_data()
    if not is_wanted(len(body), accepted):
        return answer
    answer.set_data(compressed(body) if packed is None else packed)
    answer.headers["Content-Encoding"] = "gzip"
    tag, weak = answer.get_etag()
    if tag is not None:
        answer.set_etag(tag + SUFFIX, weak=bool(weak))
    return answer
