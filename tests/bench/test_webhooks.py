"""What the benchmarks send is what Persona sends: the provider module takes it, and no two are alike."""

import email
import json
import time

import pytest

from bench.webhooks import COLLECTION, KIND, PATH, Sender, bodies, requests
from web.simulator.credentials import Credentials, settings_for
from worker.domain.model import ResourceRef
from worker.errors import AuthenticationFailed
from worker.providers.base import InboundRequest
from worker.providers.persona import TYPED_PATHS, PersonaProvider
from worker.settings import Settings

CREDENTIALS = Credentials.generate(2)
SECRET = CREDENTIALS.persona_webhook_secrets[0]
COUNT = 50


def source():
    made = settings_for(CREDENTIALS)
    blocks = made["sources"]
    assert isinstance(blocks, dict)
    return Settings.model_validate({"sources": {"persona": {"slug": "persona", **blocks["persona"]}}}).sources[
        "persona"
    ]


def arrived(request):
    """A raw request as the provider module is given it."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, _, fields = head.decode().partition("\r\n")
    headers = {name.lower(): text for name, text in email.message_from_string(fields).items()}
    assert line == f"POST {PATH} HTTP/1.1"
    assert int(headers["content-length"]) == len(body)
    return InboundRequest(body, headers, None)


def test_the_provider_takes_each_and_each_is_about_something_else():
    provider, configured = PersonaProvider(), source()
    found = [arrived(request) for request in requests(Sender(SECRET), COUNT)]

    for request in found:
        provider.authenticate(configured, request, int(time.time()))
    told = [provider.parse(configured, request.body) for request in found]

    assert len({notification.delivery_key for notification in told}) == COUNT
    assert len({notification.resources for notification in told}) == COUNT
    assert all(notification.resources[0].kind == KIND for notification in told)
    assert TYPED_PATHS[KIND] == COLLECTION


def test_a_wrong_secret_is_refused():
    [request] = requests(Sender("another"), 1)

    with pytest.raises(AuthenticationFailed):
        PersonaProvider().authenticate(source(), arrived(request), int(time.time()))


def test_several_events_may_be_about_the_same():
    configured = source()
    told = [PersonaProvider().parse(configured, body) for body in bodies(Sender(SECRET, resources=5), COUNT)]

    assert len({notification.event_id for notification in told}) == COUNT
    assert len({notification.resources for notification in told}) == 5


def test_batches_share_nothing_and_can_be_made_again():
    one, two, again = (list(bodies(Sender(SECRET, batch=name), COUNT)) for name in ("a", "b", "a"))

    assert not set(one) & set(two)
    assert [json.loads(body)["data"]["id"] for body in one] == [json.loads(body)["data"]["id"] for body in again]


def test_a_body_is_as_long_as_was_agreed():
    [body] = bodies(Sender(SECRET), 1)

    assert 1_400 <= len(body) <= 1_600
    assert isinstance(PersonaProvider().parse(source(), body).resources[0], ResourceRef)
