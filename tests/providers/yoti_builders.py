"""What tests of Yoti build their accounts, sessions and keys from."""

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import strategies as st

from worker.domain.model import ResourceRef
from worker.domain.strict_json import Json
from worker.settings import Source

SESSION_ID = "5c3f1f0e-2b6a-4f0d-8a2e-7d9b1c4e6f10"
REF = ResourceRef("session", SESSION_ID)
SDK_ID = "1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f9"

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
WORDS = st.sampled_from(
    ["LIVENESS", "DONE", "APPROVE", "REJECT", "COMPLETED", "EXPIRED", "ABORTED", "2026-01-01T10:00:00"]
)
ANY_CHECK = st.dictionaries(
    st.sampled_from(["id", "type", "state", "report", "created", "last_updated", "config", "resources_used"]),
    WORDS | ANY_JSON | st.fixed_dictionaries({"recommendation": st.fixed_dictionaries({"value": WORDS | ANY_JSON})}),
)
ANY_SESSION = st.dictionaries(
    st.sampled_from(["state", "resources", "user_tracking_id", "identity_profile", "advanced_identity_profile"]),
    WORDS | ANY_JSON | st.fixed_dictionaries({"result": WORDS, "identity_profile_report": ANY_JSON}),
)


def pem_of(key: RSAPrivateKey, layout: PrivateFormat = PrivateFormat.PKCS8, password: bytes | None = None) -> str:
    encryption: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, layout, encryption).decode()


def source(**settings) -> Source:
    base = {"slug": "yoti", "provider": "yoti", "notification_tokens": ("user:pass", "next"), "sdk_id": SDK_ID}
    return Source.model_validate({**base, **settings})


def check(kind: str, value: str | None = "APPROVE", *, state: str = "DONE", **members: Json) -> dict[str, Json]:
    """A check as Yoti lists it, with its recommendation."""
    report: Json = {"recommendation": {"value": value}, "breakdown": []}
    return {"id": f"id-{kind}", "type": kind, "state": state, **({"report": report} if value else {}), **members}


def session(*checks: Json, state: str = "COMPLETED", **members: Json) -> dict[str, Json]:
    return {"session_id": SESSION_ID, "state": state, "resources": {}, "checks": list(checks), **members}


def profile(result: str, *met: Json, reason: str | None = None) -> dict[str, Json]:
    schemes: list[Json] = [
        {"scheme": {"type": "DBS", "objective": f"O{n}"}, "requirements_met": value} for n, value in enumerate(met)
    ]
    failure: dict[str, Json] = {"failure_reason": {"reason_code": reason}} if reason else {}
    report: Json = {"trust_framework": "UK_TFIDA", "schemes_compliance": schemes}
    return {"result": result, "identity_profile_report": report, **failure}
