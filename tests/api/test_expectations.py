"""`/api/v1/expectations`: what may be expected, and how it is listed."""

from datetime import timedelta

import pytest

from tests.api.problems import assert_problem
from tests.api.test_scopes import client_with
from tests.store import play
from tests.support.results import KIND, SOURCE, key, store
from worker.domain.documents import MASK
from worker.domain.scopes import Scope
from worker.pipeline.expect import Expectations
from worker.reports import expectations as reports
from worker.reports.build import time_text
from worker.store import expectations as store_expectations
from worker.store.query import records
from worker.store.tables import audit_entries, expectations

PATH = "/api/v1/expectations"


@pytest.fixture
def expect(api, database):
    """Expects a result `minutes` from now."""

    def post(external_id="ver_1", minutes=60.0, **changes):
        deadline = time_text(play.now(database) + timedelta(minutes=minutes))
        body = {"source": SOURCE, "kind": KIND, "external_id": external_id, "deadline": deadline, **changes}
        return api.post(PATH, json={name: value for name, value in body.items() if value is not None})

    return post


def rows(database):
    with database.read() as session:
        return records(session, expectations.select())


def test_what_is_expected_is_open(api, expect):
    answer = expect()

    assert answer.status_code == 201
    made = answer.get_json()
    assert answer.headers["Location"] == f"{PATH}/{made['id']}"
    assert (made["source"], made["kind"], made["external_id"], made["reference"]) == (SOURCE, KIND, "ver_1", None)
    assert (made["state"], made["actor"], made["found"], made["closed_at"]) == ("open", "api:tests", None, None)
    assert api.get(answer.headers["Location"]).get_json() == made


def test_asking_for_the_same_again_is_no_second_expectation(api, database, expect):
    deadline = time_text(play.now(database) + timedelta(hours=1))
    first = expect(deadline=deadline)
    again = expect(deadline=deadline.replace("Z", "+00:00"))
    later = expect(minutes=61)

    assert (first.status_code, again.status_code, later.status_code) == (201, 200, 201)
    assert again.get_json() == first.get_json()
    assert len(rows(database)) == 2


def test_a_reference_will_do_instead_of_an_id(expect):
    made = expect(external_id=None, reference="customer-1").get_json()

    assert (made["external_id"], made["reference"]) == (None, "customer-1")


def test_a_deadline_may_just_have_passed(expect):
    assert expect(minutes=-60).status_code == 201


def test_what_was_met_names_what_was_found(api, database, runtime, expect):
    store(database, key("ver_7"))
    made = expect(external_id=None, reference="customer-1", minutes=-1).get_json()

    Expectations(database, runtime.settings, lambda _: None).check()

    found = api.get(f"{PATH}/{made['id']}").get_json()
    assert (found["state"], found["found"]) == ("met", "ver_7")
    assert found["closed_at"] is not None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"external_id": None}, "external_id or reference"),
        ({"reference": "customer-1"}, "not both"),
        ({"kind": "no-such-kind"}, "verification/selfie"),
        ({"kind": "a/../b"}, "kind"),
        ({"external_id": "ver/1"}, "external_id"),
        ({"external_id": None, "reference": ""}, "reference"),
        ({"external_id": None, "reference": "x" * 501}, "reference"),
        ({"external_id": None, "reference": "nul\x00"}, "reference"),
        ({"deadline": "tomorrow"}, "deadline"),
        ({"deadline": 1_800_000_000}, "deadline"),
        ({"deadline": "1999-01-01T00:00:00Z"}, "at most a day ago"),
        ({"deadline": "9999-12-31T23:59:59Z"}, "a year away"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_bad_body_is_the_callers_mistake(database, expect, changes, words):
    assert_problem(expect(**changes), 400, words=words)
    assert rows(database) == []


def test_a_body_without_a_deadline_is_refused(detached):
    body = {"source": SOURCE, "kind": KIND, "external_id": "ver_1"}

    assert_problem(detached.post(PATH, json=body), 400, words="deadline")


def test_an_unknown_source_is_not_found(database, expect):
    assert_problem(expect(source="nowhere"), 404, words="no source")
    assert rows(database) == []


def test_the_list_is_in_order_of_deadlines_and_in_pages(api, expect):
    for minutes in (30, 10, 20, 50, 40):
        expect(f"ver_{minutes}", minutes)
    pages: list[list[str]] = []
    cursor = None
    while cursor is not None or not pages:
        page = api.get(PATH, query_string={"limit": "2", **({"cursor": cursor} if cursor else {})}).get_json()
        pages.append([item["external_id"] for item in page["items"]])
        cursor = page["next_cursor"]

    assert pages == [["ver_10", "ver_20"], ["ver_30", "ver_40"], ["ver_50"]]


def test_a_page_of_one_source_looks_so_far_and_the_next_goes_on_behind(api, database, expect, monkeypatch):
    """Else the first page of a source that expects little would read all that others expect."""
    monkeypatch.setattr(store_expectations, "MOST_LOOKED_AT", 2)
    for minutes in range(10, 15):
        source = {"source": "gu1-test", "kind": "face-match"} if minutes == 13 else {}
        expect(f"ver_{minutes}", minutes, **source)

    first = api.get(PATH, query_string={"source": "gu1-test"}).get_json()
    second = api.get(PATH, query_string={"source": "gu1-test", "cursor": first["next_cursor"]}).get_json()
    last = api.get(PATH, query_string={"source": "gu1-test", "cursor": second["next_cursor"]}).get_json()

    assert first["items"] == []
    assert [item["external_id"] for item in second["items"]] == ["ver_13"]
    assert last == {"items": [], "next_cursor": None}
    with database.read() as session:
        [found] = reports.newest(session, reports.ExpectationFilter(source="gu1-test"), limit=50)
        assert found.external_id == "ver_13"


def test_equal_deadlines_are_paged_without_skipping(api, database, expect):
    deadline = time_text(play.now(database) + timedelta(hours=1))
    for number in range(3):
        expect(f"ver_{number}", deadline=deadline)

    first = api.get(PATH, query_string={"limit": "2"}).get_json()
    rest = api.get(PATH, query_string={"limit": "2", "cursor": first["next_cursor"]}).get_json()

    assert sorted(item["external_id"] for item in first["items"] + rest["items"]) == ["ver_0", "ver_1", "ver_2"]
    assert rest["next_cursor"] is None


def test_the_list_is_filtered(api, database, runtime, expect):
    store(database, key("ver_there"))
    expect("ver_there", -1)
    expect(external_id=None, reference="nobody", minutes=-1)
    expect("fm_1", 60, source="gu1-test", kind="face-match")
    Expectations(database, runtime.settings, lambda _: None).check()

    def states(**filters):
        return [item["state"] for item in api.get(PATH, query_string=filters).get_json()["items"]]

    assert sorted(states()) == ["met", "open", "overdue"]
    assert states(state="overdue") == ["overdue"]
    assert sorted(states(source=SOURCE)) == ["met", "overdue"]
    assert states(source="gu1-test", state="met") == []


@pytest.mark.parametrize(
    "query",
    [
        "state=lost",
        "source=A",
        "limit=0",
        "limit=201",
        "cursor=x",
        "cursor=0193f1c2-7d4e-4f6a-9b1c-2f5a8e7d6c3b",
        "colour=red",
        "limit=1&limit=2",
    ],
)
def test_a_bad_query_is_the_callers_mistake(api, query):
    assert_problem(api.get(f"{PATH}?{query}"), 400)


def test_what_is_cancelled_is_kept_and_audited_once(api, database, expect):
    location = expect().headers["Location"]

    answers = [api.delete(location) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.get_json()["state"] for answer in answers] == ["cancelled", "cancelled"]
    assert api.get(location).get_json()["state"] == "cancelled"
    with database.read() as session:
        [entry] = records(session, audit_entries.select())
    assert (entry["actor"], entry["action"]) == ("api:tests", "cancel-expectation")
    assert location.endswith(entry["subject"])


def test_what_is_met_stays_met(api, database, runtime, expect):
    store(database, key("ver_1"))
    location = expect(minutes=-1).headers["Location"]
    Expectations(database, runtime.settings, lambda _: None).check()

    assert api.delete(location).get_json()["state"] == "met"


@pytest.mark.parametrize("name", ["x", "00000000-0000-0000-0000-000000000000", "%00"])
def test_an_unknown_expectation_is_not_found(api, name):
    for answer in (api.get(f"{PATH}/{name}"), api.delete(f"{PATH}/{name}")):
        assert_problem(answer, 404, words="no such expectation")


def test_nobody_finds_a_person_by_reference_who_may_not_see_whom(database, runtime, expect):
    store(database, key("ver_7"))
    made = expect(external_id=None, reference="customer-1", minutes=-1)
    Expectations(database, runtime.settings, lambda _: None).check()
    stranger = client_with(runtime, Scope.RETRIEVALS_WRITE, Scope.OPS_READ)
    deadline = time_text(play.now(database) + timedelta(hours=1))
    wanted = {"source": SOURCE, "kind": KIND, "reference": "customer-1", "deadline": deadline}

    assert_problem(stranger.post(PATH, json=wanted), 403, words="finding results by reference needs the scope")
    one = stranger.get(made.headers["Location"]).get_json()
    assert stranger.get(PATH).get_json()["items"] == [one]
    assert (one["state"], one["reference"], one["found"]) == ("met", MASK, MASK)
    assert len(rows(database)) == 1


def test_an_id_may_be_expected_by_whoever_may_retrieve(database, runtime):
    deadline = time_text(play.now(database) + timedelta(hours=1))
    wanted = {"source": SOURCE, "kind": KIND, "external_id": "ver_1", "deadline": deadline}

    made = client_with(runtime, Scope.RETRIEVALS_WRITE).post(PATH, json=wanted)

    assert (made.status_code, made.get_json()["external_id"]) == (201, "ver_1")
