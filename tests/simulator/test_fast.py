"""The simulator's fast mode: documents for every path that Verisink asks for, from a server that keeps up."""

import asyncio
import json
import signal
import subprocess
import sys
import time
import uuid

import httpx
import pytest

from tests.simulator.support import CREDENTIALS
from web.simulator.credentials import write_settings
from worker import settings
from worker.domain import strict_json
from worker.domain.model import ResourceRef
from worker.domain.states import Stage
from worker.providers.registry import providers

IDS = {"persona": "ver_R5y8wz6kpp6Vd2m5d6yT1u9f", "verifik": "66b1f0a2c4d5e6f708192a3b"}
UUID = "3f0c7a52-90aa-4d8e-9c5f-2a0f7c0b7d11"
KINDS = [
    ("persona", "verification/government-id"),
    ("persona", "verification/selfie"),
    ("persona", "verification/database"),
    ("persona", "inquiry"),
    ("persona", "account"),
    ("verifik", "biometric-validation"),
    ("verifik", "document-liveness"),
    ("gu1", "kyc-validation"),
    ("gu1", "entity"),
    ("yoti", "session"),
]
LATENCY = 0.3
AT_ONCE = 40


def start(*arguments):
    """`verisink simulate --fast`, and its URL."""
    command = [sys.executable, "-m", "web.main", "simulate", "--fast", "--json", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, json.loads(line)["url"]


@pytest.fixture(scope="module")
def fast():
    process, url = start("--latency", str(LATENCY))
    yield url
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture(scope="module")
def sources(fast, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fast")
    write_settings(folder, fast, CREDENTIALS)
    return settings.load(environ={"VERISINK_CONFIG": str(folder / "verisink.toml")}).sources


def stats(url):
    return httpx.get(f"{url}/fast/stats", trust_env=False).json()


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_a_provider_reads_the_document_of_any_id(sources, name, kind):
    provider, source = providers()[name], sources[name]
    ref = ResourceRef(kind, IDS.get(name, UUID))
    asked = provider.request(source, ref, nonce=str(uuid.uuid4()), unix_ms=time.time_ns() // 1_000_000)

    answer = httpx.get(asked.url, headers=dict(asked.headers), trust_env=False)

    assert answer.status_code == 200
    document = strict_json.parse_object(answer.content)
    assert ref.external_id in answer.text
    reading = provider.read(source, ref, document)
    assert (reading.verdict.stage is Stage.UNMAPPED, reading.drift) == (False, ())


def test_unknown_paths_are_not_found(fast):
    for path in ("/persona/api/v1/verification/nonsense/ver_1", "/persona/api/v1/inquiries/", "/elsewhere"):
        assert httpx.get(fast + path, trust_env=False).status_code == 404


def test_what_is_no_request_is_refused(fast):
    async def shout():
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(fast).port)
        writer.write(b"hello\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    assert asyncio.run(shout()).startswith(b"HTTP/1.1 400 ")


def test_calls_are_answered_side_by_side_and_counted(fast):
    async def call():
        async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=AT_ONCE)) as client:
            urls = [f"{fast}/persona/api/v1/inquiries/inq_{number}" for number in range(AT_ONCE)]
            return await asyncio.gather(*(client.get(url, timeout=30) for url in urls))

    httpx.post(f"{fast}/fast/reset", trust_env=False)
    began = time.monotonic()
    answers = asyncio.run(call())

    assert [answer.json()["data"]["id"] for answer in answers] == [f"inq_{number}" for number in range(AT_ONCE)]
    # One after another they would take twelve seconds.
    assert LATENCY <= time.monotonic() - began < LATENCY * AT_ONCE / 2
    counted = stats(fast)
    assert (counted["calls"], counted["unknown"], counted["in_flight"]) == (AT_ONCE, 0, 0)
    assert 1 < counted["max_in_flight"] <= AT_ONCE


def test_requests_that_arrive_together_are_answered_in_their_order(fast):
    async def pipeline():
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(fast).port)
        one, two = (b"GET /gu1/entities/%b HTTP/1.1\r\nHost: x\r\n\r\n" % name for name in (b"first", b"second"))
        writer.write(one + two[:20])
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(two[20:])
        text = b""
        while text.count(b"HTTP/1.1 200 OK") < 2 or not text.endswith(b"}"):
            text += await reader.read(65_536)
        writer.close()
        await writer.wait_closed()
        return text

    text = asyncio.run(pipeline())
    assert text.index(b'"first"') < text.index(b'"second"')


def test_a_taken_port_is_said(fast):
    port = str(httpx.URL(fast).port)
    command = [sys.executable, "-m", "web.main", "simulate", "--fast", "--port", port]

    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert run.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in run.stderr
