"""What in gu1's rows is not personal, for readers who may not see personal data.

Everything else is: what was read from documents, media and their paths, the customer's own ids and metadata, messages,
risk assessments, and whatever gu1 adds tomorrow.
"""

from collections.abc import Mapping

from worker.domain.documents import Path, dotted

PLAIN = dotted(
    """
    id verificationId validationId sessionId entityId organizationId validationSessionId requestId
    status provider mode match score threshold isCurrent kycVerified kycProvider riskScore type storageProvider
    createdAt updatedAt verifiedAt expiresAt deletedAt
    decision decision.status decision.score biometricResult.match biometricResult.score biometricResult.status
    rejectionCode
    """,
    "",
    "data",
    "verification",
    "validation",
    "session",
    "entity",
)
"""Sources: the documented shapes; rows come bare, or may come in a wrapper. `vendorData` and `externalId` are missing
on purpose: customers choose them. So are `riskFactors`, whose contents are not documented, and `warnings`, which are an
open set: a name or a number would look like a code."""

PLAIN_CHECKS: Mapping[str, tuple[Path, ...]] = {
    "biometric-session": dotted("provider_outcome"),
    "face-match": dotted("provider_outcome details.match"),
    "id-verification": dotted("provider_outcome"),
    "entity": dotted("provider_outcome"),
}
"""What may be shown of the checks of each kind.

No reasons: they hold the warnings, and error messages in free text. Where parts of undocumented shape are read for
their words, the vendor's own words are hidden too; the outcome says what they meant.
"""
