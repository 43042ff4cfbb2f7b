"""What a lost webhook leaves at the provider that sent it."""

from web.simulator.loss import lose


def test_a_lost_persona_event_is_listed_all_the_same(caller, world):
    inquiry = world.create("persona", "inquiry")

    notice = lose(world, inquiry)

    [event] = caller.persona("/events").json()["data"]
    assert event["id"] == notice.key
    assert event["attributes"]["payload"]["data"]["id"] == inquiry.ref.external_id


def test_a_lost_verifik_webhook_is_in_its_log_as_failed(caller, world):
    registration = world.create("verifik", "app-registration")
    notice = lose(world, registration)

    listed = caller.verifik("/v2/webhook-events?where_response.status=fail&perPage=10&page=1").json()

    [entry] = listed["data"]
    assert (listed["total"], listed["page"], listed["pages"]) == (1, 1, 1)
    assert (entry["type"], entry["response"]["status"]) == (notice.event, "fail")
    assert entry["body"]["object"]["_id"] == registration.ref.external_id
    assert caller.verifik("/v2/webhook-events?where_response.status=success").json()["data"] == []
    assert caller.verifik("/v2/webhook-events?whereGTE_createdAt=2999-01-01").json()["data"] == []
    assert caller.verifik("/v2/webhook-events/" + entry["_id"]).status_code == 404


def test_elsewhere_it_leaves_nothing(world):
    session = world.create("yoti", "session")

    assert lose(world, session).ref == session.ref
    assert world.failed_webhooks() == []
    assert world.events() == []
