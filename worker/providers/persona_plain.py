"""What in Persona's resources is not personal, for readers who may not see personal data.

Everything else is: names, dates of birth, addresses, numbers, photographs and their links, devices and places, the
fields that each customer defines, tags, notes, and whatever Persona adds tomorrow.
"""

from worker.domain.documents import dotted

PLAIN = (
    *dotted("data.type data.id"),
    *dotted(
        """
        status account-status kind id-class capture-method is-continuous has-match
        created-at created-at-ts updated-at started-at submitted-at submitted-at-ts completed-at completed-at-ts
        processed-at processed-at-ts failed-at decisioned-at marked-for-review-at expired-at expires-at redacted-at
        resolved-at assigned-at sla-expires-at
        checks.*.name checks.*.status checks.*.reasons.* checks.*.requirement checks.*.metadata.match-score
        selfie-similarity-score-left selfie-similarity-score-right document-similarity-score
        entity-confidence-score entity-confidence-reasons.* from-reusable-persona
        """,
        "data.attributes",
    ),
    *dotted("type id *.type *.id", "data.relationships.*.data"),
)
"""Sources: the schemas of the OpenAPI description, edition 2025-12-08. `reference-id` is missing on purpose: customers
choose it, and choose e-mail addresses too. So are countries, which say where somebody lives or comes from."""

PLAIN_CHECKS = dotted("provider_outcome reasons.* details.requirement")
"""Reasons are codes of a published catalogue. `details.metadata` is different for each check, and may quote."""
