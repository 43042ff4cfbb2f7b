"""`/api/v1/openapi.json` and `/api/v1/docs`: what the API is, for programs and for people. Neither needs a token.

The page is Swagger UI, whose files come from a package; a browser loads nothing from anywhere else.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint
from importlib.resources import files

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

from web.api import caching
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
    make: Callable[[], bytes] = lru_cache(maxsize=1)(lambda: MAKER.load()(prefix, operations.values()))

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return _kept(make(), "application/json")

    @routes.get("/docs")
    def docs() -> Response:
        return _kept(_file(*PAGE[:2]), PAGE[2])

    @routes.get("/docs/<name>")
    def asset(name: str) -> Response:
        if name not in ASSETS:
            raise NotFound
        package, path, kind = ASSETS[name]
        return _kept(_file(package, path), kind)

    return routes


def _kept(body: bytes, kind: str) -> Response:
    answer = Response(body, mimetype=kind)
    answer.headers["Content-Security-Policy"] = POLICY
    return caching.validated(answer, caching.digest(body), ANYBODY)


@lru_cache(maxsize=len(ASSETS) + 1)
def _file(package: str, path: str) -> bytes:
    return _WITHOUT_MAP.sub(b"", files(package).joinpath(path).read_bytes())


_WITHOUT_MAP = re.compile(rb"\n/[*/]# sourceMappingURL=[^\n]*\s*\Z")
"""Behind a script, the name of a file that only its developers have."""
