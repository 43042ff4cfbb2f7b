"""`/api/v1/openapi.json` and `/api/v1/docs`: what the API is, for programs and for people. Neither needs a token.

The page is Swagger UI, whose files come from a package; a browser loads nothing from anywhere else.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint
from importlib.resources import files

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from web.api import caching, coding
from web.api.operation import Operation

MAKER = EntryPoint("document", "web.api.openapi:document", "")
"""Named and not imported: what it loads is worth megabytes, and most processes are never asked."""

ANYBODY = "public, no-cache"
"""The same for everybody, so caches may keep it; a new release may change it, so they ask."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing inline and nothing from elsewhere: whoever holds a token types it into this page."""

ASSETS = {
    "swagger-ui.css": ("flask_swagger_ui", "dist/swagger-ui.css", "text/css"),
    "swagger-ui-bundle.js": ("flask_swagger_ui", "dist/swagger-ui-bundle.js", "text/javascript"),
    "docs.js": ("web.api", "docs.js", "text/javascript"),
}
PAGE = ("web.api", "docs.html", "text/html")


def blueprint(prefix: str, operations: Mapping[str, Operation]) -> Blueprint:
    """The routes of the document about `operations`, and of the page that shows it."""
    routes = Blueprint("description", __name__, url_prefix=prefix)

    @lru_cache(maxsize=1)
    def document() -> _Kept:
        return _keep(MAKER.load()(prefix, operations.values()))

    file: Callable[[str, str], _Kept] = lru_cache(maxsize=len(ASSETS) + 1)(lambda *path: _keep(_file(*path)))

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return _answer(document(), "application/json")

    @routes.get("/docs")
    def docs() -> Response:
        return _answer(file(*PAGE[:2]), PAGE[2])

    @routes.get("/docs/<name>")
    def asset(name: str) -> Response:
        if name not in ASSETS:
            raise NotFound
        package, path, kind = ASSETS[name]
        return _answer(file(package, path), kind)

    return routes


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is the same for everybody, in both forms and with its tag. Anybody may ask for it as often as they like, so
    that asking must cost next to nothing."""

    body: bytes
    packed: bytes
    tag: str


def _keep(body: bytes) -> _Kept:
    return _Kept(body, coding.compressed(body), caching.digest(body))


def _answer(kept: _Kept, kind: str) -> Response:
    answer = Response(kept.body, mimetype=kind)
    answer.headers["Content-Security-Policy"] = POLICY
    answer = caching.validated(answer, kept.tag, ANYBODY)
    return coding.encoded(answer, request.accept_encodings, kept.packed)


def _file(package: str, path: str) -> bytes:
    return _WITHOUT_MAP.sub(b"", files(package).joinpath(path).read_bytes())


_WITHOUT_MAP = re.compile(rb"\n/[*/]# sourceMappingURL=[^\n]*\s*\Z")
"""Behind a script, the name of a file that only its developers have."""
