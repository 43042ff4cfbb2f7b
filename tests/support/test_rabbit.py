"""The tests' own RabbitMQ is real, and can be broken and repaired."""

from pathlib import Path

import psutil
import pytest

from tests.support import rabbit
from tests.support.rabbit import CONNECTION_ERRORS, RabbitServer, queue_counts, rabbit_connection
from tests.support.services import ServiceUnavailable

pytestmark = pytest.mark.rabbitmq


def test_it_can_be_frozen_and_goes_on_and_leaves_nothing_when_it_is_removed():
    with RabbitServer() as server:
        with rabbit_connection(server.url) as connection:
            connection.channel().queue_declare("kept", durable=True, auto_delete=False)
        server.pause()
        with pytest.raises(CONNECTION_ERRORS), rabbit_connection(server.url, 0.5):
            pytest.fail("a frozen server does not answer")
        server.resume()
        assert queue_counts(server.url, "kept") == (0, 0)

        processes = [psutil.Process(pid) for pid in (server.pid, server.epmd_pid)]
        home = server.home
    assert not any(process.is_running() for process in processes)
    assert not home.exists()


def test_a_machine_without_it_is_told_so_in_one_line(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(rabbit, "DEBIAN_PROGRAM", Path("/nowhere/rabbitmq-server"))
    monkeypatch.setattr(rabbit, "SYSTEM_PROGRAMS", "/nowhere")

    with pytest.raises(ServiceUnavailable, match=r"^RabbitMQ: no rabbitmq-server on the PATH or in /usr/sbin$"):
        RabbitServer()
