"""New Persona resources: their attributes and relationships at the moment that they are created."""

from datetime import timedelta

from web.simulator import people
from web.simulator.records import (
    JsonObject,
    Make,
    Options,
    iso,
    optional_text,
)
from worker.domain.strict_json import Json

FILES = "https://files.withpersona.com/"
INQUIRY_TIMES = {
    "pending": "started-at", "completed": "completed-at", "failed": "failed-at", "expired": "expired-at",
    "needs_review": "marked-for-review-at", "approved": "decisioned-at", "declined": "decisioned-at",
}  # fmt: skip


def _one(kind: str, external_id: str | None) -> JsonObject:
    return {"data": {"type": kind, "id": external_id} if external_id else None}


def inquiry(make: Make, person: people.Person, options: Options) -> tuple[JsonObject, JsonObject]:
    now = iso(make.at)
    values: dict[str, str | None] = {
        "name-first": person.first_name, "name-middle": None, "name-last": person.last_name,
        "address-city": person.city, "address-country-code": person.country, "birthdate": person.birthdate,
        "email-address": person.email, "phone-number": person.phone, "identification-number": None,
    }  # fmt: skip
    times: JsonObject = dict.fromkeys([*INQUIRY_TIMES.values(), "redacted-at"])
    attributes: JsonObject = {
        "status": "created", "reference-id": optional_text(options, "reference"), "note": None, "behaviors": {},
        "tags": [], "creator": "API", "reviewer-comment": None, "created-at": now, "updated-at": now,
        "expires-at": iso(make.at + timedelta(days=1)), **times,
        "previous-step-name": "start", "next-step-name": "verification_selfie",
        "fields": {
            name: {"type": "date" if name == "birthdate" else "string", "value": value}
            for name, value in values.items()
        },
    }  # fmt: skip
    relationships: JsonObject = {
        "account": _one("account", optional_text(options, "account") or make.ids.persona("act")),
        "template": {"data": None},
        "inquiry-template": _one("inquiry-template", make.ids.persona("itmpl")),
        "inquiry-template-version": _one("inquiry-template-version", make.ids.persona("itmplv")),
        "transaction": {"data": None}, "reviewer": {"data": None}, "reports": {"data": []},
        "verifications": {"data": []}, "sessions": {"data": []}, "documents": {"data": []}, "selfies": {"data": []},
    }  # fmt: skip
    return attributes, relationships


def verification(kind: str, make: Make, person: people.Person, options: Options) -> tuple[JsonObject, JsonObject]:
    attributes: JsonObject = {
        "status": "initiated",
        **moment("created", make), "submitted-at": None, "submitted-at-ts": None,
        "completed-at": None, "completed-at-ts": None, "redacted-at": None,
        "country-code": person.country, "tags": [], "checks": [], **_details(kind, make, person),
    }  # fmt: skip
    what = kind.partition("/")[2]
    relationships: JsonObject = {
        "inquiry": _one("inquiry", optional_text(options, "parent")),
        "template": {"data": None},
        "inquiry-template": _one("inquiry-template", make.ids.persona("itmpl")),
        "inquiry-template-version": _one("inquiry-template-version", make.ids.persona("itmplv")),
        "transaction": {"data": None},
        "verification-template": _one(f"verification-template/{what}", make.ids.persona("vtmpl")),
        "verification-template-version": _one(f"verification-template-version/{what}", make.ids.persona("vtmplv")),
        "accounts": {"data": []},
    }  # fmt: skip
    return attributes, relationships


def moment(name: str, make: Make) -> JsonObject:
    return {f"{name}-at": iso(make.at), f"{name}-at-ts": int(make.at.timestamp())}


def _details(kind: str, make: Make, person: people.Person) -> JsonObject:
    if kind == "verification/selfie":
        return _selfie(make)
    if kind in ("verification/government-id", "verification/government-id-nfc"):
        return _government_id(make, person)
    if kind == "verification/phone-number":
        return {"phone-number": person.phone, "confirmation-code": f"{make.rng.randint(0, 999999):06d}", "metadata": {}}
    if kind == "verification/email-address":
        return {"email-address": person.email, "confirmation-code": f"{make.rng.randint(0, 999999):06d}"}
    if kind == "verification/document":
        return {
            "files": [_file(make, "statement.pdf")],
            "files-normalized": [],
            "extraction-responses": [],
            "fields": {},
        }
    return {"name-first": person.first_name, "name-last": person.last_name, "birthdate": person.birthdate}


def _file(make: Make, name: str) -> JsonObject:
    return {
        "filename": name,
        "url": f"{FILES}{make.ids.uuid()}-{name}",
        "byte-size": make.rng.randint(90_000, 3_000_000),
    }


def _selfie(make: Make) -> JsonObject:
    photos: list[Json] = [
        {"page": f"{side}_photo", **_file(make, f"selfie_{side}.jpg")} for side in ("left", "center", "right")
    ]
    urls: JsonObject = {
        f"{side}-photo-url": f"{FILES}{make.ids.uuid()}-{side}.jpg" for side in ("left", "center", "right")
    }
    return {
        "capture-method": "photo", **urls, "photo-urls": photos, "video-url": None,
        "center-photo-face-coordinates": {"top-left": [0.2, 0.5], "top-right": [0.5, 0.5],
                                          "bottom-left": [0.2, 0.7], "bottom-right": [0.5, 0.7]},
        "selfie-similarity-score-left": None, "selfie-similarity-score-right": None,
        "document-similarity-score": None, "entity-confidence-reasons": [], "from-reusable-persona": False,
    }  # fmt: skip


def _government_id(make: Make, person: people.Person) -> JsonObject:
    return {
        "front-photo-url": f"{FILES}{make.ids.uuid()}-front.jpg", "back-photo-url": None,
        "photo-urls": [{"page": "front", **_file(make, "front.jpg")}], "selfie-photo": _file(make, "portrait.jpg"),
        "video-url": None, "id-class": "pp", "capture-method": "auto", "entity-confidence-score": 100.0,
        "entity-confidence-reasons": ["generic"], "name-first": person.first_name.upper(), "name-middle": None,
        "name-last": person.last_name.upper(), "birthdate": person.birthdate, "address-street-1": None,
        "address-city": person.city, "issuing-authority": person.country, "nationality": person.country,
        "document-number": person.document_number, "identification-number": person.document_number,
        "issue-date": "2021-04-01", "expiration-date": "2031-03-31", "designations": [], "sex": None,
        "from-reusable-persona": False,
    }  # fmt: skip


def other(kind: str, make: Make, person: people.Person, options: Options) -> tuple[JsonObject, JsonObject]:
    fields: JsonObject = {"name-first": {"type": "string", "value": person.first_name}}
    attributes: JsonObject = {
        "status": None if kind == "account" else "created", "reference-id": optional_text(options, "reference"),
        "created-at": iso(make.at), "updated-at": iso(make.at), "redacted-at": None, "tags": [], "fields": fields,
    }  # fmt: skip
    if kind == "account":
        return {**attributes, "account-type-name": "User"}, {
            "account-type": _one("account-type", make.ids.persona("acttp"))
        }
    if kind.startswith("report/"):
        attributes |= {"status": "pending", "completed-at": None, "has-match": False, "term": person.full_name}
    return attributes, {"inquiry": _one("inquiry", optional_text(options, "parent"))}
