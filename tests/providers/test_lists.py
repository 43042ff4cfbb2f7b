"""The providers' lists: the calls for their pages, what a page says, and pages that mean harm."""

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.model import ResourceRef
from worker.domain.reconcile import Found
from worker.domain.strict_json import Json
from worker.errors import UnexpectedDocument
from worker.providers.listers import BUILT_IN, Unlisted, lister
from worker.providers.listing import Lister, ListQuery, Page, Rereads, ends_before, iso_time, safe_cursor, whole_number
from worker.providers.registry import providers
from worker.settings import Source

SINCE = datetime(2026, 11, 20, 12, tzinfo=UTC)
LATER, EARLIER = SINCE + timedelta(hours=1), SINCE - timedelta(hours=1)
OID = "66b1f0a2c4d5e6f708192a3b"
UUID = "0b6f3a52-6d1f-4e0e-9a37-0d5b7c1f2a10"
CREDENTIALS = {
    "persona": {"api_key": "persona_sandbox_key"},
    "verifik": {"access_token": "a.b.c"},
    "gu1": {"api_key": "gk_sandbox_key", "organization_id": "org-7"},
}
LISTS = [
    ("persona", "events"), ("persona", "inquiries"), ("verifik", "app-registrations"), ("verifik", "webhook-events"),
    ("gu1", "face-match"), ("gu1", "id-verification"),
]  # fmt: skip
ENTRIES = {"persona": "data", "verifik": "data", "gu1": "verifications"}


def source(provider: str, **more) -> Source:
    return Source.model_validate({"slug": provider, "provider": provider, **CREDENTIALS.get(provider, {}), **more})


def ask(provider: str, listing: str, cursor: str | None = None):
    query = ListQuery(listing, SINCE, cursor)
    return BUILT_IN[provider].list_request(source(provider), query, nonce="n", unix_ms=1)


def asked(provider: str, listing: str, cursor: str | None = None) -> tuple[str, dict[str, str]]:
    parts = urlsplit(ask(provider, listing, cursor).url)
    return parts.path, dict(parse_qsl(parts.query))


def read(provider: str, listing: str, document: dict[str, Json], cursor: str | None = None) -> Page:
    return BUILT_IN[provider].read_list(source(provider), ListQuery(listing, SINCE, cursor), document)


def event(subject: Json = "inquiry", external_id: Json = "inq_1", at: datetime = LATER, **more: Json) -> Json:
    attributes: dict[str, Json] = {
        "name": "inquiry.approved", "created-at": at.isoformat(),
        "payload": {"data": {"type": subject, "id": external_id}}, **more,
    }  # fmt: skip
    return {"type": "event", "id": "evt_1", "attributes": attributes}


def inquiry(external_id: Json = "inq_1", updated: Json = LATER.isoformat(), kind: Json = "inquiry") -> dict[str, Json]:
    times: dict[str, Json] = {"created-at": EARLIER.isoformat(), "updated-at": updated}
    return {"type": kind, "id": external_id, "attributes": times}


def persona_page(*data: Json, following: Json = None) -> dict[str, Json]:
    return {"data": list(data), "links": {"prev": None, "next": following}}


def row(kind_id: str = UUID, at: datetime = LATER, **more: Json) -> Json:
    return {"id": kind_id, "organizationId": "org-7", "status": "approved", "createdAt": at.isoformat(), **more}


def rows(*found: Json, total: Json = None, offset: int = 0) -> dict[str, Json]:
    return {"verifications": list(found), "pagination": {"limit": 100, "offset": offset, "total": total}}


def record(external_id: Json = OID, at: datetime = LATER, **more: Json) -> Json:
    return {"_id": external_id, "createdAt": at.isoformat(), "updatedAt": at.isoformat(), **more}


# The calls.


def test_persona_is_asked_for_events_and_for_inquiries_of_a_window():
    assert asked("persona", "events") == ("/api/v1/events", {"page[size]": "100"})
    path, query = asked("persona", "inquiries", "inq_9")
    assert path == "/api/v1/inquiries"
    assert query == {
        "page[size]": "100", "filter[created-at-start]": "2026-11-20T12:00:00.000Z", "page[after]": "inq_9",
    }  # fmt: skip
    headers = ask("persona", "events").headers
    assert headers["Authorization"] == "Bearer persona_sandbox_key"
    assert headers["Persona-Version"] == "2025-12-08"


def test_verifik_is_asked_for_registrations_and_for_failed_webhooks():
    path, query = asked("verifik", "app-registrations")
    window = {
        "whereGTE_createdAt": "2026-11-20T12:00:00.000Z", "sort": "-createdAt", "perPage": "100", "page": "1",
    }  # fmt: skip
    assert (path, query) == ("/v2/app-registrations", window)
    path, query = asked("verifik", "webhook-events", "3")
    assert (path, query) == ("/v2/webhook-events", {**window, "where_response.status": "fail", "page": "3"})
    assert ask("verifik", "webhook-events").headers["Authorization"] == "Bearer a.b.c"


def test_gu1_is_asked_by_offset_in_the_name_of_the_organization():
    assert asked("gu1", "face-match") == (
        "/api/kyc/face-match/verifications", {"limit": "100", "offset": "0"},
    )  # fmt: skip
    assert asked("gu1", "id-verification", "200")[1]["offset"] == "200"
    assert ask("gu1", "face-match").headers["X-Organization-Id"] == "org-7"


@pytest.mark.parametrize("provider", ["persona", "verifik", "gu1", "yoti"])
def test_there_is_no_other_list(provider):
    with pytest.raises(ValueError, match="list"):
        ask(provider, "../secrets")


@pytest.mark.parametrize(("provider", "listing"), LISTS)
def test_every_list_of_a_provider_can_be_asked_for_below_its_own_address(provider, listing):
    configured = source(provider)
    assert listing in [item.name for item in BUILT_IN[provider].listings(configured)]
    assert ask(provider, listing).url.startswith(configured.base_url + "/")


# What a page says.


def test_an_event_names_its_subject():
    page = read("persona", "events", persona_page(event(), event("verification/selfie", "ver_2")))
    assert page.found == (
        Found(ResourceRef("inquiry", "inq_1"), LATER, delivery_key="evt_1"),
        Found(ResourceRef("verification/selfie", "ver_2"), LATER, delivery_key="evt_1"),
    )
    assert (page.unreadable, page.cursor) == (0, None)


def test_an_event_about_what_is_not_kept_is_no_finding_and_no_fault():
    page = read("persona", "events", persona_page(event("workflow-run", "wfr_1")))
    assert (page.found, page.unreadable) == ((), 0)


@pytest.mark.parametrize("family", ["account", "case", "transaction", "report/watchlist", "document/generic"])
def test_events_of_other_families_add_nothing(family):
    [found] = read("persona", "events", persona_page(event(family, "x_1"))).found
    assert not found.adds


def test_events_end_where_the_window_begins():
    young, old = event(at=LATER), event(external_id="inq_2", at=EARLIER)
    page = read("persona", "events", persona_page(young, old, following="/api/v1/events?page%5Bafter%5D=evt_1"))
    assert [found.ref.external_id for found in page.found] == ["inq_1"]
    assert page.cursor is None


def test_an_inquiry_says_when_it_was_updated():
    [found] = read("persona", "inquiries", persona_page(inquiry())).found
    assert found == Found(ResourceRef("inquiry", "inq_1"), LATER, exact=True)
    [found] = read("persona", "inquiries", persona_page(inquiry(updated=None))).found
    assert found == Found(ResourceRef("inquiry", "inq_1"), EARLIER)


def test_a_registration_says_when_it_was_updated():
    page = read("verifik", "app-registrations", {"data": [record()], "page": 1, "pages": 3})
    assert page == Page((Found(ResourceRef("app-registration", OID), LATER, exact=True),), 0, "2")


BODY: dict[str, Json] = {"type": "onboarding_document_validation_active", "object": record()}


@pytest.mark.parametrize(
    "entry",
    [
        {"type": BODY["type"], "body": BODY, "createdAt": LATER.isoformat()},
        {"type": BODY["type"], "body": json.dumps(BODY), "createdAt": LATER.isoformat()},
        {"type": BODY["type"], "body": BODY["object"], "createdAt": LATER.isoformat()},
        {"body": BODY},
    ],
)
def test_a_failed_webhook_names_its_record_in_whichever_shape(entry):
    page = read("verifik", "webhook-events", {"data": [entry], "total": None, "pages": 1})
    assert page == Page((Found(ResourceRef("document-validation", OID), LATER, exact=True),), 0, None)


def test_a_face_match_is_announced_by_no_webhook():
    page = read("gu1", "face-match", rows(row(), total=1))
    assert page.found == (Found(ResourceRef("face-match", UUID), LATER, status="approved", announced=False),)
    assert page.cursor is None


def test_a_row_of_another_organization_is_not_ours():
    page = read("gu1", "face-match", rows(row(organizationId="org-8"), total=1))
    assert (page.found, page.unreadable) == ((), 1)


# The next page.


@pytest.mark.parametrize(
    "link",
    [
        "/api/v1/events?page%5Bafter%5D=evt_7",
        "https://evil.example/api/v1/events?page[after]=evt_7",
        "//evil.example/?page[size]=1&page[after]=evt_7",
    ],
)
def test_of_a_link_only_the_cursor_is_used(link):
    page = read("persona", "events", persona_page(event(), following=link))
    assert page.cursor == "evt_7"
    assert ask("persona", "events", page.cursor).url.startswith("https://api.withpersona.com/api/v1/events?")


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/steal", "/api/v1/events?page[after]=../../accounts", "?page[after]=a%0d%0aX:1",
        "?page[after]=" + "a" * 200, "?page[after]=", "http://[", 7, ["/x"], {"href": "/x"}, True, "?" + "a=1&" * 100,
    ],
)  # fmt: skip
def test_a_link_without_a_usable_cursor_is_an_error(link):
    with pytest.raises(UnexpectedDocument):
        read("persona", "inquiries", persona_page(inquiry(), following=link))


@pytest.mark.parametrize("links", [None, [], "x", {}, {"prev": None}])
def test_a_page_that_does_not_say_what_follows_is_an_error_and_no_end(links):
    with pytest.raises(UnexpectedDocument):
        read("persona", "inquiries", {"data": [inquiry()], "links": links})


@pytest.mark.parametrize(
    ("counts", "cursor", "following"),
    [
        ({"page": 1, "pages": 2}, None, "2"),
        ({"page": 2, "pages": 2}, "2", None),
        ({"pagination": {"pages": 3}}, "2", "3"),
        ({"pages": "3"}, "2", "3"),
        ({"total": None, "pages": None}, "4", "5"),
        ({"pages": -1}, None, "2"),
        ({"pages": True}, None, "2"),
    ],
)
def test_verifik_pages_are_counted(counts, cursor, following):
    assert read("verifik", "app-registrations", {"data": [record()], **counts}, cursor).cursor == following


def test_an_empty_page_is_the_last_whatever_the_counts_say():
    assert read("verifik", "app-registrations", {"data": [], "pages": 99}).cursor is None
    assert read("gu1", "face-match", rows(total=99)).cursor is None


@pytest.mark.parametrize(
    ("total", "cursor", "following"),
    [(2, None, None), (3, None, "2"), (None, "4", "6"), ("x", "4", "6"), (5, "4", None)],
)
def test_gu1_pages_go_on_by_what_came(total, cursor, following):
    other = UUID.replace("0", "1")
    assert read("gu1", "face-match", rows(row(), row(other), total=total), cursor).cursor == following


def test_only_a_page_that_is_newest_first_can_be_the_last_of_interest():
    other = UUID.replace("0", "1")
    newest_first = rows(row(at=LATER), row(other, at=EARLIER), total=500)
    oldest_first = rows(row(other, at=EARLIER), row(at=LATER), total=500)
    assert read("gu1", "face-match", newest_first).cursor is None
    page = read("gu1", "face-match", oldest_first)
    assert (len(page.found), page.cursor) == (1, "2")
    assert not ends_before([None], SINCE)


# Pages that mean harm.

HOSTILE_IDS = ["../accounts", "a/b", "a?b", "", "x" * 200, "%2e%2e", "é", None, 7, ["a"], {"a": 1}, "a\n"]


@pytest.mark.parametrize("external_id", HOSTILE_IDS)
def test_an_id_that_could_steer_a_path_is_counted_and_left_out(external_id):
    pages = [
        read("persona", "events", persona_page(event(external_id=external_id), event())),
        read("persona", "inquiries", persona_page(inquiry(external_id), inquiry())),
        read("verifik", "app-registrations", {"data": [record(external_id), record()], "pages": 1}),
        read("gu1", "face-match", rows(row(external_id), row(), total=2)),
    ]
    assert [(len(page.found), page.unreadable) for page in pages] == [(1, 1)] * 4


@pytest.mark.parametrize("kind", ["../x", "Inquiry", "inquiry/../x", "verification", 7, None])
def test_a_kind_that_could_steer_a_path_is_left_out(kind):
    assert read("persona", "events", persona_page(event(kind))).found == ()
    assert read("persona", "inquiries", persona_page(inquiry(kind=kind))).found == ()


@pytest.mark.parametrize(("provider", "listing"), LISTS)
@pytest.mark.parametrize("entries", [None, {}, "x", 7, True])
def test_what_is_no_page_is_an_error(provider, listing, entries):
    pages: list[dict[str, Json]] = [{ENTRIES[provider]: entries, "links": {"next": None}}, {}, {"errors": []}]
    for document in pages:
        with pytest.raises(UnexpectedDocument):
            read(provider, listing, document)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
MEMBERS = st.sampled_from(
    ["id", "_id", "type", "attributes", "payload", "data", "name", "created-at", "updated-at", "createdAt", "updatedAt",
     "body", "object", "status", "organizationId"]
)  # fmt: skip
ENTRY = ANY_JSON | st.dictionaries(MEMBERS, ANY_JSON | st.sampled_from(["inquiry", "inq_1", LATER.isoformat()]))


@given(st.sampled_from(LISTS), st.lists(ENTRY, max_size=5), ANY_JSON)
def test_any_page_is_read_or_refused(which, entries, rest):
    provider, listing = which
    document: dict[str, Json] = {ENTRIES[provider]: entries, "links": rest, "pagination": rest, "pages": rest}
    try:
        page = read(provider, listing, document)
    except UnexpectedDocument:
        return
    assert page.unreadable <= len(entries)
    if page.cursor is not None:
        assert safe_cursor(page.cursor) == page.cursor


@given(ANY_JSON | st.text() | st.integers())
def test_numbers_are_whole_and_not_negative(value):
    found = whole_number(value)
    assert found is None or (type(found) is int and found >= 0)


# Who can be reconciled.


def test_every_built_in_provider_has_its_lister():
    for name, provider in providers().items():
        assert isinstance(lister(provider), Lister)
        assert lister(provider) is BUILT_IN[name]


def test_yoti_lists_nothing_and_forgets_sessions_after_a_week():
    yoti = BUILT_IN["yoti"]
    assert yoti.listings(source("yoti")) == ()
    assert yoti.rereads == Rereads(None, timedelta(days=6))
    with pytest.raises(ValueError, match="no lists"):
        yoti.read_list(source("yoti"), ListQuery("x", SINCE), {})


class Plugin:
    """A provider of another package; only its name is looked at."""

    name = "acme"


def test_a_provider_of_another_package_is_reconciled_by_reading_again_unless_it_lists():
    class Listing(Unlisted):
        name = "acme"

    assert isinstance(lister(Plugin()), Unlisted)  # type: ignore[arg-type]
    able = Listing(timedelta(days=1))
    assert lister(able) is able  # type: ignore[arg-type]


def test_times_are_written_as_filters_take_them():
    assert iso_time(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05.000Z"
