"""Everything that can go wrong at a provider can be switched on, seen, and switched off again."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from web.simulator.faults import Answer, FaultBoard, Faults
from web.simulator.records import Ref
from worker.clock import monotonic

KIND = {"persona": "inquiry", "verifik": "app-registration", "gu1": "kyc-validation", "yoti": "session"}
PROVIDERS = sorted(KIND)


@pytest.fixture(params=PROVIDERS)
def ref(request, world):
    return world.create(request.param, KIND[request.param]).ref


@pytest.fixture
def inquiry(world):
    return world.create("persona", "inquiry").ref


def test_an_outage_lasts_until_it_is_cleared(caller, simulator, ref):
    simulator.faults.set(ref.provider, Faults(outage=True))
    assert [caller.read(ref).status_code for _ in range(2)] == [503, 503]

    simulator.faults.clear(ref.provider)
    assert caller.read(ref).status_code == 200


def test_credentials_can_be_revoked(caller, simulator, ref):
    simulator.faults.set(ref.provider, Faults(wrong_credentials=True))
    assert caller.read(ref).status_code == 401

    simulator.faults.clear()
    assert caller.read(ref).status_code == 200


def test_some_calls_fail(caller, simulator, inquiry):
    simulator.faults.set("persona", Faults(error_rate=0.5))

    statuses = {caller.read(inquiry).status_code for _ in range(40)}

    assert statuses == {200, 500}


def test_the_limit_is_kept_and_begins_again(caller, simulator, ref):
    simulator.faults.set(ref.provider, Faults(rate_limit_per_minute=2))

    answers = [caller.read(ref) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    if ref.provider == "persona":
        assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
        assert answers[2].headers["RateLimit-Limit"] == "2"
        assert 0 < int(answers[2].headers["RateLimit-Reset"]) <= 60
        assert "Retry-After" not in answers[2].headers
        assert answers[2].json()["errors"][0]["title"] == "Rate limit exceeded"

    simulator.faults.new_minute(ref.provider)
    assert caller.read(ref).status_code == 200


def test_persona_announces_its_limits_on_every_authenticated_answer(caller, simulator, inquiry):
    good, missing = caller.read(inquiry), caller.read(Ref("persona", "inquiry", "inq_unknown"))

    for answer in (good, missing):
        assert {"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Persona-Environment-Id"} <= {
            name.title().replace("Ratelimit", "RateLimit") for name in answer.headers
        }
    assert good.headers["Request-Id"] != missing.headers["Request-Id"]
    simulator.faults.set("persona", Faults(rate_limit_per_minute=50))
    attributes = caller.persona("/rate-limits").json()["data"][0]["attributes"]
    assert attributes["limit"] == 50
    assert 0 < attributes["remaining"] < 50


def test_answers_can_be_slow(caller, simulator, inquiry):
    simulator.faults.set("persona", Faults(latency=0.1, slow_latency=0.3, slow_share=0.0))
    started = monotonic()
    caller.read(inquiry)
    assert 0.1 <= monotonic() - started < 0.3

    simulator.faults.set("persona", Faults(slow_latency=0.3, slow_share=1.0))
    started = monotonic()
    caller.read(inquiry)
    assert monotonic() - started >= 0.3


def test_a_hanging_call_ends_when_it_is_let_go(caller, simulator, inquiry):
    simulator.faults.set("persona", Faults(hang=True))
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(caller.read, inquiry)
        with pytest.raises(TimeoutError):
            hanging.result(timeout=0.3)
        assert simulator.world.calls()[0].status is None
        simulator.faults.clear("persona")
        assert hanging.result(timeout=5).status_code == 200


def test_stopping_lets_hanging_calls_go(caller, simulator, inquiry):
    simulator.faults.set("persona", Faults(hang=True))
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(caller.read, inquiry)
        while not simulator.world.calls():
            simulator.faults.sleep(0.01)
        simulator.stop()
        assert hanging.exception(timeout=5) is None or isinstance(hanging.exception(), httpx.HTTPError)


def test_a_body_can_be_cut(caller, simulator, ref):
    simulator.faults.set(ref.provider, Faults(truncated=True))

    with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
        caller.read(ref)


def test_a_body_can_be_something_else(caller, simulator, ref):
    simulator.faults.set(ref.provider, Faults(html=True))
    assert caller.read(ref).text.startswith("<!DOCTYPE html>")

    simulator.faults.set(ref.provider, Faults(empty=True))
    assert caller.read(ref).content == b""


def test_a_body_can_be_big(caller, simulator, ref):
    simulator.faults.set(ref.provider, Faults(big_megabytes=2))

    answer = caller.read(ref)

    assert len(answer.content) > 2_000_000
    assert answer.json()


def test_a_share_of_the_bodies_can_be_bad(caller, simulator, inquiry):
    simulator.faults.set("persona", Faults(empty=True, share=0.5))

    assert {caller.read(inquiry).content == b"" for _ in range(40)} == {True, False}


def test_answers_can_be_scripted_for_one_id(caller, simulator, world, inquiry):
    other = world.create("persona", "inquiry").ref
    simulator.faults.script(inquiry.external_id, [Answer(404), Answer(200, b"{}", {"X-Script": "yes"})])

    assert caller.read(other).status_code == 200
    assert caller.read(inquiry).status_code == 404
    second = caller.read(inquiry)
    assert (second.content, second.headers["X-Script"]) == (b"{}", "yes")
    assert caller.read(inquiry).json()["data"]["id"] == inquiry.external_id


def test_a_hook_sees_each_call_before_it_is_answered(caller, simulator, inquiry):
    seen: list[tuple[str, str | None, int | None]] = []
    simulator.faults.on_call = lambda call: seen.append((call.provider, call.external_id, call.status))

    caller.read(inquiry)

    assert seen == [("persona", inquiry.external_id, None)]


def test_many_slow_calls_run_side_by_side(caller, simulator, inquiry):
    simulator.faults.set("persona", Faults(latency=0.5))
    started = monotonic()
    with ThreadPoolExecutor(64) as pool:
        statuses = [answer.status_code for answer in pool.map(lambda _: caller.read(inquiry), range(64))]

    assert statuses == [200] * 64
    assert monotonic() - started < 5


def test_a_stopped_simulator_starts_again_on_the_same_port(caller, simulator, inquiry):
    url = simulator.url
    simulator.stop()
    with pytest.raises(httpx.ConnectError):
        caller.read(inquiry)

    simulator.start()

    assert simulator.url == url
    assert caller.read(inquiry).status_code == 200


def test_windows_of_the_limit_are_counted_exactly_by_many_threads():
    board = FaultBoard()
    fits: list[bool] = []
    threads = [
        threading.Thread(target=lambda: fits.extend(board.take("persona", 100)[0] for _ in range(50))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert fits.count(True) == 100
