"""The blocks of the sinks: read, judged together, completed, and masked."""

import pytest

from worker.domain.states import EventType
from worker.errors import ConfigurationError
from worker.settings import load, summary
from worker.settings_sink import EVENT_TYPES

STREAM = {
    "VERISINK_SINKS__MY_STREAM__TYPE": "redis_stream",
    "VERISINK_SINKS__MY_STREAM__URL": "redis://user:canary@redis:6379/0?password=canary",
    "VERISINK_SINKS__MY_STREAM__KINDS": "inquiry, report/watchlist",
}


def problems(environ, directory):
    with pytest.raises(ConfigurationError) as refusal:
        load(environ, directory)
    return list(refusal.value.problems)


def test_the_types_of_events_are_those_that_there_are():
    assert set(EVENT_TYPES) == set(EventType)


def test_the_environment(tmp_path):
    [sink] = load(STREAM, tmp_path).sinks.values()

    assert (sink.name, sink.type, sink.stream, sink.max_length) == (
        "my-stream",
        "redis_stream",
        "verisink:events",
        100_000,
    )
    assert (sink.kinds, sink.types, sink.sources) == (("inquiry", "report/watchlist"), (), ())
    assert sink.url is not None
    assert "canary" in sink.url.get_secret_value()


def test_a_toml_file_and_a_secret_in_a_file_beside_it(tmp_path):
    (tmp_path / "url").write_text("redis://:canary@redis/1\n")
    (tmp_path / "verisink.toml").write_text(
        '[sources.gu1]\nprovider = "gu1"\n'
        '[sinks.mine]\ntype = "redis_stream"\nurl_file = "url"\nsources = ["gu1"]\nmax_length = 5\n'
        'types = ["verification.result.decided"]\n'
    )

    sink = load({"VERISINK_SINKS__MINE__MAX_LENGTH": "6"}, tmp_path).sinks["mine"]

    assert sink.url is not None
    assert sink.url.get_secret_value() == "redis://:canary@redis/1"
    assert (sink.sources, sink.types, sink.max_length) == (("gu1",), ("verification.result.decided",), 6)


def test_a_stream_without_a_url_is_in_the_redis_that_there_is(tmp_path):
    name = "VERISINK_SINKS__A__TYPE"
    loaded = load({name: "redis_stream", "VERISINK_BROKER_URL": "redis://broker/0", **STREAM}, tmp_path)

    urls = {name: sink.url.get_secret_value() for name, sink in loaded.complete_sinks.items() if sink.url is not None}
    assert urls == {"a": "redis://broker/0", "my-stream": STREAM["VERISINK_SINKS__MY_STREAM__URL"]}
    for environ in ({name: "redis_stream"}, {name: "redis_stream", "VERISINK_BROKER_URL": "amqp://broker"}):
        assert "sink a: url is required" in str(problems(environ, tmp_path))


def test_every_problem_is_in_one_message(tmp_path):
    found = problems(
        {
            "VERISINK_SINKS__A__TYPE": "pigeon",
            "VERISINK_SINKS__B__TYPE": "redis_stream",
            "VERISINK_SINKS__B__URL": "http://canary@x",
            "VERISINK_SINKS__C__TYPE": "redis_stream",
            "VERISINK_SINKS__C__STREEM": "x",
            "VERISINK_SINKS__C__TYPES": "verification.result.decided,nonsense",
            "VERISINK_SINKS__D__MAX_LENGTH": "0",
            "VERISINK_SINKS__LOG__TYPE": "redis_stream",
            "VERISINK_SINKS__TOO__DEEP__X": "1",
        },
        tmp_path,
    )

    for said in (
        "VERISINK_SINKS__A__TYPE: must be one of celery, file, redis_stream, webhook",
        "VERISINK_SINKS__B: url must begin with redis:// or rediss://",
        "VERISINK_SINKS__C__STREEM: unknown setting; did you mean stream?",
        "VERISINK_SINKS__C__TYPES: nonsense: no such event; there are verification.result.created",
        "VERISINK_SINKS__D__TYPE: is required",
        "VERISINK_SINKS__D__MAX_LENGTH: ",
        "VERISINK_SINKS__LOG__NAME: is the name of a sink that is always there",
        "VERISINK_SINKS__TOO__DEEP__X: unknown setting; a sink's settings are named VERISINK_SINKS__<NAME>__<KEY>",
    ):
        assert any(problem.startswith(said) for problem in found), (said, found)
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"VERISINK_SINKS__MY_STREAM__SOURCES": "persona-live"}, "no source of that name is configured"),
        ({"VERISINK_SINKS__MY_STREAM__NAME": "other"}, "is not set inside it"),
        ({f"VERISINK_SINKS__{'X' * 51}__TYPE": "redis_stream"}, "pattern"),
    ],
)
def test_what_does_not_fit_together_is_said(more, said, tmp_path):
    assert said in str(problems({**STREAM, **more}, tmp_path))


def test_the_summary_shows_no_secret(tmp_path):
    loaded = load(STREAM, tmp_path)

    shown = summary(loaded)
    assert "canary" not in f"{shown} {loaded!r} {loaded.complete_sinks!r}"
    assert shown["sinks"] == {
        "my-stream": {
            "type": "redis_stream",
            "types": [],
            "sources": [],
            "kinds": ["inquiry", "report/watchlist"],
            "retry_hours": 72,
            "start": "beginning",
            "url": "redis://redis:6379/0",
            "stream": "verisink:events",
            "max_length": 100_000,
        }
    }
