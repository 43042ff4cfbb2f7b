"""What in a Yoti session is not personal, for readers who may not see personal data.

Everything else is: media and what was read from them, countries, watchlist hits and how they were searched for, the
customer's own ids, free text, and whatever Yoti adds tomorrow.
"""

from worker.domain.documents import dotted

_SCHEMES = """
    trust_framework schemes_compliance.*.requirements_met
    schemes_compliance.*.scheme.type schemes_compliance.*.scheme.objective
    """

PLAIN = (
    *dotted("session_id state client_session_token_ttl biometric_consent"),
    *dotted(
        """
        type id state created last_updated resources_used.* generated_media.*.id generated_media.*.type
        config.approval_criteria config.pool_id
        report.recommendation.value report.recommendation.reason report.recommendation.reason.value
        report.recommendation.recovery_suggestion
        report.breakdown.*.sub_check report.breakdown.*.result report.breakdown.*.process
        """,
        "checks.*",
    ),
    *dotted(
        """
        id created_at last_updated document_type liveness_type source.type
        tasks.*.type tasks.*.id tasks.*.state tasks.*.created tasks.*.last_updated tasks.*.recommendation.value
        """,
        "resources.*.*",
    ),
    *dotted("result failure_reason.reason_code", "identity_profile", "advanced_identity_profile"),
    *dotted(_SCHEMES, "identity_profile.identity_profile_report"),
    *dotted(_SCHEMES, "advanced_identity_profile.identity_profile_report.compliance.*"),
)
"""Sources: the SDKs' recorded answers and the API's documentation. `user_tracking_id` and `subject_id` are missing on
purpose: customers choose them."""

PLAIN_CHECKS = dotted(
    """
    provider_outcome reasons.*
    details.id details.state details.created details.approval_criteria details.pool_id details.recovery_suggestion
    details.superseded details.breakdown.*.sub_check details.breakdown.*.result details.breakdown.*.process
    """
)
"""Reasons are codes; those of an identity profile may be sentences, and are hidden then. `details.match_found` says
whether a face was found in a pool of faces, and `details.total_hits` how often a name is on watchlists."""
