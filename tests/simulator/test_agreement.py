"""The simulator and the provider modules were written apart from each other; here they must agree.

What one sends the other accepts, and a flaw on either side is refused by the other.
"""

import random
import time
import uuid

import httpx
import pytest

from tests.simulator.support import CREDENTIALS
from web.simulator.credentials import write_settings
from web.simulator.notifications import Flaw, compose, sign
from web.simulator.records import Ref
from web.simulator.stories import STORIES
from worker import settings
from worker.domain import documents, strict_json
from worker.domain.model import ResourceRef
from worker.errors import AuthenticationFailed
from worker.providers.base import InboundRequest
from worker.providers.registry import providers

ALSO_RETRIEVED = [
    ("persona", "account"),
    ("persona", "verification/phone-number"),
    ("persona", "verification/database"),
    ("verifik", "document-liveness"),
    ("verifik", "phone-validation"),
    ("verifik", "information-validation"),
    ("gu1", "face-match"),
    ("gu1", "id-verification"),
    ("gu1", "entity"),
]


@pytest.fixture
def sources(simulator, tmp_path):
    write_settings(tmp_path, simulator.url, CREDENTIALS)
    return settings.load(environ={"VERISINK_CONFIG": str(tmp_path / "verisink.toml")}).sources


def arriving(notice, flaw=None):
    request = sign(CREDENTIALS, notice, flaw=flaw)
    token = request.path.split("/")[3] if request.path.count("/") > 2 else None
    return InboundRequest(request.body, {name.lower(): value for name, value in request.headers.items()}, token)


def retrieve(client, source, ref):
    out = providers()[source.provider].request(
        source, ref, nonce=str(uuid.uuid4()), unix_ms=time.time_ns() // 1_000_000
    )
    answer = client.get(out.url, headers=dict(out.headers))
    assert answer.status_code == 200
    return strict_json.parse_object(answer.content)


def check_document(world, client, source, ref):
    """Two reads are one version, and what would be stored is the truth."""
    paths = providers()[source.provider].paths(ref)
    first, second = (documents.redact(retrieve(client, source, ref), paths.secrets)[0] for _ in range(2))
    assert isinstance(first, dict)
    assert documents.content_digest(first, paths.volatile) == documents.content_digest(second, paths.volatile)
    truth = world.truth()[Ref(source.provider, ref.kind, ref.external_id)]
    assert world.digest(source.provider, first) == truth.digest
    assert providers()[source.provider].read(source, ref, first) is not None


@pytest.mark.parametrize("story", list(STORIES), ids=lambda story: story.__name__)
def test_notifications_are_authentic_and_lead_to_the_record(simulator, sources, story):
    with httpx.Client(trust_env=False) as client:
        for notice in story(simulator.world, random.Random(1)):
            source = sources[notice.ref.provider]
            provider = providers()[notice.ref.provider]
            request = arriving(notice)
            provider.authenticate(source, request, int(time.time()))
            named = provider.parse(source, request.body).resources
            assert ResourceRef(notice.ref.kind, notice.ref.external_id) in named
            for ref in named:
                check_document(simulator.world, client, source, ref)


@pytest.mark.parametrize(("provider", "kind"), ALSO_RETRIEVED)
def test_kinds_without_notifications_can_be_retrieved(simulator, sources, provider, kind):
    ref = simulator.world.create(provider, kind).ref
    with httpx.Client(trust_env=False) as client:
        check_document(simulator.world, client, sources[provider], ResourceRef(kind, ref.external_id))


@pytest.mark.parametrize(
    "made", [("persona", "inquiry"), ("verifik", "app-registration"), ("gu1", "kyc-validation"), ("yoti", "session")]
)
@pytest.mark.parametrize("flaw", [Flaw.WRONG_SIGNATURE, Flaw.NO_SIGNATURE, Flaw.TAMPERED_BODY, Flaw.OLD_TIMESTAMP])
def test_flaws_are_refused_where_the_provider_can_tell(simulator, sources, made, flaw):
    notice = compose(simulator.world, simulator.world.create(*made))
    provider, source = providers()[made[0]], sources[made[0]]
    tells = flaw in (Flaw.WRONG_SIGNATURE, Flaw.NO_SIGNATURE) or made[0] == "persona"
    if tells or (made[0] == "gu1" and flaw is Flaw.TAMPERED_BODY):
        with pytest.raises(AuthenticationFailed):
            provider.authenticate(source, arriving(notice, flaw), int(time.time()))
    else:
        provider.authenticate(source, arriving(notice, flaw), int(time.time()))


def test_persona_rotation_is_accepted(simulator, sources):
    notice = compose(simulator.world, simulator.world.create("persona", "inquiry"))

    providers()["persona"].authenticate(sources["persona"], arriving(notice, Flaw.ROTATING), int(time.time()))
