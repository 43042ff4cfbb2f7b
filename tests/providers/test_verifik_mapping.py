"""Verifik: how its records read in every documented shape, and what is not kept of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.samples import samples
from worker.domain.documents import content_digest, redact
from worker.domain.model import Drift, ResourceRef, Verdict
from worker.domain.states import CheckOutcome, Outcome, Stage
from worker.domain.strict_json import Json, parse_object
from worker.errors import NothingFound, UnexpectedDocument
from worker.providers.verifik import VerifikProvider
from worker.providers.verifik_mapping import STATUSES
from worker.settings import Source

ID = "674de8df21c72be3cc42b8a7"
OTHER_ID = "674de8df21c72be3cc42b8a8"
VERIFIK = VerifikProvider()
SOURCE = Source.model_validate({"slug": "verifik", "provider": "verifik"})


def read(kind, **record):
    return VERIFIK.read(SOURCE, ResourceRef(kind, ID), {"data": {"_id": ID, **record}})


def outcomes(reading):
    return {check.name: check.outcome for check in reading.checks}


CASES = [
    ("app-registration", "STARTED", Stage.CREATED, Outcome.NONE, False),
    ("app-registration", "ONGOING", Stage.IN_PROGRESS, Outcome.NONE, False),
    ("app-registration", "NEEDS_MANUAL_VERIFICATION", Stage.IN_REVIEW, Outcome.NONE, False),
    ("app-registration", "COMPLETED", Stage.DECIDED, Outcome.APPROVED, True),
    ("app-registration", "completed", Stage.DECIDED, Outcome.APPROVED, True),
    ("app-registration", "COMPLETED_WITHOUT_KYC", Stage.DECIDED, Outcome.NONE, True),
    ("app-registration", "FAILED", Stage.DECIDED, Outcome.REJECTED, True),
    ("app-registration", "EXPIRED", Stage.EXPIRED, Outcome.NONE, True),
    ("biometric-validation", "new", Stage.CREATED, Outcome.NONE, False),
    ("biometric-validation", "sent", Stage.IN_PROGRESS, Outcome.NONE, False),
    ("biometric-validation", "pending", Stage.IN_PROGRESS, Outcome.NONE, False),
    ("biometric-validation", "validated", Stage.DECIDED, Outcome.APPROVED, True),
    ("biometric-validation", "completed", Stage.DECIDED, Outcome.APPROVED, True),
    ("biometric-validation", "failed", Stage.DECIDED, Outcome.REJECTED, True),
    ("biometric-validation", "expired", Stage.EXPIRED, Outcome.NONE, True),
    ("document-validation", "new", Stage.CREATED, Outcome.NONE, False),
    ("document-validation", "pending", Stage.IN_PROGRESS, Outcome.NONE, False),
    ("document-validation", "ASSESSING", Stage.IN_PROGRESS, Outcome.NONE, False),
    ("document-validation", "NEEDS_MANUAL_VERIFICATION", Stage.IN_REVIEW, Outcome.NONE, False),
    ("document-validation", "ACTIVE", Stage.DECIDED, Outcome.APPROVED, True),
    ("document-validation", "ACTIVE_BUT_UNVERIFIED", Stage.DECIDED, Outcome.INCONCLUSIVE, False),
    ("document-validation", "NOT_FOUND", Stage.DECIDED, Outcome.INCONCLUSIVE, False),
    ("document-validation", "completed", Stage.DECIDED, Outcome.NONE, True),
    ("document-validation", "FAILED", Stage.DECIDED, Outcome.REJECTED, True),
    ("document-validation", "EXPIRED", Stage.EXPIRED, Outcome.NONE, True),
    ("document-liveness", "new", Stage.CREATED, Outcome.NONE, False),
    ("document-liveness", "processing", Stage.IN_PROGRESS, Outcome.NONE, False),
    ("document-liveness", "completed", Stage.DECIDED, Outcome.NONE, True),
    ("document-liveness", "failed", Stage.DECIDED, Outcome.REJECTED, True),
    ("email-validation", "new", Stage.CREATED, Outcome.NONE, False),
    ("email-validation", "sent", Stage.IN_PROGRESS, Outcome.NONE, False),
    ("email-validation", "validated", Stage.DECIDED, Outcome.APPROVED, True),
    ("phone-validation", "failed", Stage.DECIDED, Outcome.REJECTED, True),
    ("phone-validation", "expired", Stage.EXPIRED, Outcome.NONE, True),
]


class TestStatus:
    @pytest.mark.parametrize(("kind", "status", "stage", "outcome", "final"), CASES)
    def test_known(self, kind, status, stage, outcome, final):
        reading = read(kind, status=status)

        assert reading.verdict == Verdict(stage, outcome, final)
        assert (reading.provider_status, reading.derived, reading.drift) == (status, False, ())

    @pytest.mark.parametrize("kind", STATUSES)
    def test_unknown(self, kind):
        reading = read(kind, status="TELEPORTED")

        assert reading.verdict == Verdict(Stage.UNMAPPED, Outcome.NONE, final=False)
        assert (reading.provider_status, reading.drift) == ("TELEPORTED", (Drift("status", "TELEPORTED"),))

    @pytest.mark.parametrize("kind", STATUSES)
    def test_missing(self, kind):
        reading = read(kind)

        assert reading.verdict.stage is Stage.UNMAPPED
        assert bool(reading.drift) is (kind != "information-validation")


class TestDocumentLiveness:
    @pytest.mark.parametrize(("is_live", "outcome"), [(True, Outcome.APPROVED), (False, Outcome.REJECTED)])
    @pytest.mark.parametrize("extra", [{}, {"status": "completed"}, {"aggregatedScore": 0.5}])
    def test_is_live_decides(self, is_live, outcome, extra):
        reading = read("document-liveness", isLive=is_live, **extra)

        assert reading.verdict == Verdict(Stage.DECIDED, outcome, final=True)
        assert (reading.derived, reading.drift) == (False, ())

    @pytest.mark.parametrize(
        ("passed", "outcome", "derived"),
        [
            ([True, True], Outcome.APPROVED, True),
            ([True, False], Outcome.REJECTED, True),
            ([False, None], Outcome.REJECTED, True),
            ([True, None], Outcome.NONE, False),
            ([1, "yes"], Outcome.NONE, False),
            ([0, None], Outcome.NONE, False),
            ([], Outcome.NONE, False),
        ],
    )
    def test_nested_results_decide_a_completed_one(self, passed, outcome, derived):
        results = {f"test{number}": {"passed": value} for number, value in enumerate(passed)}
        reading = read("document-liveness", status="completed", validationResults=results)

        assert reading.verdict == Verdict(Stage.DECIDED, outcome, final=True)
        assert reading.derived is derived

    @pytest.mark.parametrize(("status", "stage"), [("processing", Stage.IN_PROGRESS), ("failed", Stage.DECIDED)])
    def test_nested_results_do_not_overrule_another_status(self, status, stage):
        reading = read("document-liveness", status=status, validationResults={"screenReplay": {"passed": True}})

        assert reading.verdict.stage is stage
        assert reading.verdict.outcome is not Outcome.APPROVED

    def test_nested_checks(self):
        reading = read(
            "document-liveness",
            status="completed",
            validationResults={
                "screenReplay": {"passed": True, "score": 0.95, "details": "no replay"},
                "sreenReplay": {"passed": None},
                "digitalManipulation": {"passed": False, "score": 0.1},
                "printedCopy": "odd",
            },
        )
        first, second, third = reading.checks

        assert (first.name, first.outcome, first.score) == ("screen_replay", CheckOutcome.PASSED, 0.95)
        assert first.details == {"details": "no replay"}
        assert (second.name, second.outcome) == ("screen_replay", CheckOutcome.UNKNOWN)
        assert (third.name, third.outcome, third.details) == ("digital_manipulation", CheckOutcome.FAILED, {})

    @pytest.mark.parametrize("score", [-0.124236, 0, 0.5, 10.725])
    @pytest.mark.parametrize(
        "name", ["sreenReplayScore", "screenReplayScore", "aggregatedScore", "printedCopyProbability"]
    )
    def test_a_flat_score_finishes_and_decides_nothing(self, name, score):
        reading = read("document-liveness", **{name: score})

        assert reading.verdict == Verdict(Stage.DECIDED, Outcome.NONE, final=True)
        assert (reading.derived, reading.score, reading.provider_status, reading.drift) == (True, None, None, ())

    def test_flat_checks_in_both_spellings(self):
        reading = read(
            "document-liveness",
            validateScreenReplay=True,
            sreenReplayScore=0.42,
            screenReplayProbability=0.0019,
            sreenReplayCalibration="REGULAR",
            screenReplayWarnings=["GLARE_ON_IMAGE", None],
            screenReplayErrors=["BLURRED"],
            validatePrintedCopy=False,
            portraitSubstitutionScore=10.7,
            aggregatedScore=0.000001,
        )
        replay, copy, portrait = reading.checks

        assert (replay.name, replay.outcome, replay.score) == ("screen_replay", CheckOutcome.UNKNOWN, 0.42)
        assert replay.reasons == ("GLARE_ON_IMAGE", "BLURRED")
        assert replay.details == {"probability": 0.0019, "calibration": "REGULAR"}
        assert (copy.name, copy.outcome) == ("printed_copy", CheckOutcome.NOT_APPLICABLE)
        assert (portrait.name, portrait.outcome, portrait.score) == (
            "portrait_substitution",
            CheckOutcome.UNKNOWN,
            10.7,
        )


class TestBiometricValidation:
    def test_the_stored_shape(self):
        reading = read(
            "biometric-validation",
            status="validated",
            livenessScore=0.85,
            response={"liveness": {"score": 0.8, "status": "passed"}, "persons": [{"name": "Jane", "score": 0.92}]},
        )
        [check] = reading.checks

        assert reading.score == 0.85
        assert (check.name, check.outcome, check.provider_outcome) == ("liveness", CheckOutcome.PASSED, "passed")
        assert check.score == 0.85

    def test_the_documented_shape(self):
        reading = read(
            "biometric-validation",
            status="completed",
            identifier="customer-7",
            biometricData={"livenessScore": 0.95, "quality": "good"},
            verificationResults={
                "livenessDetection": "passed",
                "identityMatch": "failed",
                "antiSpoofing": "weird",
                "qualityScore": 0.9,
            },
        )

        assert (reading.score, reading.reference) == (0.95, "customer-7")
        assert outcomes(reading) == {
            "liveness": CheckOutcome.PASSED,
            "identity_match": CheckOutcome.FAILED,
            "anti_spoofing": CheckOutcome.UNKNOWN,
        }

    def test_a_score_alone_decides_no_check(self):
        assert outcomes(read("biometric-validation", status="failed", livenessScore=0.1)) == {
            "liveness": CheckOutcome.UNKNOWN
        }

    @pytest.mark.parametrize(
        ("reason", "name", "outcome", "reasons"),
        [
            ("409:liveness_failed@0.45", "liveness", CheckOutcome.FAILED, ("liveness_failed",)),
            ("liveness_error", "liveness", CheckOutcome.UNKNOWN, ("liveness_error",)),
            ("poor_lighting", "image_quality", CheckOutcome.FAILED, ("poor_lighting",)),
            ("409:some_code_of_next_year", "failure", CheckOutcome.FAILED, ("some_code_of_next_year",)),
        ],
    )
    def test_the_reason_of_a_failure(self, reason, name, outcome, reasons):
        [check] = read("biometric-validation", status="failed", failedReason=reason).checks

        assert (check.name, check.outcome, check.reasons) == (name, outcome, reasons)

    @pytest.mark.parametrize("reason", ["Jane Doe was not found", "TypeError: x", "", None, 7, {"a": 1}])
    def test_free_text_is_no_reason(self, reason):
        assert read("biometric-validation", status="failed", failedReason=reason).checks == ()


class TestDocumentValidation:
    def test_the_stored_shape_before_anything_was_looked_at(self):
        reading = read(
            "document-validation",
            status="ACTIVE_BUT_UNVERIFIED",
            infoValidationSupported=True,
            infoValidationSupportedReason="",
            namesMatch=False,
            fullNameMatchPercentage=0,
            scoreValidated=False,
            imageValidated=False,
            manualNameReview={},
            failedReason=None,
        )

        assert outcomes(reading) == {"data_source_supported": CheckOutcome.PASSED}

    @pytest.mark.parametrize(("match", "outcome"), [(True, CheckOutcome.PASSED), (False, CheckOutcome.FAILED)])
    def test_the_match_of_names_counts_after_it_was_measured(self, match, outcome):
        record = {"namesMatch": match, "fullNameMatchPercentage": 87, "scoreValidated": True, "imageValidated": True}
        [check] = read("document-validation", status="ACTIVE", **record).checks

        assert (check.name, check.outcome, check.score) == ("names_match", outcome, 87)

    def test_reviews_and_reasons(self):
        reading = read(
            "document-validation",
            status="FAILED",
            manualNameReview={"decision": "mismatch"},
            infoValidationSupported=False,
            infoValidationSupportedReason="invalid_name_response_from_api",
            failedReason="409:document_type_not_detected",
            manualVerificationReason="names_do_not_match",
            documentLiveness={"_id": OTHER_ID, "isLive": False},
            validationResults={"documentAuthenticity": "passed", "dataConsistency": "failed", "n": 1},
        )

        assert outcomes(reading) == {
            "document_authenticity": CheckOutcome.PASSED,
            "data_consistency": CheckOutcome.FAILED,
            "manual_name_review": CheckOutcome.FAILED,
            "data_source_supported": CheckOutcome.NOT_APPLICABLE,
            "document_liveness": CheckOutcome.FAILED,
            "failure": CheckOutcome.FAILED,
            "manual_verification": CheckOutcome.WARNING,
        }
        assert reading.related == (ResourceRef("document-liveness", OTHER_ID),)


class TestAppRegistration:
    @pytest.mark.parametrize(
        ("passed", "outcome"),
        [(True, CheckOutcome.PASSED), (False, CheckOutcome.FAILED), (None, CheckOutcome.UNKNOWN)],
    )
    def test_the_face_comparison_is_a_check(self, passed, outcome):
        result = {"score": 0.91, "passed": passed, "compare_min_score": 0.85}
        comparison = {"_id": OTHER_ID, "result": result, "comparedAt": "2026-01-01T00:00:00Z"}
        [check] = read("app-registration", status="COMPLETED", compareFaceVerification=comparison).checks

        assert (check.name, check.outcome, check.score, check.threshold) == ("face_comparison", outcome, 0.91, 0.85)
        assert check.details == {"compared_at": "2026-01-01T00:00:00Z"}

    @pytest.mark.parametrize("comparison", [None, OTHER_ID, {}, {"result": None}, []])
    def test_a_missing_comparison_is_not_a_failed_one(self, comparison):
        assert read("app-registration", status="COMPLETED", compareFaceVerification=comparison).checks == ()

    def test_it_leads_to_its_validations(self):
        reading = read(
            "app-registration",
            status="ONGOING",
            emailValidation={"_id": "e1", "status": "validated"},
            phoneValidation="p1",
            biometricValidation="b1",
            documentValidation=None,
            informationValidation={"_id": "../x"},
            failedBiometricValidations=["b0", {"_id": "b1"}, None, 7],
            failedDocumentValidations=[{"_id": "d0"}],
            person="person1",
        )

        assert {(ref.kind, ref.external_id) for ref in reading.related} == {
            ("email-validation", "e1"),
            ("phone-validation", "p1"),
            ("biometric-validation", "b0"),
            ("biometric-validation", "b1"),
            ("document-validation", "d0"),
        }
        assert len(reading.related) == 5


class TestEnvelope:
    def test_times(self):
        moment = "2026-01-0{}T00:00:00.000Z"
        record = {"createdAt": moment.format(1), "updatedAt": moment.format(2), "validatedAt": moment.format(3)}
        reading = read("email-validation", status="validated", **record)
        moments = (reading.provider_created_at, reading.provider_updated_at, reading.completed_at)

        assert [moment.day for moment in moments if moment] == [1, 2, 3]

    @pytest.mark.parametrize("extra", [{}, {"success": True}, {"signature": {"dateTime": "today"}}])
    def test_wrapped_or_bare(self, extra):
        record = {"_id": ID, "status": "validated"}
        for document in ({"data": record, **extra}, {**record, **extra}):
            reading = VERIFIK.read(SOURCE, ResourceRef("email-validation", ID), document)
            assert reading.verdict.outcome is Outcome.APPROVED

    @pytest.mark.parametrize(
        "document",
        [
            {},
            {"data": []},
            {"data": "x"},
            {"data": {}},
            {"data": {"_id": OTHER_ID}},
            {"data": {"_id": None}},
            {"data": {"id": ID}},
            {"_id": OTHER_ID, "data": {"_id": ID}},
            {"success": False, "error": "x", "code": "NOT_FOUND"},
        ],
    )
    def test_another_record_is_unexpected(self, document):
        with pytest.raises(UnexpectedDocument) as caught:
            VERIFIK.read(SOURCE, ResourceRef("email-validation", ID), document)

        assert caught.type is UnexpectedDocument

    def test_no_data_is_nothing_found(self):
        with pytest.raises(NothingFound):
            VERIFIK.read(SOURCE, ResourceRef("email-validation", ID), {"data": None, "signature": {}})


class TestPaths:
    @pytest.mark.parametrize("name", ["otp", "verificationCode", "token", "accessToken", "webhookUrl", "webhook"])
    def test_secrets_are_redacted_anywhere(self, name):
        document: Json = {"data": {name: "s3cret", "emailValidation": {name: "s3cret", "a": [{name: "s3cret"}]}}}
        redacted, found = redact(document, VERIFIK.paths(ResourceRef("app-registration", ID)).secrets)

        assert found
        assert "s3cret" not in json.dumps(redacted)

    def test_the_stamp_of_an_answer_is_no_change(self):
        volatile = VERIFIK.paths(ResourceRef("document-liveness", ID)).volatile
        first: Json = {"data": {"a": 1}, "signature": {"dateTime": "April 11, 2023 12:25 PM", "message": "m"}}
        second: Json = {"data": {"a": 1}, "signature": {"dateTime": "April 12, 2023 1:00 AM", "message": "m"}}

        assert content_digest(first, volatile) == content_digest(second, volatile)


NAMES = [
    "_id", "status", "passed", "score", "result", "isLive", "validationResults", "screenReplay", "sreenReplayScore",
    "screenReplayWarnings", "validatePrintedCopy", "aggregatedScore", "livenessScore", "biometricData", "response",
    "liveness", "verificationResults", "livenessDetection", "failedReason", "namesMatch", "scoreValidated",
    "imageValidated", "fullNameMatchPercentage", "manualNameReview", "decision", "infoValidationSupported",
    "infoValidationSupportedReason", "documentLiveness", "compareFaceVerification", "emailValidation",
    "failedBiometricValidations", "createdAt", "validatedAt",
]  # fmt: skip

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["passed", "completed", "COMPLETED", "409:liveness_failed@0.4", "2026-01-01T00:00:00Z", "match"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=8),
    max_leaves=12,
)


class TestAnyShape:
    @given(st.dictionaries(st.sampled_from([*NAMES, "data"]), JSON))
    def test_read_raises_its_own_error_only(self, document):
        with pytest.raises(UnexpectedDocument):
            VERIFIK.read(SOURCE, ResourceRef("document-liveness", "not-there"), document)

    @given(st.sampled_from(list(STATUSES)), st.dictionaries(st.sampled_from(NAMES), JSON))
    def test_read_takes_any_content_of_the_right_record(self, kind, record):
        VERIFIK.read(SOURCE, ResourceRef(kind, ID), {"data": {**record, "_id": ID}})

    @given(st.dictionaries(st.sampled_from(NAMES).filter(lambda name: name.endswith("Score")), st.floats()))
    def test_no_score_ever_approves(self, scores):
        for kind in STATUSES:
            assert read(kind, **scores).verdict.outcome is Outcome.NONE


class TestSamples:
    @pytest.mark.parametrize(
        ("name", "kind", "stage", "outcome"),
        [
            ("app_registration_retrieve.docs", "app-registration", Stage.IN_PROGRESS, Outcome.NONE),
            ("biometric_validation_retrieve.docs", "biometric-validation", Stage.DECIDED, Outcome.APPROVED),
            ("biometric_validation_retrieve.gitbook", "biometric-validation", Stage.DECIDED, Outcome.APPROVED),
            ("document_liveness_retrieve.docs_nested", "document-liveness", Stage.DECIDED, Outcome.APPROVED),
            ("document_liveness_retrieve.real_flat", "document-liveness", Stage.DECIDED, Outcome.NONE),
            ("document_validation.as_stored_fields", "document-validation", Stage.DECIDED, Outcome.INCONCLUSIVE),
            ("document_validation_retrieve.docs", "document-validation", Stage.DECIDED, Outcome.NONE),
            ("email_validation_retrieve.docs", "email-validation", Stage.DECIDED, Outcome.APPROVED),
            ("phone_validation_create.real", "phone-validation", Stage.IN_PROGRESS, Outcome.NONE),
        ],
    )
    def test_retrieved(self, name, kind, stage, outcome):
        document = parse_object((samples("verifik") / f"{name}.json").read_bytes())
        data = document["data"]
        assert isinstance(data, dict)
        reading = VERIFIK.read(SOURCE, ResourceRef(kind, str(data["_id"])), document)

        assert (reading.verdict.stage, reading.verdict.outcome, reading.drift) == (stage, outcome, ())

    @pytest.mark.parametrize("name", ["app_registrations_list.docs", "auth_session_refresh.response"])
    def test_something_else(self, name):
        document = parse_object((samples("verifik") / f"{name}.json").read_bytes())

        with pytest.raises(UnexpectedDocument):
            VERIFIK.read(SOURCE, ResourceRef("app-registration", ID), document)
