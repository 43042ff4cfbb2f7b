"""gu1's API: a bearer key and an organization, bare rows. The layout of its errors is undocumented; this is a guess."""

from flask import Blueprint, Response, request

from web.simulator.gate import Site, bearer, guard, json_response, page_number
from web.simulator.records import JsonObject, Record
from worker.domain.strict_json import Json

PATHS = {
    "/api/kyc/face-match/verifications": "face-match",
    "/api/kyc/id-verification/verifications": "id-verification",
    "/api/kyc/validations": "kyc-validation",
    "/api/kyc/biometric/sessions": "biometric-session",
    "/entities": "entity",
}
LISTED = ("face-match", "id-verification")
CODES = {400: "BAD_REQUEST", 401: "UNAUTHORIZED", 403: "NOT_ENABLED", 404: "NOT_FOUND", 409: "CONFLICT",
         429: "RATE_LIMITED", 500: "INTERNAL_ERROR", 503: "UNAVAILABLE"}  # fmt: skip


class Gu1Dialect:
    """gu1's refusals. A record of another organization does not exist; a missing organization is 'unauthorized'."""

    default_limit: int | None = None

    def error(self, status: int) -> Response:
        code = CODES[status]
        response = json_response({"error": code.replace("_", " ").capitalize(), "code": code}, status)
        if status == 429:
            response.headers["Retry-After"] = "2"
        return response

    def authenticate(self, site: Site) -> Response | None:
        organization = request.headers.get("X-Organization-Id")
        if not bearer(site.credentials.gu1_api_key) or organization is None:
            return self.error(401)
        return None if organization == site.credentials.gu1_organization_id else self.error(404)

    def headers(self, limit: int, remaining: int, reset: int) -> dict[str, str]:
        return {}


def blueprint(site: Site) -> Blueprint:
    gu1 = Blueprint("gu1", __name__)
    dialect = Gu1Dialect()
    for path, kind in PATHS.items():
        gu1.add_url_rule(f"{path}/<external_id>", endpoint=kind, view_func=_Reader(site, dialect, kind))
        if kind in LISTED:
            gu1.add_url_rule(path, endpoint=f"{kind}-list", view_func=_Lister(site, dialect, kind))

    @gu1.get("/api/kyc/entities/<entity_id>/validations")
    def validations(entity_id: str) -> Response:
        rows = _of_entity(site, entity_id)
        return json_response({"validations": rows, "total": len(rows), "page": 1, "limit": 100})

    @gu1.get("/api/kyc/entities/<entity_id>/current")
    def current(entity_id: str) -> Response:
        rows = _of_entity(site, entity_id)
        return json_response(rows[0]) if rows else dialect.error(404)

    guard(gu1, "gu1", site, dialect)
    return gu1


class _Reader:
    """The view that reads one row of a kind."""

    def __init__(self, site: Site, dialect: Gu1Dialect, kind: str) -> None:
        self._site, self._dialect, self._kind = site, dialect, kind

    def __call__(self, external_id: str) -> Response:
        record = self._site.world.by_id("gu1", external_id)
        if record is None or record.ref.kind != self._kind:
            return self._dialect.error(404)
        return json_response(self._site.world.serve(record))


class _Lister:
    """The view that lists the rows of a kind, newest first."""

    def __init__(self, site: Site, dialect: Gu1Dialect, kind: str) -> None:
        self._site, self._dialect, self._kind = site, dialect, kind

    def __call__(self) -> Response:
        limit = page_number(request.args.get("limit"), 50, 1, 100)
        offset = page_number(request.args.get("offset"), 0, 0, 1_000_000)
        if limit is None or offset is None:
            return self._dialect.error(400)
        found = [record for record in self._site.world.find("gu1", self._kind) if _wanted(record)]
        rows: list[Json] = [self._site.world.serve(record) for record in found[offset : offset + limit]]
        pagination: JsonObject = {"limit": limit, "offset": offset, "total": len(found)}
        return json_response({"verifications": rows, "pagination": pagination})


def _wanted(record: Record) -> bool:
    entity, status = request.args.get("entityId"), request.args.get("status")
    if request.args.get("withoutEntity") == "true" and record.document["entityId"] is not None:
        return False
    return entity in (None, record.document["entityId"]) and status in (None, record.status)


def _of_entity(site: Site, entity_id: str) -> list[Json]:
    found = site.world.find("gu1", "kyc-validation")
    return [site.world.serve(record) for record in found if record.document["entityId"] == entity_id]
