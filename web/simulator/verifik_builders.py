"""New Verifik records, in the two shapes that Verifik's validations are seen in: flat and nested."""

from datetime import timedelta

from web.simulator import people
from web.simulator.records import (
    JsonObject,
    Make,
    Options,
    iso,
    optional_text,
)

CDN = "https://cdn.verifik.co/"
THREATS = ("screenReplay", "printedCopy", "portraitSubstitution", "digitalManipulation")


def registration(make: Make, options: Options) -> JsonObject:
    person = people.draw(make.rng)
    return {
        "status": "STARTED", "identifier": optional_text(options, "reference"), "email": person.email,
        "phone": person.phone, "countryCode": "+1", "currentStep": "1", "language": "en", "emailValidation": None,
        "phoneValidation": None, "biometricValidation": None, "documentValidation": None,
        "informationValidation": None, "compareFaceVerification": None,
    }  # fmt: skip


def biometric(make: Make, options: Options) -> JsonObject:
    common: JsonObject = {
        "livenessSession": make.ids.object_id(), "status": "new", "type": "onboarding",
        "identifier": optional_text(options, "reference"), "redirectUrl": None, "requires2FA": False,
    }  # fmt: skip
    if _nested(make, options):
        return {
            **common, "webhookUrl": None, "ipAddress": "192.0.2.10", "language": "en", "riskScore": None,
            "biometricData": {"quality": None, "livenessScore": None}, "verificationResults": None, "completedAt": None,
        }  # fmt: skip
    return {
        **common, "url": "https://access.verifik.co/sign-in", "assignedCollection": make.ids.object_id(),
        "collectionCode": "col_simulated", "livenessScore": None, "response": None, "webhook": None,
    }  # fmt: skip


def _nested(make: Make, options: Options) -> bool:
    shape = optional_text(options, "shape") or make.rng.choice(("flat", "nested"))
    return shape == "nested"


def document(make: Make, options: Options) -> JsonObject:
    person = people.draw(make.rng)
    return {
        "status": "ASSESSING", "documentType": "CC", "documentCategory": "ID", "country": "Colombia",
        "inputMethod": "CAMERA", "validationMethod": "SCAN_STUDIO", "type": "signup",
        "OCRExtraction": {"fullName": person.full_name.upper(), "documentNumber": person.document_number},
        "infoValidationSupported": True, "infoValidationSupportedReason": "", "namesMatch": False,
        "fullNameMatchPercentage": 0, "scoreValidated": False, "imageValidated": False, "scoreValidation": None,
        "manualNameReview": {}, "manualVerificationReason": None, "failedReason": None,
        "documentLiveness": optional_text(options, "liveness"), "url": f"{CDN}documents/{make.ids.uuid()}.jpg",
    }  # fmt: skip


def liveness(make: Make, options: Options) -> JsonObject:
    image: JsonObject = {"imageSaved": True, "imageUrl": f"{CDN}document-liveness/{make.ids.uuid()}"}
    if _nested(make, options):
        return {
            **image, "status": "new", "validationResults": {}, "riskScore": None, "confidence": None,
            "calibrationSettings": {f"{threat}Calibration": "REGULAR" for threat in THREATS[:3]},
            "validationFlags": {"ignoreDocumentCroppedValidation": False, "ignoreColourLessValidation": False},
            "completedAt": None,
        }  # fmt: skip
    document: JsonObject = {**image, "ignoreDocumentCroppedValidation": False, "ignoreColourLessValidation": False}
    for threat in THREATS:
        # The live API leaves out the c of "screen" in two families of names.
        short = threat.replace("screen", "sreen")
        document |= {
            f"validate{threat[0].upper()}{threat[1:]}": True, f"{short}Calibration": "REGULAR",
            f"{threat}Warnings": ["GLARE_ON_IMAGE"], f"{threat}Errors": [],
        }  # fmt: skip
    return document | flat_scores(make, genuine=True)


def flat_scores(make: Make, *, genuine: bool) -> JsonObject:
    low, high = (0.7, 0.99) if genuine else (0.000001, 0.2)
    chances = {threat: round(make.rng.uniform(low, high), 7) for threat in THREATS}
    scores: JsonObject = {
        f"{threat.replace('screen', 'sreen')}Score": round(make.rng.uniform(-1, 11), 7) for threat in THREATS
    }
    return {**scores, **{f"{threat}Probability": chance for threat, chance in chances.items()},
            "aggregatedScore": min(chances.values())}  # fmt: skip


def contact(make: Make, options: Options) -> JsonObject:
    person = people.draw(make.rng)
    common: JsonObject = {
        "status": "sent", "type": "onboarding", "expiresAt": iso(make.at + timedelta(minutes=10)), "redirectUrl": None,
        "requires2FA": False, "ipAddress": "192.0.2.10", "language": "en",
    }  # fmt: skip
    code = f"{make.rng.randint(0, 999_999):06d}"
    if options["kind"] == "email-validation":
        return {**common, "email": person.email, "validationMethod": "verificationCode", "verificationCode": code}
    otp = f"$2a$10${make.rng.getrandbits(212):053x}"
    return {
        **common,
        "countryCode": "+1",
        "phone": person.phone[2:],
        "phoneGateway": "sms",
        "otp": otp,
        "phoneData": {},
    }


def information(make: Make, _options: Options) -> JsonObject:
    person = people.draw(make.rng)
    return {"status": "new", "fullName": person.full_name, "firstName": person.first_name, "lastName": person.last_name}
