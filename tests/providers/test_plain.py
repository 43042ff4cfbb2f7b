"""What each provider declares as not personal shows nobody, and is worth showing."""

import json
from collections.abc import Iterator

import pytest

from tests.providers.samples import samples
from tests.support.canaries import NUMBERS, PEOPLE, planted
from web.simulator.records import Record
from web.simulator.world import World
from worker.domain.documents import MASK, mask
from worker.domain.model import ResourceRef
from worker.domain.strict_json import Json, member
from worker.providers.registry import providers

KINDS = (
    ("persona", "inquiry"),
    ("persona", "account"),
    ("persona", "case"),
    ("persona", "transaction"),
    ("persona", "report/watchlist"),
    ("persona", "document/generic"),
    ("persona", "verification/government-id"),
    ("persona", "verification/selfie"),
    ("persona", "verification/database"),
    ("persona", "verification/email-address"),
    ("persona", "verification/phone-number"),
    ("verifik", "app-registration"),
    ("verifik", "biometric-validation"),
    ("verifik", "document-liveness"),
    ("verifik", "document-validation"),
    ("verifik", "email-validation"),
    ("verifik", "phone-validation"),
    ("verifik", "information-validation"),
    ("gu1", "kyc-validation"),
    ("gu1", "biometric-session"),
    ("gu1", "face-match"),
    ("gu1", "id-verification"),
    ("gu1", "entity"),
    ("yoti", "session"),
)
STATUS = {
    "persona": ("data", "attributes", "status"),
    "verifik": ("data", "status"),
    "gu1": ("status",),
    "yoti": ("state",),
}


def served(provider: str, kind: str, seed: int, action: str = "approve") -> tuple[Record, Json]:
    world = World(seed)
    record = world.create(provider, kind, reference="ada@example.com")
    try:
        record = world.change(record.ref, action)  # type: ignore[arg-type]
    except ValueError:
        # There is nothing to decide about this kind.
        record = world.change(record.ref, "update")
    return record, world.serve(record)


def plain(provider: str, kind: str) -> tuple[tuple[str, ...], ...]:
    return providers()[provider].paths(ResourceRef(kind, "x")).plain


@pytest.mark.parametrize(("provider", "kind"), KINDS)
def test_the_masked_document_names_nobody(provider: str, kind: str) -> None:
    for seed in range(5):
        _, document = served(provider, kind, seed)
        shown = json.dumps(mask(document, plain(provider, kind)))

        assert PEOPLE.findall(shown) == []
        assert NUMBERS.findall(shown) == []
        assert "http" not in shown
        assert MASK in shown


@pytest.mark.parametrize(("provider", "kind"), KINDS)
def test_the_masked_document_still_says_what_was_decided(provider: str, kind: str) -> None:
    record, document = served(provider, kind, 1)
    shown = mask(document, plain(provider, kind))
    status = member(document, *STATUS[provider])

    assert member(shown, *STATUS[provider]) == status
    assert record.ref.external_id in json.dumps(shown)
    assert provider == "yoti" or kind in ("account", "information-validation", "document-liveness") or status


@pytest.mark.parametrize(("provider", "kind"), KINDS)
def test_what_is_new_is_hidden(provider: str, kind: str) -> None:
    """A field that a provider adds tomorrow, wherever in the document."""
    _, document = served(provider, kind, 2)
    canaried = planted(document, plain(provider, kind), "canary-41")

    assert "canary-41" in json.dumps(canaried)
    assert "canary-41" not in json.dumps(mask(canaried, plain(provider, kind)))


@pytest.mark.parametrize(
    ("provider", "kind", "said"),
    [
        ("verifik", "app-registration", {"data": {"failedReason": "Quilfeather", "documentFaceReason": "1000000001"}}),
        ("verifik", "document-validation", {"infoValidationSupportedReason": "Quilfeather"}),
        ("verifik", "app-registration", {"data": {"manualVerificationReason": "1000000001"}}),
        ("gu1", "kyc-validation", {"warnings": ["Quilfeather", "1000000001"]}),
        ("gu1", "biometric-session", {"session": {"warnings": ["Quilfeather"]}}),
    ],
)
def test_one_word_of_what_may_be_any_text_is_hidden(provider: str, kind: str, said: Json) -> None:
    paths = providers()[provider].paths(ResourceRef(kind, "x"))
    reasons: Json = {"reasons": ["Quilfeather", "1000000001"]}

    assert {*leaves(mask(said, paths.plain))} == {MASK}
    assert provider == "verifik" or {*leaves(mask(reasons, paths.plain_checks))} == {MASK}


def leaves(value: Json) -> Iterator[Json]:
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from leaves(inner)
    if isinstance(value, str | int | float):
        yield value


@pytest.mark.parametrize(
    ("provider", "kind", "pattern"),
    [
        ("persona", "inquiry", "responses/get_[acdirtv]*_*-id__200*.json"),
        ("verifik", "app-registration", "*retrieve*.json"),
        ("verifik", "email-validation", "phone_validation_create.real.json"),
        ("gu1", "kyc-validation", "*_verification*.json"),
        ("yoti", "session", "*ession*.json"),
    ],
)
def test_the_providers_own_samples_show_words_and_numbers_only(provider: str, kind: str, pattern: str) -> None:
    files = sorted(samples(provider).glob(pattern))
    assert files
    for file in files:
        document: Json = json.loads(file.read_text())
        for leaf in leaves(mask(document, plain(provider, kind))):
            assert leaf == MASK or str(leaf) not in {
                "Jane", "Doe", "Jane Doe", "jane@doe.com", "John", "John Doe", "1994-04-12", "1999-01-15", "B12345678",
                "EXAMPLE PERSON", "user@example.com", "127.0.0.1", "192.168.1.1", "192.0.2.10", "Los Angeles",
                "1000000000", "123456789", "1234567890", "user-tracking-id", "someStringHere", "abc-123",
            }, file.name  # fmt: skip
            assert isinstance(leaf, bool | int | float) or not str(leaf).startswith("http"), file.name
