"""What in Verifik's records is not personal, for readers who may not see personal data.

Everything else is: what a person typed, what was read from documents, pictures, addresses of devices, one's e-mail and
telephone, the free text of the tests, and whatever Verifik adds tomorrow.
"""

from worker.domain.documents import dotted

_LIVENESS = " ".join(
    f"{test}{part}"
    for test in ("screenReplay", "sreenReplay", "printedCopy", "portraitSubstitution", "digitalManipulation")
    for part in ("Score", "Probability", "Calibration")
)

PLAIN = (
    *dotted("success"),
    *dotted(
        f"""
        _id __v client client._id project project._id projectFlow projectFlow._id appRegistration appRegistration._id
        biometricValidation biometricValidation._id documentValidation documentValidation._id
        emailValidation._id phoneValidation._id informationValidation._id documentLiveness documentLiveness._id
        failedDocumentValidations.* failedDocumentValidations.*._id
        failedBiometricValidations.* failedBiometricValidations.*._id
        appRegistration.status biometricValidation.status documentValidation.status emailValidation.status
        phoneValidation.status informationValidation.status livenessSession.status
        status type currentStep attempts maxAttempts createdAt updatedAt completedAt validatedAt expiresAt
        imageValidated scoreValidated namesMatch fullNameMatchPercentage infoValidationSupported
        manualNameReview.decision
        isLive documentLiveness.isLive livenessScore biometricData.livenessScore response.liveness.score
        response.liveness.status aggregatedScore confidence riskScore {_LIVENESS}
        validationResults.*.passed validationResults.*.score
        compareFaceVerification.result.passed compareFaceVerification.result.score
        compareFaceVerification.result.compare_min_score compareFaceVerification.comparedAt
        """,
        "data",
        "",
    ),
)
"""Sources: the object pages and real answers; records come in an envelope or bare. `identifier` is missing on purpose:
it is an e-mail address or a telephone number. So are `failedReason` and its like: they may be any text, and one word of
it may be a name or a number. Those that are codes are the reasons of a check."""

LIVENESS_CHECKS = dotted("details.probability details.calibration details.compared_at")
"""What may be shown of the checks of a document's liveness, whose warnings are not a closed list of codes. The vendor's
own word for an outcome is hidden everywhere: it may be any text that stood in a result."""

PLAIN_CHECKS = (*LIVENESS_CHECKS, *dotted("reasons.*"))
"""What may be shown of all other checks: their reasons are codes."""
