"""What each column of the results database means: the one place where it is written.

`docs/results-database.md`, the dbt sources and `verisink grants` are made from this; types and nullability come from
the tables. A column is personal if it can say who somebody is, or hold words about a person that nobody here controls.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Column, Table, make_url

from worker.domain.states import Cause, CheckOutcome, EventType, Outcome, Stage
from worker.store.tables import checks, events, resources, result_documents, results, versions

_POSTGRESQL = make_url("postgresql+psycopg://").get_dialect()()
_SQLITE = make_url("sqlite://").get_dialect()()


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """One column of a view. `personal` says why it is personal; empty: it is not. `filled`: never null in the view,
    though it may be in its table."""

    name: str
    origin: Column[object]
    meaning: str
    values: tuple[str, ...] = ()
    personal: str = ""
    filled: bool = False

    @property
    def nullable(self) -> bool:
        """Whether a reader must expect NULL."""
        return bool(self.origin.nullable) and not self.filled

    @property
    def postgresql_type(self) -> str:
        """The type's name on PostgreSQL, which knows `FLOAT` by another."""
        return self.origin.type.compile(dialect=_POSTGRESQL).replace("FLOAT", "DOUBLE PRECISION")

    @property
    def sqlite_type(self) -> str:
        """The declared type's name on SQLite."""
        return self.origin.type.compile(dialect=_SQLITE)


@dataclass(frozen=True, slots=True)
class View:
    """A view for people: what a row is, which columns name one, and which conditions an index answers."""

    name: str
    row: str
    key: tuple[str, ...]
    fast: tuple[tuple[str, str], ...]
    slow: str
    columns: tuple[ViewColumn, ...]

    @property
    def impersonal(self) -> tuple[str, ...]:
        """The columns that a reader without personal data gets, in their order."""
        return tuple(column.name for column in self.columns if not column.personal)


def _words(vocabulary: type[StrEnum]) -> tuple[str, ...]:
    return tuple(member.value for member in vocabulary)


def _column(table: Table, name: str, meaning: str, *, values: tuple[str, ...] = (), personal: str = "") -> ViewColumn:
    return ViewColumn(name, table.c[name], meaning, values, personal)


def _name_of(table: Table) -> tuple[ViewColumn, ...]:
    """The columns that name a resource."""
    whole = "; null for an event about a whole source" if table is events else ""
    late = " or a resource that nobody knows yet" if table is events else ""
    return (
        _column(table, "source", "The configured account at a provider: its slug in the settings."),
        _column(table, "kind", f"What it is at the provider, such as `inquiry` or `face-match`{whole}."),
        _column(table, "external_id", f"The provider's id of the verification{whole}{late}."),
    )


def _version(column: Column[object], meaning: str) -> ViewColumn:
    return ViewColumn("version", column, meaning)


_STAGES, _OUTCOMES = _words(Stage), _words(Outcome)
_PROVIDER_STATUS = "The provider's own word for where it stands, verbatim; null if it gives none."
_VERBATIM = "one word in everything that providers document, and copied verbatim from what they do not"
_FINAL = "The provider says that it will not change by itself. It may still be reversed."
_MAPPING = "Which version of Verisink's mapping made this reading."
_RETRIEVED = "When the document was last read from the provider, by the database's clock"

_RESULTS = (
    *_name_of(resources)[:1],
    _column(resources, "provider", "`persona`, `verifik`, `gu1`, `yoti`, or one that another package brings."),
    _column(resources, "environment", "As the source is configured.", values=("live", "sandbox")),
    *_name_of(resources)[1:],
    _column(results, "reference", "Your own id for the person or case, if you gave one to the provider; its first 500 "
            "characters.", personal="points to a person in your systems, and some customers send a name or an e-mail "
            "address"),
    _column(results, "stage", "How far the verification has come.", values=_STAGES),
    _column(results, "outcome", "What was decided; `none` until something is, and where nothing can be.",
            values=_OUTCOMES),
    _column(results, "final", _FINAL),
    _column(results, "provider_status", _PROVIDER_STATUS, personal=_VERBATIM),
    _column(results, "score", "The provider's score in its own units (not comparable between providers or kinds); "
            "null where it has none."),
    _column(results, "version", "The number of the version that this is the reading of; 1 is the first."),
    _column(results, "mapping_version", _MAPPING),
    _column(results, "provider_created_at", "When it began, by the provider's clock; null if it does not say."),
    _column(results, "provider_updated_at", "When it last changed, by the provider's clock; null if it does not say."),
    _column(results, "completed_at", "When it was completed, by the provider's clock: what that means is on the "
            "provider's page. Null before, and where the provider does not say."),
    ViewColumn("first_seen_at", resources.c.created_at, "When Verisink first heard of it, by the database's clock."),
    _column(results, "retrieved_at", f"{_RETRIEVED}; also when it said nothing new."),
    _column(result_documents, "document", "The provider's whole document, as JSON. Secrets in it are redacted.",
            personal="names, birth dates, numbers of documents, links to pictures: whatever the provider tells"),
    _column(results, "derived", "Verisink concluded the verdict from parts, because the provider states none."),
    _column(results, "updated_at", "When this row or its checks last changed, by the database's clock; `retrieved_at` "
            "and `mapping_version` alone do not count."),
)  # fmt: skip

_CHECKS = (
    *_name_of(resources),
    _version(versions.c.number, "The version that the check is part of. Join `v1_results` on it for today's checks."),
    # Not personal, though some are names of members: they name tests, not people. The API shows only words of them.
    _column(checks, "name", "Which test it was, in the provider's words; unique within a version in nearly all cases, "
            "`position` always is."),
    _column(checks, "outcome", "How it ended.", values=_words(CheckOutcome)),
    _column(checks, "provider_outcome", "The provider's own word for how it ended; null if it gives none.",
            personal=_VERBATIM),
    _column(checks, "score", "The provider's score in its own units; null where the check has none."),
    _column(checks, "threshold", "What the score was measured against, in the same units; null if unknown."),
    _column(checks, "required", "Whether the provider counts it for its verdict; null if it does not say."),
    _column(checks, "reasons", "Why, as a JSON array of texts: mostly codes, from some providers sentences; empty "
            "once the person is erased.", personal="sentences of some providers describe what they saw"),
    _column(checks, "position", "The place in the provider's list, from 0."),
    _column(checks, "details", "More of the provider's, as a JSON object whose members differ by provider and check; "
            "empty once the person is erased.", personal="compared values and parts of the provider's report"),
)  # fmt: skip

_HISTORY = (
    *_name_of(resources),
    _version(versions.c.number, "1 for the first document, and one more for each that differs from the one before."),
    _column(versions, "stage", "As the version was read in its day; for the newest as it is read today.",
            values=_STAGES),
    _column(versions, "outcome", "As `stage`.", values=_OUTCOMES),
    _column(versions, "provider_status", _PROVIDER_STATUS, personal=_VERBATIM),
    _column(versions, "retrieved_at", "When this version was first read from the provider, by the database's clock: "
            "from then until the next version's it was the newest known."),
    _column(versions, "cause", "Why the provider was asked.", values=_words(Cause)),
    _column(versions, "document_sha256", "SHA-256 of the provider's exact bytes, in hex: evidence that stays when the "
            "document is erased.", personal="tells who guesses a whole document that the guess is right"),
    _column(versions, "final", _FINAL),
    _column(versions, "mapping_version", _MAPPING),
    _column(versions, "api_version", "The version of the provider's API that answered; null if it has none."),
)  # fmt: skip

_EVENTS = (
    ViewColumn("sequence", events.c.sequence, "The cursor: in order of commit, and no event appears behind a number "
               "that was seen.", filled=True),
    _column(events, "id", "A UUID that is the same wherever the event goes, for putting repeats aside."),
    _column(events, "type", "What happened.", values=_words(EventType)),
    *_name_of(events),
    _version(events.c.version, "The version that it tells of; null where there is none."),
    _column(events, "stage", "The verdict's stage after it; null for an event that is about no verdict.",
            values=_STAGES),
    _column(events, "outcome", "As `stage`.", values=_OUTCOMES),
    _column(events, "occurred_at", "When it was written, by the database's clock. No cursor: transactions commit in "
            "another order."),
    _column(events, "data", "The event's data, as a JSON object; it holds nothing personal."),
)  # fmt: skip

_BY_NAME = ("source = … AND kind = … AND external_id = …", "one resource; `source` alone, or with `kind`, narrows too")

VIEWS_DESCRIBED: Mapping[str, View] = {
    view.name: view
    for view in (
        View(
            "v1_results",
            "the current reading of one resource's newest document",
            ("source", "kind", "external_id"),
            (
                _BY_NAME,
                ("reference = …", "all results of one person or case, across providers"),
                ("updated_at >= …", "what changed lately, also `ORDER BY updated_at`"),
                ("NOT final", "what is still open, also with `updated_at`"),
            ),
            "`stage`, `outcome`, the other times and members of `document` have no index: narrow by `updated_at` too",
            _RESULTS,
        ),
        View(
            "v1_checks",
            "one named test inside one version of a result; earlier versions keep theirs",
            ("source", "kind", "external_id", "version", "position"),
            ((f"{_BY_NAME[0]} AND version = …", "the checks of one version; without `version` those of all"),),
            "`name` and `outcome` have no index: join from a few rows of `v1_results`",
            _CHECKS,
        ),
        View(
            "v1_history",
            "one version of a result: a document that differed from the one before",
            ("source", "kind", "external_id", "version"),
            ((f"{_BY_NAME[0]} AND version = …", "one version; without `version` the whole history of one resource"),),
            "`retrieved_at`, `stage` and `outcome` have no index",
            _HISTORY,
        ),
        View(
            "v1_events",
            "one thing that happened; rows are added, never changed, and numbered moments after they are written",
            ("sequence",),
            (
                ("sequence > … ORDER BY sequence LIMIT …", "what is new behind a cursor"),
                _BY_NAME,
                ("id = …", "one event"),
            ),
            "`type` and `occurred_at` have no index: remember a `sequence`, or come from a few rows of `v1_results`",
            _EVENTS,
        ),
    )
}
"""Every view, in the order in which a reader meets them."""
