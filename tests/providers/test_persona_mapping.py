"""Persona: how its resources read, and what is not kept of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.persona_builders import NAMES, PERSONA, SELFIE, SHAPED, parse, read, resource, source
from tests.providers.samples import samples
from worker.domain.documents import content_digest, redact
from worker.domain.model import Drift, ResourceRef, Verdict
from worker.domain.states import CheckOutcome, Outcome, Stage
from worker.domain.strict_json import Json, parse_object
from worker.errors import UnexpectedDocument

STATUSES = [
    ("verification/selfie", "initiated", Stage.CREATED, Outcome.NONE, False),
    ("verification/email-address", "confirmed", Stage.IN_PROGRESS, Outcome.NONE, False),
    ("verification/selfie", "submitted", Stage.IN_PROGRESS, Outcome.NONE, False),
    ("verification/document", "tentatively_passed", Stage.IN_REVIEW, Outcome.NONE, False),
    ("verification/database-business", "tentatively_failed", Stage.IN_REVIEW, Outcome.NONE, False),
    ("verification/selfie", "passed", Stage.DECIDED, Outcome.APPROVED, True),
    ("verification/selfie", "failed", Stage.DECIDED, Outcome.REJECTED, True),
    ("verification/selfie", "requires_retry", Stage.DECIDED, Outcome.RESUBMIT, True),
    ("verification/selfie", "canceled", Stage.ABANDONED, Outcome.NONE, True),
    ("verification/aamva", "skipped", Stage.ABANDONED, Outcome.NONE, True),
    ("inquiry", "created", Stage.CREATED, Outcome.NONE, False),
    ("inquiry", "pending", Stage.IN_PROGRESS, Outcome.NONE, False),
    ("inquiry", "completed", Stage.IN_REVIEW, Outcome.NONE, False),
    ("inquiry", "needs_review", Stage.IN_REVIEW, Outcome.NONE, False),
    ("inquiry", "failed", Stage.DECIDED, Outcome.REJECTED, False),
    ("inquiry", "approved", Stage.DECIDED, Outcome.APPROVED, True),
    ("inquiry", "declined", Stage.DECIDED, Outcome.REJECTED, True),
    ("inquiry", "expired", Stage.EXPIRED, Outcome.NONE, True),
    ("report/watchlist", "pending", Stage.IN_PROGRESS, Outcome.NONE, False),
    ("report/address-lookup", "submitted", Stage.IN_PROGRESS, Outcome.NONE, False),
    ("report/watchlist", "ready", Stage.DECIDED, Outcome.NONE, True),
    ("report/watchlist", "errored", Stage.ABANDONED, Outcome.NONE, True),
    ("document/generic", "initiated", Stage.CREATED, Outcome.NONE, False),
    ("document/generic", "submitted", Stage.IN_PROGRESS, Outcome.NONE, False),
    ("document/generic", "processed", Stage.DECIDED, Outcome.NONE, True),
    ("document/generic", "errored", Stage.ABANDONED, Outcome.NONE, True),
    ("transaction", "whatever the customer calls it", Stage.UNMAPPED, Outcome.NONE, False),
    ("account", "Approved", Stage.CREATED, Outcome.NONE, False),
]


class TestRead:
    @pytest.mark.parametrize(("kind", "status", "stage", "outcome", "final"), STATUSES)
    def test_status(self, kind, status, stage, outcome, final):
        reading = read(kind, {"status": status})

        assert reading.verdict == Verdict(stage, outcome, final)
        assert reading.provider_status == status
        assert reading.drift == ()

    @pytest.mark.parametrize("kind", ["verification/selfie", "inquiry", "report/watchlist", "document/generic"])
    @pytest.mark.parametrize(
        ("status", "shown"), [("teleported", "teleported"), ("Passed", "Passed"), (None, "(missing)")]
    )
    def test_an_unknown_status_is_never_guessed(self, kind, status, shown):
        reading = read(kind, {"status": status})

        assert reading.verdict == Verdict(Stage.UNMAPPED, Outcome.NONE, final=False)
        assert reading.provider_status == status
        assert reading.drift == (Drift("status", shown),)

    @pytest.mark.parametrize(("resolved", "stage"), [(None, Stage.IN_REVIEW), ("2026-01-01T00:00:00Z", Stage.DECIDED)])
    def test_a_case_is_read_by_whether_it_is_resolved(self, resolved, stage):
        reading = read("case", {"status": "Waiting for Bob", "resolved-at": resolved})

        assert reading.verdict == Verdict(stage, Outcome.NONE, final=False)
        assert (reading.derived, reading.provider_status, reading.drift) == (True, "Waiting for Bob", ())

    def test_an_account_keeps_its_own_status(self):
        assert read("account", {"account-status": "Approved"}).provider_status == "Approved"

    @pytest.mark.parametrize("kind", ["verification/selfie", "inquiry", "account", "case", "report/watchlist"])
    def test_a_redaction_erases(self, kind):
        reading = read(kind, {"status": "passed", "redacted-at": "2026-01-01T00:00:00Z"})

        assert reading.verdict == Verdict(Stage.ERASED, Outcome.NONE, final=True)
        assert reading.provider_status == "passed"

    def test_a_monitored_report_may_change_by_itself(self):
        assert read("report/watchlist", {"status": "ready", "is-continuous": True}).verdict.final is False

    @pytest.mark.parametrize(("matched", "outcome"), [(True, CheckOutcome.WARNING), (False, CheckOutcome.PASSED)])
    def test_a_hit_in_a_screening_is_a_warning(self, matched, outcome):
        [check] = read("report/watchlist", {"status": "ready", "has-match": matched}).checks

        assert (check.name, check.outcome) == ("match", outcome)

    @pytest.mark.parametrize(("kind", "status"), [("report/profile", "ready"), ("report/watchlist", "errored")])
    def test_elsewhere_a_match_says_nothing(self, kind, status):
        assert read(kind, {"status": status, "has-match": True}).checks == ()

    def test_checks(self):
        metadata = {"match-score": 0.87, "match-result": "partial"}
        passed, failed, odd = read(
            "verification/database",
            {
                "status": "passed",
                "checks": [
                    {"name": "a", "status": "passed", "reasons": [], "requirement": "required", "metadata": metadata},
                    {"name": "b", "status": "failed", "reasons": ["x", None, 1], "requirement": "not_required"},
                    {"name": "c", "status": "not_applicable", "reasons": None, "metadata": {}},
                    {"status": "passed"},
                    None,
                ],
            },
        ).checks

        assert (passed.outcome, passed.required, passed.score) == (CheckOutcome.PASSED, True, 0.87)
        assert passed.details == {"requirement": "required", "metadata": metadata}
        assert (failed.outcome, failed.required, failed.reasons) == (CheckOutcome.FAILED, False, ("x",))
        assert failed.provider_outcome == "failed"
        assert (odd.outcome, odd.required, odd.reasons) == (CheckOutcome.NOT_APPLICABLE, None, ())
        assert odd.details == {}

    def test_a_check_that_sends_the_person_back_is_required(self):
        check = {"name": "selfie_liveness_detection", "status": "failed", "requirement": "requires_retry"}
        reading = read("verification/selfie", {"status": "requires_retry", "checks": [check]})

        assert (reading.checks[0].required, reading.drift) == (True, ())

    def test_unknown_words_in_a_check_are_drift(self):
        checks = [{"name": name, "status": "glowing", "requirement": "optional"} for name in "ab"]
        reading = read("verification/selfie", {"status": "passed", "checks": checks})

        assert [check.outcome for check in reading.checks] == [CheckOutcome.UNKNOWN] * 2
        assert [check.required for check in reading.checks] == [None, None]
        assert reading.drift == (Drift("checks.status", "glowing"), Drift("checks.requirement", "optional"))

    def test_a_selfies_score_is_its_weakest_similarity(self):
        scores = {"selfie-similarity-score-left": 99.5, "selfie-similarity-score-right": 98, "video-url": None}

        assert read("verification/selfie", scores).score == 98
        assert read("verification/selfie", {**scores, "document-similarity-score": 71.25}).score == 71.25
        assert read("verification/selfie", {"document-similarity-score": None}).score is None
        assert read("verification/government-id", {"document-similarity-score": 50}).score is None

    def test_times_and_reference(self):
        moment = "2026-01-0{}T00:00:00.000Z"
        reading = read(
            "inquiry",
            {
                "reference-id": "customer-7",
                "created-at": moment.format(1),
                "updated-at": moment.format(2),
                "completed-at": None,
                "decisioned-at": moment.format(3),
            },
        )
        moments = (reading.provider_created_at, reading.provider_updated_at, reading.completed_at)

        assert reading.reference == "customer-7"
        assert [moment.day for moment in moments if moment] == [1, 2, 3]

    @pytest.mark.parametrize("inquiry", [{}, {"data": None}, None, []])
    def test_a_missing_inquiry_is_no_trouble(self, inquiry):
        data = {**resource("verification/selfie", "ver_Selfie1"), "relationships": {"inquiry": inquiry}}

        assert PERSONA.read(source(), SELFIE, {"data": data}).related == ()

    def test_an_inquiry_leads_to_its_verifications_only(self):
        named = [{"type": "verification/selfie", "id": "ver_1"}, {"type": "verification/mdoc", "id": "ver_2"}]
        relationships = {
            "verifications": [*named, named[0], {"type": "verification/x", "id": "a/b"}, {"id": "ver_3"}, {}],
            "documents": [{"type": "document/generic", "id": "doc_1"}],
            "reports": [{"type": "report/watchlist", "id": "rep_1"}],
        }

        refs = (ResourceRef("verification/selfie", "ver_1"), ResourceRef("verification/mdoc", "ver_2"))
        assert read("inquiry", {"status": "approved"}, relationships).related == refs
        assert read("transaction", {}, relationships).related == ()

    def test_an_erased_inquiry_leads_to_everything_that_may_be_erased_with_it(self):
        relationships = {
            "account": {"type": "account", "id": "act_1"},
            "verifications": [{"type": "verification/selfie", "id": "ver_1"}] * 2,
            "documents": [{"type": "document/generic", "id": "doc_1"}, {"type": "document/generic", "id": "../x"}],
            "reports": [{"type": "report/watchlist", "id": "rep_1"}, None],
            "selfies": [{"type": "selfie/center-only", "id": "self_1"}],
        }
        reading = read("inquiry", {"status": "approved", "redacted-at": "2026-01-01T00:00:00Z"}, relationships)

        assert reading.related == (
            ResourceRef("verification/selfie", "ver_1"),
            ResourceRef("document/generic", "doc_1"),
            ResourceRef("report/watchlist", "rep_1"),
        )

    @pytest.mark.parametrize(
        "document",
        [
            {},
            {"data": None},
            {"data": []},
            {"errors": [{"title": "Record not found"}]},
            {"data": {"type": "verification/selfie"}},
            {"data": {"type": "verification/selfie", "id": "ver_Other"}},
            {"data": {"type": "verification/government-id", "id": "ver_Selfie1"}},
            {"data": {"type": None, "id": "ver_Selfie1"}},
        ],
    )
    def test_another_resource_is_unexpected(self, document):
        with pytest.raises(UnexpectedDocument):
            PERSONA.read(source(), SELFIE, document)

    def test_a_missing_type_is_tolerated(self):
        document: dict[str, Json] = {"data": {"id": "ver_Selfie1", "attributes": {"status": "passed"}}}

        assert PERSONA.read(source(), SELFIE, document).verdict.outcome is Outcome.APPROVED


class TestPaths:
    def test_confirmation_codes_are_redacted_wherever_they_are(self):
        code: Json = {"confirmation-code": "123456", "status": "confirmed"}
        document: Json = {"data": {"attributes": code}, "included": [{"attributes": code}]}

        redacted, found = redact(document, PERSONA.paths(ResourceRef("inquiry", "inq_1")).secrets)

        assert found
        assert "123456" not in json.dumps(redacted)
        assert json.dumps(redacted).count("confirmed") == 2

    def test_a_fresh_file_token_is_no_new_document(self):
        def document(token, name="a.jpg"):
            return {"data": {"attributes": {"photo-urls": [{"url": f"https://f.test/{name}?access_token={token}"}]}}}

        volatile = PERSONA.paths(SELFIE).volatile

        assert content_digest(document("1"), volatile) == content_digest(document("2"), volatile)
        assert content_digest(document("1"), volatile) != content_digest(document("1", "b.jpg"), volatile)


class TestAnyShape:
    @given(st.dictionaries(st.sampled_from(NAMES), SHAPED))
    def test_read_raises_its_own_error_only(self, document):
        with pytest.raises(UnexpectedDocument):
            PERSONA.read(source(), ResourceRef("case", "case_not_there"), document)

    @given(SHAPED, SHAPED, st.sampled_from(["verification/selfie", "inquiry", "report/watchlist", "case", "account"]))
    def test_read_takes_any_content_of_the_right_resource(self, attributes, relationships, kind):
        data = {"type": kind, "id": "x_1", "attributes": attributes, "relationships": relationships}

        PERSONA.read(source(), ResourceRef(kind, "x_1"), {"data": data})


class TestSamples:
    def test_every_webhooks_resource_reads_without_drift(self):
        for path in sorted((samples("persona") / "webhooks").glob("*.json")):
            [*refs] = parse(path.read_bytes()).resources
            payload = json.loads(path.read_bytes())["data"]["attributes"]["payload"]
            if refs and payload["data"]["type"] == refs[0].kind:
                reading = PERSONA.read(source(), refs[0], payload)

                assert reading.drift == (), path.name
                if path.name in ("inquiry.redacted.json", "case.redacted.json"):
                    assert reading.verdict.stage is Stage.ERASED, path.name

    def test_every_response_reads(self):
        read_kinds = set()
        for path in sorted((samples("persona") / "responses").glob("get_*.json")):
            document = parse_object(path.read_bytes())
            data = document.get("data")
            if isinstance(data, dict) and (kind := str(data["type"])).partition("/")[0] in {"verification", "inquiry"}:
                reading = PERSONA.read(source(), ResourceRef(kind, str(data["id"])), document)
                read_kinds.add(kind)

                assert reading.verdict.stage is not Stage.UNMAPPED, path.name
                assert reading.drift == (), path.name
        assert len(read_kinds) > 10
