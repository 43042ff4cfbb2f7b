"""The closed vocabularies: each member is at once a column's value, a metric's label, a log field and a console
badge."""

from enum import IntEnum, StrEnum


class Stage(StrEnum):
    """How far a verification has come."""

    CREATED = "created"
    IN_PROGRESS = "in_progress"
    IN_REVIEW = "in_review"
    DECIDED = "decided"
    EXPIRED = "expired"
    ABANDONED = "abandoned"
    ERASED = "erased"
    UNMAPPED = "unmapped"


class Outcome(StrEnum):
    """What was decided, if anything."""

    APPROVED = "approved"
    REJECTED = "rejected"
    RESUBMIT = "resubmit"
    INCONCLUSIVE = "inconclusive"
    NONE = "none"


class CheckOutcome(StrEnum):
    """How one named test inside a result ended."""

    PASSED = "passed"
    FAILED = "failed"
    WARNING = "warning"
    NOT_APPLICABLE = "not_applicable"
    UNKNOWN = "unknown"


class DeliveryState(StrEnum):
    """What became of an authenticated delivery."""

    ACCEPTED = "accepted"
    IGNORED = "ignored"
    UNREADABLE = "unreadable"


class ReceiptStatus(StrEnum):
    """What the receiver answers to a provider."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    UNREADABLE = "unreadable"


class Cause(StrEnum):
    """Why a retrieve call was made."""

    WEBHOOK = "webhook"
    RETRIEVAL = "retrieval"
    REPLAY = "replay"
    RECONCILE = "reconcile"
    DISCOVERED = "discovered"


class Priority(IntEnum):
    """Who goes first when a source's budget is short; lower is sooner."""

    LIVE = 0
    RECONCILE = 1
    REPLAY = 2
    BACKFILL = 3


class AttemptOutcome(StrEnum):
    """How one retrieve call ended. An attempt without an outcome is under way."""

    STORED = "stored"
    UNCHANGED = "unchanged"
    STALE = "stale"
    FAILED = "failed"
    FENCED = "fenced"
    CRASHED = "crashed"


class FailureKind(StrEnum):
    """Why a retrieve call gave no document; `domain.retry` says what follows from each."""

    TIMEOUT = "timeout"
    NETWORK = "network"
    SERVER_ERROR = "server_error"
    UNREADABLE = "unreadable"
    STALE = "stale"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    RATE_LIMITED = "rate_limited"
    CREDENTIAL = "credential"
    REJECTED = "rejected"
    CRASHED = "crashed"
    BUG = "bug"


class Step(StrEnum):
    """Where work stopped: when it was received, at the provider, at its answer, or at us."""

    RECEIVE = "receive"
    CALL = "call"
    READ = "read"
    WRITE = "write"


class ResourceState(StrEnum):
    """Where a resource stands, derived from its row for people to read; nothing is stored under these names."""

    SETTLED = "settled"
    WAITING = "waiting"
    CLAIMED = "claimed"
    PARKED = "parked"


class EventType(StrEnum):
    """The internal events; each is a CloudEvents `type`."""

    CREATED = "verification.result.created"
    DECIDED = "verification.result.decided"
    REVISED = "verification.result.revised"
    REVERSED = "verification.result.reversed"
    UPDATED = "verification.result.updated"
    ERASED = "verification.result.erased"
    PARKED = "verification.retrieval.parked"
    HELD = "verification.source.held"
    RELEASED = "verification.source.released"
    OVERDUE = "verification.overdue"


class UndeliveredState(StrEnum):
    """Where an event stands that a sink was passed over with."""

    WAITING = "waiting"
    GIVEN_UP = "given_up"


class ExpectationState(StrEnum):
    """What became of an expected result. `overdue` may still become `met_late`."""

    OPEN = "open"
    TRYING = "trying"
    MET = "met"
    OVERDUE = "overdue"
    MET_LATE = "met_late"
    CANCELLED = "cancelled"


class OverdueReason(StrEnum):
    """Why an expected result was not there in time, as far as it is known here."""

    UNKNOWN = "unknown"
    UNDECIDED = "undecided"
    PARKED = "parked"
    HELD = "held"
    THROTTLED = "throttled"
    NOT_RETRIEVED = "not_retrieved"
    NOT_CONFIGURED = "not_configured"
