"""Verifik's API: a bearer JWT, `populates[]` that embeds related records, and an error shape for each mood."""

import base64
import json
from collections.abc import Sequence
from math import ceil

from flask import Blueprint, Response, request

from web.simulator.gate import Site, bearer, guard, json_response, page_number
from web.simulator.records import JsonObject, Record, section
from web.simulator.verifik_documents import OWNERS, RELATED, VOLATILE, stamp
from worker.clock import unix_seconds
from worker.domain.strict_json import Json, member

COLLECTIONS = {
    "app-registrations": "app-registration", "biometric-validations": "biometric-validation",
    "document-validations": "document-validation", "document-liveness": "document-liveness",
    "email-validations": "email-validation", "phone-validations": "phone-validation",
    "information-validations": "information-validation",
}  # fmt: skip
WEBHOOK_EVENTS = "webhook-events"
"""The log of webhooks; the simulator keeps those that did not arrive."""

ERRORS: dict[int, JsonObject] = {
    400: {"code": "BadRequest", "message": "bad request"},
    401: {"code": "Unauthorized", "message": "Invalid or expired token."},
    403: {"message": "Access forbidden", "code": "Forbidden"},
    404: {"message": "Record not found.", "code": "NotFound"},
    409: {"code": "MissingParameter", "message": "missing parameter\n"},
    429: {"error": True, "statusCode": 429, "message": "Too many requests"},
    500: {"error": True, "statusCode": 500, "message": "Internal server error"},
    503: {"error": "Service temporarily unavailable"},
}


class VerifikDialect:
    """Verifik's refusals. No headers are known."""

    default_limit: int | None = None

    def error(self, status: int) -> Response:
        response = json_response(ERRORS[status], status)
        if status == 429:
            response.headers["Retry-After"] = "2"
        return response

    def authenticate(self, site: Site) -> Response | None:
        granted = bearer(site.credentials.verifik_access_token)
        if granted is None:
            return json_response({"error": "Protected resource, use Authorization header to get access"}, 401)
        if granted:
            return None
        if _expired(request.headers["Authorization"].removeprefix("Bearer ")):
            return json_response({"code": "Forbidden", "message": "expired_token"}, 403)
        return json_response({**ERRORS[401], "signature": stamp(site.world.now())}, 401)

    def headers(self, limit: int, remaining: int, reset: int) -> dict[str, str]:
        return {}


def blueprint(site: Site) -> Blueprint:
    verifik = Blueprint("verifik", __name__)
    dialect = VerifikDialect()

    @verifik.get("/v2/<collection>/<external_id>")
    def one(collection: str, external_id: str) -> Response:
        record = site.world.by_id("verifik", external_id)
        if record is None or record.ref.kind != COLLECTIONS.get(collection):
            return _not_found(dialect, collection)
        body = site.world.serve(record)
        _populate(
            site,
            section(body, "data"),
            [*request.args.getlist("populates[]"), *request.args.getlist("populates")],
            record,
        )
        return json_response(body)

    @verifik.get("/v2/<collection>")
    def many(collection: str) -> Response:
        if collection not in (*COLLECTIONS, WEBHOOK_EVENTS):
            return dialect.error(404)
        size = page_number(request.args.get("perPage") or request.args.get("limit"), 10, 1, 100)
        page = page_number(request.args.get("page"), 1, 1, 1_000_000)
        if size is None or page is None:
            return dialect.error(409)
        found = [document for document in _documents(site, collection) if _wanted(document)]
        rows: list[Json] = [*found[(page - 1) * size : page * size]]
        return json_response(_envelope(collection, rows, (page, size, len(found))))

    guard(verifik, "verifik", site, dialect)
    return verifik


def _expired(token: str) -> bool:
    parts = token.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"]) < unix_seconds()
    except (IndexError, ValueError, KeyError, TypeError):
        return False


def _not_found(dialect: VerifikDialect, collection: str) -> Response:
    kind = COLLECTIONS.get(collection, "")
    if kind == "document-liveness":
        return json_response({"error": "Document liveness not found", "message": "DOCUMENT_LIVENESS_NOT_FOUND"}, 404)
    if kind in ("biometric-validation", "app-registration"):
        code = f"{kind.replace('-', '_')}_not_found"
        return json_response({"code": code, "message": f"404:{code}"}, 404)
    return dialect.error(404)


def _populate(site: Site, data: JsonObject, names: Sequence[str], record: Record) -> None:
    """Embed what was asked for; a dotted name embeds into what its first word embedded."""
    for name in sorted(names):
        first, _, rest = name.partition(".")
        if first in OWNERS and isinstance(data.get(first), str):
            data[first] = OWNERS[first]
        elif first == "compareFaceVerification" and first in data:
            data[first] = record.document.get(first)
        elif first in RELATED:
            _embed(site, data, first, rest)


def _embed(site: Site, data: JsonObject, member: str, rest: str) -> None:
    external_id = data.get(member)
    if isinstance(external_id, dict):
        external_id = external_id.get("_id")
    related = site.world.by_id("verifik", str(external_id))
    if related is None:
        return
    embedded = {name: value for name, value in related.document.items() if name not in VOLATILE}
    if rest:
        _populate(site, embedded, [rest], related)
    data[member] = embedded


def _documents(site: Site, collection: str) -> list[JsonObject]:
    """Everything in a list, newest first; `sort` can ask for no other order here."""
    if collection == WEBHOOK_EVENTS:
        return site.world.failed_webhooks()
    return [_listed(record) for record in site.world.find("verifik", COLLECTIONS[collection])]


def _wanted(document: JsonObject) -> bool:
    for name, value in request.args.items():
        verb, _, field = name.partition("_")
        actual = str(member(document, *field.split(".")))
        if verb == "where" and actual != value:
            return False
        if verb in ("whereGTE", "where>=") and actual < value:
            return False
        if verb in ("whereLTE", "where<=") and actual > value:
            return False
        if verb == "in" and actual not in request.args.getlist(name):
            return False
    return True


def _listed(record: Record) -> JsonObject:
    return {
        name: value
        for name, value in record.document.items()
        if name not in VOLATILE and name != "compareFaceVerification"
    }


def _envelope(collection: str, rows: list[Json], where: tuple[int, int, int]) -> JsonObject:
    page, size, total = where
    numbers: JsonObject = {"total": total, "limit": size, "page": page, "pages": ceil(total / size)}
    if collection in ("app-registrations", WEBHOOK_EVENTS):
        return {"data": rows, **numbers}
    return {"success": True, "data": rows, "pagination": numbers}
