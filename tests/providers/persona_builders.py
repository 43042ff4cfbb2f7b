"""What tests of Persona build their requests and documents from."""

import hashlib
import hmac
import json

from hypothesis import strategies as st

from worker.domain.model import ResourceRef
from worker.providers.persona import PersonaProvider
from worker.settings import Source

NOW = 1_764_686_826
SECRET = "wbhsec_current"
OTHER = "wbhsec_next"
PERSONA = PersonaProvider()
SELFIE = ResourceRef("verification/selfie", "ver_Selfie1")

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMES = [
    "data", "type", "id", "attributes", "relationships", "name", "payload", "status", "checks", "metadata", "reasons",
    "requirement", "created-at", "redacted-at", "inquiry", "verifications", "has-match", "match-score",
    "document-similarity-score",
]  # fmt: skip
SHAPED = st.recursive(
    JSON | st.sampled_from(["passed", "verification/selfie", "ver_Selfie1", "evt_1", "selfie/x", "redacted-at"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=8),
    max_leaves=12,
)


def source(**changes):
    values = {
        "slug": "persona-live",
        "provider": "persona",
        "webhook_secrets": (SECRET,),
        "api_key": "persona_sandbox_key",
        **changes,
    }
    return Source.model_validate(values)


def digest(secret, body, at=NOW):
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


def signature(secret, body, at=NOW):
    return f"t={at},v1={digest(secret, body, at)}"


def resource(kind, external_id, attributes=None, relationships=None):
    return {
        "type": kind,
        "id": external_id,
        "attributes": attributes or {},
        "relationships": {name: {"data": data} for name, data in (relationships or {}).items()},
    }


def event(name, subject, *, event_id="evt_1", **attributes):
    attributes = {"created-at": "2026-03-04T05:06:07.890Z", **attributes}
    data = {"type": "event", "id": event_id, "attributes": {"name": name, "payload": {"data": subject}, **attributes}}
    return json.dumps({"data": data}).encode()


def parse(body):
    return PERSONA.parse(source(), body)


def read(kind, attributes, relationships=None, external_id="ver_Selfie1"):
    document = {"data": resource(kind, external_id, attributes, relationships)}
    return PERSONA.read(source(), ResourceRef(kind, external_id), document)
