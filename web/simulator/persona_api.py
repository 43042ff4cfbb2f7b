"""Persona's API: bearer key, pinned version, JSON:API documents, rate headers on every authenticated answer."""

from collections.abc import Sequence
from itertools import count
from urllib.parse import quote

from flask import Blueprint, Response, request

from web.simulator.gate import Site, bearer, guard, json_response, page_number
from web.simulator.persona_documents import sign_files
from web.simulator.records import JsonObject, Record, Ref, section
from worker.domain.strict_json import Json

VERSIONS = frozenset(
    {"2025-12-08", "2025-10-27", "2023-01-05", "2022-09-01", "2021-08-18", "2021-07-05", "2021-02-21", "2020-05-18"}
)
NOTHING_INCLUDED_SINCE = "2025-10-27"
KEY_DEFAULT_VERSION = "2023-01-05"
"""What a request without `Persona-Version` gets: the key's own setting, an old one, so that forgetting it shows."""

TYPED = {
    "selfies": "selfie", "government-ids": "government-id", "government-id-nfcs": "government-id-nfc",
    "documents": "document", "databases": "database", "database-standards": "database-standard",
    "database-ecbsvs": "database-ecbsv", "database-phone-carriers": "database-phone-carrier",
    "database-serpros": "database-serpro", "database-tins": "database-tin", "aamvas": "aamva",
    "email-addresses": "email-address", "phone-numbers": "phone-number",
}  # fmt: skip
PLAIN = {
    "verifications": "verification/", "inquiries": "inquiry", "accounts": "account", "reports": "report/",
    "cases": "case", "transactions": "transaction", "documents": "document/", "inquiry-sessions": "inquiry-session",
}  # fmt: skip
INCLUDABLE = {"account", "verifications", "sessions", "documents", "selfies", "reports", "transaction", "reviewer",
              "inquiry-template", "inquiry-template-version", "template", "inquiry"}  # fmt: skip
ERRORS = {
    400: ("Bad Request", "the request is malformed"),
    401: ("Must be authenticated to access this endpoint", None),
    403: ("Forbidden", "IP address is not permitted access to current environment"),
    404: ("Record not found", None),
    409: ("Conflict", "Resource already exists as an active resource"),
    429: ("Rate limit exceeded", "You have hit your rate limit of requests / min."),
    500: ("Internal Server Error", None),
    503: ("Service unavailable", None),
}


class PersonaDialect:
    """Persona's errors and headers."""

    default_limit: int | None = 1_000_000

    def __init__(self) -> None:
        self._requests = count(1)

    def error(self, status: int, details: str | None = None) -> Response:
        title, usual = ERRORS[status]
        error: JsonObject = {"title": title}
        if details or usual:
            error["details"] = details or usual
        return json_response({"errors": [error]}, status)

    def authenticate(self, site: Site) -> Response | None:
        granted = bearer(site.credentials.persona_api_key)
        if not granted:
            return (
                self.error(401) if granted is None else json_response({"errors": [{"title": "Token is invalid"}]}, 401)
            )
        version = request.headers.get("Persona-Version")
        if version is not None and version not in VERSIONS:
            return self.error(400, "Persona-Version is not a known version")
        return None

    def headers(self, limit: int, remaining: int, reset: int) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(limit), "RateLimit-Remaining": str(remaining), "RateLimit-Reset": str(reset),
            "Request-Id": f"req_{next(self._requests):024d}", "Persona-Environment-Id": "env_simulatedEnvironment1",
            "Persona-Organization-Id": "org_simulatedOrganization",
        }  # fmt: skip


def blueprint(site: Site) -> Blueprint:
    persona = Blueprint("persona", __name__)
    dialect = PersonaDialect()

    @persona.get("/verification/<plural>/<external_id>")
    def typed_verification(plural: str, external_id: str) -> Response:
        return _one(site, dialect, external_id, f"verification/{TYPED[plural]}" if plural in TYPED else "-")

    @persona.get("/document/<plural>/<external_id>")
    def typed_document(plural: str, external_id: str) -> Response:
        return _one(site, dialect, external_id, f"document/{plural.removesuffix('s')}")

    @persona.get("/events")
    def events() -> Response:
        return _page(dialect, [event for event in site.world.events() if _wanted_event(event)], site)

    @persona.get("/rate-limits")
    def rate_limits() -> Response:
        limit = site.faults.get("persona").rate_limit_per_minute or dialect.default_limit or 0
        remaining, reset = site.faults.peek("persona", limit)
        attributes: JsonObject = {"limit": limit, "remaining": remaining, "seconds-to-reset": reset}
        return json_response({"data": [{"type": "rate-limit/api", "attributes": attributes}]})

    @persona.get("/<collection>/<external_id>")
    def plain(collection: str, external_id: str) -> Response:
        if collection == "events":
            return _event(site, dialect, external_id)
        return _one(site, dialect, external_id, PLAIN.get(collection, "-"))

    @persona.get("/<any(inquiries, accounts):collection>")
    def many(collection: str) -> Response:
        return _list(site, dialect, PLAIN[collection])

    guard(persona, "persona", site, dialect)
    return persona


def _one(site: Site, dialect: PersonaDialect, external_id: str, kind: str) -> Response:
    """`kind` is a whole kind, or the beginning of one when it ends in a slash."""
    record = site.world.by_id("persona", external_id)
    if record is None or not (record.ref.kind.startswith(kind) if kind.endswith("/") else record.ref.kind == kind):
        return dialect.error(404)
    wanted = request.args.get("include")
    names = [name.partition(".")[0] for name in wanted.split(",") if name] if wanted else []
    if not INCLUDABLE.issuperset(names):
        return dialect.error(400, "include names an unknown relationship")
    if wanted is None and request.headers.get("Persona-Version", KEY_DEFAULT_VERSION) < NOTHING_INCLUDED_SINCE:
        names = sorted(INCLUDABLE)
    body = site.world.serve(record)
    if names:
        body["included"] = _included(site, record, names)
    return json_response(body)


def _included(site: Site, record: Record, names: Sequence[str]) -> list[Json]:
    relationships = section(record.document, "relationships")
    found: list[Json] = []
    for name in names:
        relation = relationships.get(name)
        data = relation.get("data") if isinstance(relation, dict) else None
        for reference in data if isinstance(data, list) else [data]:
            if isinstance(reference, dict):
                related = site.world.get(Ref("persona", str(reference["type"]), str(reference["id"])))
                found += [site.world.serve(related)["data"]] if related else []
    return found


def _event(site: Site, dialect: PersonaDialect, external_id: str) -> Response:
    event = next((event for event in site.world.events() if event["id"] == external_id), None)
    return json_response({"data": sign_files(event, site.world.reading())}) if event else dialect.error(404)


def _list(site: Site, dialect: PersonaDialect, kind: str) -> Response:
    if "include" in request.args:
        return dialect.error(400, "include is not allowed on this endpoint")
    documents = [record.document for record in site.world.find("persona", kind) if _wanted_record(record)]
    return _page(dialect, documents, site)


def _wanted_record(record: Record) -> bool:
    attributes = section(record.document, "attributes")
    created = str(attributes["created-at"])
    conditions = {
        "inquiry-id": record.ref.external_id, "reference-id": attributes.get("reference-id"),
        "status": attributes.get("status"), "account-id": _account(record),
    }  # fmt: skip
    return (
        all(_matches(name, value) for name, value in conditions.items())
        and (request.args.get("filter[created-at-start]") or "") <= created
        and created <= (request.args.get("filter[created-at-end]") or "9")
    )


def _account(record: Record) -> Json:
    account = section(record.document, "relationships").get("account")
    data = account.get("data") if isinstance(account, dict) else None
    return data.get("id") if isinstance(data, dict) else None


def _wanted_event(event: JsonObject) -> bool:
    attributes = section(event, "attributes")
    subject = section(section(attributes, "payload"), "data")
    conditions = {"name": attributes["name"], "id": event["id"], "object-id": subject["id"]}
    return all(_matches(name, value) for name, value in conditions.items())


def _matches(name: str, value: Json) -> bool:
    wanted = request.args.get(f"filter[{name}]")
    return wanted is None or str(value) in wanted.split(",")


def _page(dialect: PersonaDialect, documents: list[JsonObject], site: Site) -> Response:
    size = page_number(request.args.get("page[size]"), 10, 1, 100)
    if size is None:
        return dialect.error(400, "page[size] must be between 1 and 100")
    ids = [str(document["id"]) for document in documents]
    after, before = request.args.get("page[after]"), request.args.get("page[before]")
    if (after and after not in ids) or (before and before not in ids):
        return dialect.error(400, "the cursor names no item of this list")
    if before:
        end = ids.index(before)
        start = max(0, end - size)
    else:
        start = ids.index(after) + 1 if after else 0
        end = min(len(ids), start + size)
    links: JsonObject = {
        "prev": _link("before", ids[start]) if 0 < start < end else None,
        "next": _link("after", ids[end - 1]) if start < end < len(ids) else None,
    }
    return json_response({"data": sign_files([*documents[start:end]], site.world.reading()), "links": links})


def _link(direction: str, external_id: str) -> str:
    kept = {name: value for name, value in request.args.items() if name not in ("page[after]", "page[before]")}
    query = "&".join(
        f"{quote(name)}={quote(value)}" for name, value in {**kept, f"page[{direction}]": external_id}.items()
    )
    # The links are relative and begin as on Persona's own host, whatever this simulator's prefix is.
    return f"/api/v1{request.path.partition('/api/v1')[2]}?{query}"
