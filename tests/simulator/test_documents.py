"""What the providers serve: the shapes of their documents, what changes from read to read, and what is the truth."""

from datetime import UTC, datetime

import pytest

from web.simulator.records import Action, Ref
from web.simulator.world import World

KINDS = [
    ("persona", "inquiry"),
    ("persona", "account"),
    ("persona", "verification/selfie"),
    ("persona", "verification/government-id"),
    ("persona", "verification/database"),
    ("persona", "verification/phone-number"),
    ("persona", "verification/email-address"),
    ("persona", "verification/document"),
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
]

ACTIONS: dict[str, Action] = {"account": "update", "id-verification": "decline"}


def fixed_clock():
    return datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(("provider", "kind"), KINDS)
def test_every_kind_can_be_read_and_its_digest_is_the_truth(caller, world, provider, kind):
    ref = world.create(provider, kind, reference="customer-1").ref
    first = caller.read(ref)
    changed = world.change(ref, ACTIONS.get(kind, "approve"))
    second, third = caller.read(ref), caller.read(ref)

    assert (first.status_code, second.status_code) == (200, 200)
    truth = world.truth()[ref]
    assert world.digest(provider, second.json()) == truth.digest == world.digest(provider, third.json())
    assert world.digest(provider, first.json()) != truth.digest
    assert changed.updated_at > changed.created_at
    assert truth.revision == 2


@pytest.mark.parametrize(("provider", "kind"), KINDS)
def test_a_seed_makes_the_same_documents(provider, kind):
    def document():
        world = World(42, clock=fixed_clock)
        ref = world.create(provider, kind).ref
        return world.change(ref, "update").document

    assert document() == document()
    assert (
        World(43, clock=fixed_clock).create(provider, kind).ref
        != World(42, clock=fixed_clock).create(provider, kind).ref
    )


def test_ids_look_like_the_providers(world):
    assert world.create("persona", "verification/selfie").ref.external_id.startswith("ver_")
    assert len(world.create("persona", "inquiry").ref.external_id) == len("inq_") + 24
    assert len(world.create("verifik", "app-registration").ref.external_id) == 24
    assert len(world.create("gu1", "face-match").ref.external_id) == 36
    with pytest.raises(ValueError, match="Yoti has no"):
        world.create("yoti", "inquiry")


def test_persona_file_urls_carry_a_fresh_token_at_each_read(caller, world):
    ref = world.create("persona", "verification/selfie").ref

    urls = [caller.read(ref).json()["data"]["attributes"]["center-photo-url"] for _ in range(2)]

    assert urls[0] != urls[1]
    assert urls[0].partition("?access_token=")[0] == urls[1].partition("?access_token=")[0]


def test_persona_selfie_has_checks_once_it_is_judged(caller, world):
    ref = world.create("persona", "verification/selfie").ref
    assert caller.read(ref).json()["data"]["attributes"]["checks"] == []

    world.change(ref, "decline")

    attributes = caller.read(ref).json()["data"]["attributes"]
    failed = {check["name"] for check in attributes["checks"] if check["status"] == "failed"}
    assert attributes["status"] == "failed"
    assert failed == {"selfie_liveness_detection", "selfie_glare_detection"}
    assert isinstance(attributes["completed-at-ts"], int)


def test_persona_inquiry_names_and_includes_its_verifications(caller, world):
    inquiry = world.create("persona", "inquiry").ref
    selfie = world.create("persona", "verification/selfie", parent=inquiry).ref

    plain = caller.read(inquiry).json()
    rich = caller.read(inquiry, "?include=verifications").json()

    assert plain["data"]["relationships"]["verifications"]["data"] == [{"type": selfie.kind, "id": selfie.external_id}]
    assert "included" not in plain
    assert [one["id"] for one in rich["included"]] == [selfie.external_id]
    assert caller.read(inquiry, "?include=nonsense").status_code == 400
    relation = caller.read(selfie).json()["data"]["relationships"]["inquiry"]["data"]
    assert relation == {"type": "inquiry", "id": inquiry.external_id}


def test_persona_redaction_blanks_the_inquiry_and_its_children_and_keeps_the_status(caller, world):
    inquiry = world.create("persona", "inquiry").ref
    selfie = world.create("persona", "verification/selfie", parent=inquiry).ref
    world.change(selfie, "approve")
    world.change(inquiry, "approve")

    world.change(inquiry, "redact")

    attributes = caller.read(inquiry).json()["data"]["attributes"]
    assert attributes["status"] == "approved"
    assert attributes["redacted-at"]
    assert all(field["value"] is None for field in attributes["fields"].values())
    child = caller.read(selfie).json()["data"]["attributes"]
    assert child["redacted-at"]
    assert child["checks"] == []
    with pytest.raises(ValueError, match="redacted already"):
        world.change(selfie, "redact")


def test_persona_lists_by_cursor_with_relative_links(caller, world):
    ids = [world.create("persona", "inquiry", reference=f"r{number}").ref.external_id for number in range(5)]

    first = caller.persona("/inquiries?page[size]=2").json()
    second = caller.persona(first["links"]["next"].removeprefix("/api/v1")).json()
    back = caller.persona(second["links"]["prev"].removeprefix("/api/v1")).json()

    assert [one["id"] for one in first["data"]] == ids[:2:-1]
    assert first["links"]["prev"] is None
    assert [one["id"] for one in second["data"]] == [ids[2], ids[1]]
    assert back["data"][0]["id"] == ids[4]
    assert [one["id"] for one in caller.persona("/inquiries?filter[reference-id]=r3").json()["data"]] == [ids[3]]
    assert caller.persona("/inquiries?filter[created-at-start]=2999-01-01").json()["data"] == []
    for wrong in ("page[size]=0", "page[after]=inq_unknown", "include=account"):
        assert caller.persona(f"/inquiries?{wrong}").status_code == 400


def test_persona_lists_events_newest_first(caller, world):
    inquiry = world.create("persona", "inquiry")
    older = world.emit(inquiry, "inquiry.created")
    newer = world.emit(world.change(inquiry.ref, "start"), "inquiry.started")

    assert [one["id"] for one in caller.persona("/events").json()["data"]] == [newer["id"], older["id"]]
    found = caller.persona(f"/events?filter[name]=inquiry.created&filter[object-id]={inquiry.ref.external_id}").json()
    assert [one["id"] for one in found["data"]] == [older["id"]]
    one = caller.persona(f"/events/{older['id']}").json()["data"]
    assert one["attributes"]["payload"]["data"]["attributes"]["status"] == "created"
    assert caller.persona("/events/evt_unknown").status_code == 404


def test_verifik_serves_both_shapes(caller, world):
    flat = world.create("verifik", "document-liveness", shape="flat").ref
    nested = world.create("verifik", "document-liveness", shape="nested").ref
    world.change(nested, "approve")

    first, second = caller.read(flat).json(), caller.read(nested).json()

    assert set(first) == {"data"}
    assert "status" not in first["data"]
    assert "sreenReplayScore" in first["data"]
    assert second["success"] is True
    assert second["data"]["status"] == "completed"
    assert second["data"]["validationResults"]["screenReplay"]["passed"] is True
    stamps = [caller.read(nested).json()["signature"]["dateTime"] for _ in range(2)]
    assert stamps[0] != stamps[1]


def test_verifik_embeds_what_populates_asks_for(caller, world):
    registration = world.create("verifik", "app-registration").ref
    liveness = world.create("verifik", "document-liveness").ref
    paper = world.create("verifik", "document-validation", parent=registration, liveness=liveness.external_id).ref
    world.change(registration, "approve")

    plain = caller.read(registration).json()
    rich = caller.read(
        registration,
        "?populates[]=documentValidation.documentLiveness&populates[]=documentValidation&populates[]=project"
        "&populates[]=compareFaceVerification&populates[]=biometricValidation",
    ).json()

    assert plain["data"]["documentValidation"] == paper.external_id
    assert isinstance(plain["data"]["compareFaceVerification"], str)
    assert rich["data"]["documentValidation"]["documentLiveness"]["_id"] == liveness.external_id
    assert rich["data"]["project"]["name"] == "Simulated project"
    assert rich["data"]["compareFaceVerification"]["result"]["passed"] is True
    assert rich["data"]["biometricValidation"] is None
    assert world.digest("verifik", rich) == world.digest("verifik", plain) == world.truth()[registration].digest


def test_verifik_lists_with_filters_and_pages(caller, world):
    first = world.create("verifik", "app-registration").ref
    second = world.change(world.create("verifik", "app-registration").ref, "start").ref

    everything = caller.verifik("/v2/app-registrations?perPage=1&page=2").json()
    started = caller.verifik("/v2/app-registrations?where_status=ONGOING").json()

    assert [one["_id"] for one in everything["data"]] == [first.external_id]
    assert (everything["total"], everything["pages"]) == (2, 2)
    assert [one["_id"] for one in started["data"]] == [second.external_id]
    assert caller.verifik("/v2/app-registrations?whereGTE_createdAt=2999-01-01").json()["data"] == []
    assert caller.verifik("/v2/app-registrations?in_status[]=FAILED").json()["data"] == []
    assert caller.verifik("/v2/biometric-validations").json()["pagination"]["total"] == 0
    assert caller.verifik("/v2/app-registrations?limit=1000").status_code == 409
    assert caller.verifik("/v2/unheard-of").status_code == 404


def test_gu1_serves_bare_rows_and_lists(caller, world):
    entity = world.create("gu1", "entity", reference="customer-9").ref
    match = world.create("gu1", "face-match", parent=entity, status="declined").ref
    validation = world.create("gu1", "kyc-validation", parent=entity).ref

    row = caller.read(match).json()

    assert (row["id"], row["status"], row["match"], row["threshold"]) == (match.external_id, "declined", False, 30)
    assert row["score"] < 30
    listed = caller.gu1(f"/api/kyc/face-match/verifications?entityId={entity.external_id}&status=declined").json()
    assert [one["id"] for one in listed["verifications"]] == [match.external_id]
    assert caller.gu1("/api/kyc/face-match/verifications?withoutEntity=true").json()["pagination"]["total"] == 0
    assert caller.gu1("/api/kyc/face-match/verifications?limit=1000").status_code == 400
    assert caller.gu1(f"/api/kyc/entities/{entity.external_id}/current").json()["id"] == validation.external_id
    assert caller.gu1(f"/api/kyc/entities/{entity.external_id}/validations").json()["total"] == 1
    assert caller.gu1("/api/kyc/entities/unknown/current").status_code == 404


def test_gu1_failed_face_match_has_no_score(world):
    ref = world.create("gu1", "face-match", status="approved").ref

    row = world.change(ref, "abandon").document

    assert (row["status"], row["score"], row["match"]) == ("failed", None, False)


def test_yoti_session_runs_down_and_loses_its_token(caller, world):
    ref = world.create("yoti", "session", checks=["LIVENESS", "FAMILIAR_FACE_SEARCH"]).ref
    ongoing = [caller.read(ref).json() for _ in range(2)]

    world.change(ref, "decline")
    completed = caller.read(ref).json()

    assert ongoing[0]["client_session_token"] == ongoing[1]["client_session_token"]
    assert ongoing[0]["client_session_token_ttl"] != ongoing[1]["client_session_token_ttl"]
    assert "client_session_token" not in completed
    assert completed["state"] == "COMPLETED"
    values = [check["report"]["recommendation"] for check in completed["checks"]]
    assert values == [{"value": "APPROVE"}, {"value": "REJECT", "reason": "MATCH_FOUND"}]
    assert completed["checks"][1]["config"]["approval_criteria"] == "NO_MATCH"


def test_yoti_session_can_change_after_it_completed(world):
    ref = world.create("yoti", "session").ref
    approved = world.change(ref, "approve")
    reversed_ = world.change(ref, "reverse")

    assert approved.document != reversed_.document
    assert world.change(ref, "expire").status == "EXPIRED"
    with pytest.raises(ValueError, match="cannot do that"):
        world.change(ref, "retry")


@pytest.mark.parametrize("provider_kind", [("persona", "inquiry"), ("gu1", "kyc-validation")])
def test_decisions_can_be_reversed(world, provider_kind):
    ref = world.create(*provider_kind).ref
    with pytest.raises(ValueError, match="cannot be reversed"):
        world.change(ref, "reverse")

    assert world.change(ref, "approve").status == "approved"
    assert world.change(ref, "reverse").status in ("declined", "rejected")
    assert world.change(ref, "reverse").status == "approved"


def test_deleted_records_are_gone_and_the_truth_says_so(caller, world):
    ref = world.create("yoti", "session").ref

    gone = world.change(ref, "redact")

    assert caller.read(ref).status_code == 404
    assert world.truth()[ref].digest is None
    assert gone.revision == 2
    assert world.get(ref) is None


def test_the_world_remembers_changes_and_calls(caller, world):
    ref = world.create("gu1", "kyc-validation").ref
    world.change(ref, "approve")
    caller.read(ref)
    caller.read(Ref("gu1", "kyc-validation", "unknown"))

    assert [(change.action, change.truth.status) for change in world.changes()] == [
        ("create", "pending"),
        ("approve", "approved"),
    ]
    assert [(call.external_id, call.status) for call in world.calls("gu1")] == [
        (ref.external_id, 200),
        ("unknown", 404),
    ]
    assert world.calls("persona") == []


def test_kinds_and_actions_that_do_not_exist_are_refused(world):
    for provider in ("persona", "verifik", "gu1"):
        with pytest.raises(ValueError, match="has no unheard-of"):
            world.create(provider, "unheard-of")
    inquiry = world.create("persona", "inquiry").ref
    with pytest.raises(ValueError, match="cannot do that"):
        world.change(inquiry, "abandon")


def test_verifik_judges_every_kind_both_ways(world):
    for kind, bad in [
        ("app-registration", "FAILED"),
        ("biometric-validation", "failed"),
        ("document-validation", "FAILED"),
        ("phone-validation", "failed"),
    ]:
        ref = world.create("verifik", kind, shape="flat").ref
        assert world.change(ref, "decline").status == bad
    ref = world.create("verifik", "biometric-validation", shape="flat").ref
    assert world.change(ref, "start").status == "sent"
    assert world.change(ref, "approve").status == "validated"
    assert world.change(ref, "reverse").status == "failed"
    assert world.change(ref, "reverse").status == "validated"
    nested = world.create("verifik", "document-liveness", shape="nested").ref
    assert world.change(nested, "start").status == "processing"
    assert (
        world.change(nested, "decline").document["confidence"] != world.change(nested, "reverse").document["confidence"]
    )


def test_the_root_says_what_this_is(caller):
    answer = caller.client.get(caller.simulator.url + "/").json()

    assert answer["simulator"] == "verisink"
    assert set(answer["providers"]) == {"persona", "verifik", "gu1", "yoti"}
