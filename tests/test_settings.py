"""The settings: from text to values, everything wrong in one message, and no secret in any text."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from pydantic import SecretStr, ValidationError

from tests.providers.yoti_builders import pem_of
from worker import settings
from worker.errors import ConfigurationError
from worker.settings import Settings, Source, load, masked_url, summary, token_digest, warnings

PERSONA = {
    "VERISINK_SOURCES__PERSONA_LIVE__PROVIDER": "persona",
    "VERISINK_SOURCES__PERSONA_LIVE__WEBHOOK_SECRETS": "canary-one, canary-two",
    "VERISINK_SOURCES__PERSONA_LIVE__API_KEY": "canary-key",
}

PEM = pem_of(generate_private_key(public_exponent=65537, key_size=2048))


def revealed(secrets):
    return [secret.get_secret_value() for secret in secrets]


def problems(environ, directory):
    with pytest.raises(ConfigurationError) as refusal:
        load(environ, directory)
    return list(refusal.value.problems)


def test_nothing_set_gives_the_documented_defaults(tmp_path):
    loaded = load({}, tmp_path)

    assert loaded.database_url.get_secret_value() == "sqlite:///verisink.db"
    assert (loaded.host, loaded.port, loaded.log_level) == ("127.0.0.1", 8000, "info")
    assert (loaded.embedded, loaded.is_sqlite, loaded.budget_url) == (True, True, None)
    assert loaded.sources == {}


@pytest.mark.parametrize(
    ("provider", "base_url", "limit", "max_body", "horizon"),
    [
        ("persona", "https://api.withpersona.com/api/v1", 300, 1024**2, 72),
        ("verifik", "https://api.verifik.co", 120, 10 * 1024**2, 72),
        ("gu1", "https://api.gu1.ai", 120, 1024**2, 72),
        ("yoti", "https://api.yoti.com/idverify/v1", 120, 1024**2, 144),
    ],
)
def test_providers_bring_their_own_defaults(provider, base_url, limit, max_body, horizon):
    source = Source.model_validate({"slug": "a", "provider": provider})

    assert source.base_url == base_url
    assert (source.rate_limit_per_minute, source.max_body_bytes) == (limit, max_body)
    assert source.retry_horizon_hours == horizon
    assert source.environment == "live"


def test_the_environment(tmp_path):
    loaded = load({**PERSONA, "VERISINK_LOG_LEVEL": "DEBUG", "VERISINK_WORKER_CONCURRENCY": "3", "HOME": "/"}, tmp_path)

    source = loaded.sources["persona-live"]
    assert source.slug == "persona-live"
    assert revealed(source.webhook_secrets) == ["canary-one", "canary-two"]
    assert (loaded.log_level, loaded.worker_concurrency) == ("debug", 3)


def test_a_toml_file_in_the_directory_or_named(tmp_path):
    (tmp_path / "verisink.toml").write_text('port = 9000\n[sources.gu]\nprovider = "gu1"\nwebhook_secrets = ["a,b"]\n')
    (tmp_path / "other.toml").write_text("port = 9001\n")

    loaded = load({}, tmp_path)
    assert loaded.port == 9000
    assert revealed(loaded.sources["gu"].webhook_secrets) == ["a,b"]
    assert load({"VERISINK_CONFIG": str(tmp_path / "other.toml")}, tmp_path).port == 9001


def test_the_environment_wins_key_by_key(tmp_path):
    (tmp_path / "verisink.toml").write_text(
        'port = 9000\nhost = "0.0.0.0"\n'
        '[sources.persona-live]\nprovider = "persona"\napi_key = "old"\nrate_limit_per_minute = 9\n'
    )

    loaded = load({**PERSONA, "VERISINK_PORT": "9002"}, tmp_path)

    source = loaded.sources["persona-live"]
    assert (loaded.port, loaded.host) == (9002, "0.0.0.0")  # noqa: S104
    assert (source.api_key, source.rate_limit_per_minute) == (SecretStr("canary-key"), 9)


def test_port_without_prefix_is_honoured_and_weaker(tmp_path):
    assert load({"PORT": "5000"}, tmp_path).port == 5000
    assert load({"PORT": "5000", "VERISINK_PORT": "5001"}, tmp_path).port == 5001
    assert load({"PORT": ""}, tmp_path).port == 8000


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("one", ["one"]),
        ("one,two", ["one", "two"]),
        (" one , two ,", ["one", "two"]),
        ('["one", "with,comma"]', ["one", "with,comma"]),
        ("", []),
    ],
)
def test_lists_are_commas_or_json(text, secrets, tmp_path):
    environ = {**PERSONA, "VERISINK_SOURCES__PERSONA_LIVE__WEBHOOK_SECRETS": text}

    assert revealed(load(environ, tmp_path).sources["persona-live"].webhook_secrets) == secrets


def test_secrets_from_files(tmp_path):
    (tmp_path / "key.pem").write_text(PEM)
    (tmp_path / "url").write_text("postgresql://user:pw@db/verisink\n")
    (tmp_path / "tokens").write_text("one:x,two:y\n")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "secrets").write_text("canary-three\n")
    (tmp_path / "conf" / "verisink.toml").write_text(
        '[sources.yo]\nprovider = "yoti"\nsdk_id = "1"\nprivate_key_file = "../key.pem"\n'
        '[sources.gu]\nprovider = "gu1"\nwebhook_secrets_file = "secrets"\n'
    )
    environ = {
        "VERISINK_CONFIG": str(tmp_path / "conf" / "verisink.toml"),
        "VERISINK_DATABASE_URL_FILE": str(tmp_path / "url"),
        "VERISINK_API_TOKENS_FILE": "tokens",
    }

    loaded = load(environ, tmp_path)

    key = loaded.sources["yo"].private_key
    assert key is not None
    assert key.get_secret_value() == PEM.strip()
    assert revealed(loaded.sources["gu"].webhook_secrets) == ["canary-three"]
    assert loaded.database_url.get_secret_value() == "postgresql+psycopg://user:pw@db/verisink"
    assert [token.name for token in loaded.api_tokens] == ["one", "two"]


def test_the_environment_replaces_the_other_form_of_a_key(tmp_path):
    (tmp_path / "k").write_text("from-file")
    toml = '[sources.persona-live]\nprovider = "persona"\n'
    (tmp_path / "verisink.toml").write_text(toml + 'api_key_file = "missing"\n')
    assert load(PERSONA, tmp_path).sources["persona-live"].api_key == SecretStr("canary-key")

    (tmp_path / "verisink.toml").write_text(toml + 'api_key = "weaker"\n')
    environ = {"VERISINK_SOURCES__PERSONA_LIVE__API_KEY_FILE": "k"}
    assert load(environ, tmp_path).sources["persona-live"].api_key == SecretStr("from-file")


@pytest.mark.parametrize("toml", ["", '[sources.persona-live]\nprovider = "persona"\n'])
def test_both_forms_of_a_key_in_one_place_are_a_mistake(toml, tmp_path):
    (tmp_path / "verisink.toml").write_text(toml)
    environ = {**PERSONA, "VERISINK_SOURCES__PERSONA_LIVE__API_KEY_FILE": "k"}

    [problem] = problems(environ, tmp_path)

    assert "given both as itself and as api_key_file" in problem


def test_a_private_key_may_have_its_line_ends_escaped():
    environ = {
        "VERISINK_SOURCES__Y__PROVIDER": "yoti",
        "VERISINK_SOURCES__Y__PRIVATE_KEY": PEM.replace("\n", r"\n"),
    }

    assert load(environ).sources["y"].private_key == SecretStr(PEM)


def test_every_problem_is_in_one_message(tmp_path):
    (tmp_path / "verisink.toml").write_text("worker_concurrencey = 3\n")
    environ = {
        **PERSONA,
        "VERISINK_PORT": "eighty",
        "VERISINK_LOG_LEVEL": "loud",
        "VERISINK_DATABASE_URL": "mysql://canary@db/x",
        "VERISINK_BROKER_URL": "kafka://canary",
        "VERISINK_SOURCES__PERSONA_LIVE__API_KYE": "canary-typo",
        "VERISINK_SOURCES__GU__PROVIDER": "gu2",
        "VERISINK_SOURCES__NOBODY__API_KEY": "canary-key",
        "VERISINK_SOURCES__BAD_": "x",
        "VERISINK_WEB__THREADS": "3",
        "VERISINK_API_TOKENS": "canary-without-colon",
        "VERISINK_REDIS_URL_FILE": "missing",
    }

    with pytest.raises(ConfigurationError) as refusal:
        load(environ, tmp_path)

    message = str(refusal.value)
    for expected in (
        "VERISINK_PORT: ",
        "VERISINK_LOG_LEVEL: ",
        "VERISINK_DATABASE_URL: must begin with sqlite:///",
        "VERISINK_BROKER_URL: must begin with redis://",
        "VERISINK_SOURCES__PERSONA_LIVE__API_KYE: unknown setting; did you mean api_key?",
        "VERISINK_WORKER_CONCURRENCEY: unknown setting; did you mean worker_concurrency?",
        "VERISINK_SOURCES__GU__PROVIDER: ",
        "VERISINK_SOURCES__NOBODY__PROVIDER: is required",
        "VERISINK_SOURCES__BAD_: unknown setting",
        "VERISINK_WEB__THREADS: unknown setting",
        "VERISINK_API_TOKENS: each entry is name:token",
        "VERISINK_REDIS_URL_FILE: cannot read",
    ):
        assert expected in message
    assert "canary" not in message
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("port = ", "cannot be read as TOML"),
        ("sources = 3", "VERISINK_SOURCES: "),
        ("[sources]\na = 3", "VERISINK_SOURCES__A: "),
        ('[sources.a]\nprovider = "gu1"\nslug = "b"', "the slug is the name of the block"),
        ('[sources.A]\nprovider = "gu1"', "VERISINK_SOURCES__A__SLUG: "),
        ('[sources.a]\nprovider = "gu1"\nwebhook_secrets = [1]', "WEBHOOK_SECRETS__0: "),
        ('[sources.a]\nprovider = "gu1"\nwebhook_secrets = [" "]', "empty secret"),
        ('[sources.a]\nprovider = "gu1"\nretry_horizon_hours = inf', "RETRY_HORIZON_HOURS: "),
        ('[sources.a]\nprovider = "verifik"\nwebhook_tokens = ["a/b"]', "WEBHOOK_TOKENS: holds a token that cannot be"),
        ('[sources.a]\nprovider = "yoti"\nprivate_key = "x"', "PRIVATE_KEY: is not an unencrypted private key in PEM"),
        ('redis_url = "amqp://a"', "VERISINK_REDIS_URL: must begin with redis:// or rediss://, because only Redis"),
        ("call_deadline_seconds = 31", "at most half of lease_seconds"),
        ("keep_deliveries_days = 29", "VERISINK_KEEP_DELIVERIES_DAYS: must be at least 30, or 0 to keep for ever"),
        ("keep_attempts_days = -1", "VERISINK_KEEP_ATTEMPTS_DAYS: "),
        ('database_url = "sqlite://"', "VERISINK_DATABASE_URL: "),
        ('database_url = "sqlite:///:memory:"', "would not survive a restart"),
        ('api_tokens = [{name = "a", token = "b"}]', "VERISINK_API_TOKENS: each entry is"),
        ('api_tokens = "[broken:json"', "VERISINK_API_TOKENS: "),
        ('api_tokens = ["a:sha256:xyz"]', "VERISINK_API_TOKENS__0__SHA256: "),
    ],
)
def test_a_mistake_in_the_file_is_a_sentence(toml, expected, tmp_path):
    (tmp_path / "verisink.toml").write_text(toml)

    found = problems({}, tmp_path)

    assert len(found) == 1
    assert expected in found[0]


def test_a_named_file_that_is_missing_is_said(tmp_path):
    [problem] = problems({"VERISINK_CONFIG": str(tmp_path / "nowhere.toml")}, tmp_path)

    assert "nowhere.toml: cannot be read" in problem


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_has_three_spellings(scheme):
    url = Settings(database_url=SecretStr(f"{scheme}://u:p@db/x")).database_url.get_secret_value()

    assert url == "postgresql+psycopg://u:p@db/x"


@pytest.mark.parametrize(
    "url", ["https://api.example/v1/", "http://127.0.0.1:9009", "http://localhost:1/x", "http://[::1]:80"]
)
def test_base_urls(url):
    assert Source(slug="a", provider="gu1", base_url=url).base_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://api.example", "must use https"),
        ("http://10.0.0.1", "must use https"),
        ("http://127.0.0.1.example", "must use https"),
        ("ftp://api.example", "must be an http"),
        ("api.example", "must be an http"),
        ("https://", "must be an http"),
        ("https://canary:canary@api.example", "must not hold"),
        ("https://:canary@api.example", "must not hold"),
        ("https://api.example?x=1", "must not hold"),
        ("https://api.example#x", "must not hold"),
    ],
)
def test_no_base_urls(url, why):
    with pytest.raises(ValidationError, match=why) as refusal:
        Source(slug="a", provider="gu1", base_url=url)
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize(
    ("provider", "key", "value"),
    [
        ("persona", "webhook_tokens", ["x"]),
        ("persona", "sdk_id", "1"),
        ("verifik", "webhook_secrets", ["x"]),
        ("verifik", "api_key", "x"),
        ("gu1", "access_token", "x"),
        ("gu1", "api_version", "2025-12-08"),
        ("yoti", "api_key", "x"),
        ("yoti", "tolerance_seconds", 1),
    ],
)
def test_a_key_of_another_provider_is_refused(provider, key, value):
    with pytest.raises(ValidationError, match=f"{key}: not used by provider {provider}"):
        Source.model_validate({"slug": "a", "provider": provider, key: value})


@pytest.mark.parametrize("token", ["a", "AZaz09._~-", "x" * 256, "..."])
def test_tokens_that_fit_into_a_url(token):
    assert revealed(Source.model_validate(verifik(token)).webhook_tokens) == [token]


@pytest.mark.parametrize(
    "token", ["canary/", "canary?", "canary%20", "canary b", "canary\n", "canaryä", ".", "..", "x" * 257]
)
def test_tokens_that_do_not_fit_into_a_url(token):
    with pytest.raises(ValidationError, match="cannot be the last segment of a URL") as refusal:
        Source.model_validate(verifik("good", token))
    assert "canary" not in str(refusal.value)


def verifik(*tokens):
    return {"slug": "a", "provider": "verifik", "webhook_tokens": tokens}


@pytest.mark.parametrize("slug", ["", "-a", "a-", "A", "a_b", "a/b", "a.b", "é", "x" * 64, "a\n"])
def test_no_slugs(slug):
    with pytest.raises(ValidationError):
        Source.model_validate({"slug": slug, "provider": "gu1"})


def test_api_tokens_in_both_forms(tmp_path):
    digest = token_digest("canary-b")
    loaded = load({"VERISINK_API_TOKENS": f"alice:canary:a,bob:sha256:{digest.upper()}"}, tmp_path)

    assert [(token.name, token.sha256) for token in loaded.api_tokens] == [
        ("alice", token_digest("canary:a")),
        ("bob", digest),
    ]
    listed = load({"VERISINK_API_TOKENS": json.dumps([f"bob:sha256:{digest}"])}, tmp_path)
    assert listed.api_tokens[0].sha256 == digest


SECRETIVE = {
    **PERSONA,
    "VERISINK_SOURCES__V__PROVIDER": "verifik",
    "VERISINK_SOURCES__V__WEBHOOK_TOKENS": "canary-token",
    "VERISINK_SOURCES__V__ACCESS_TOKEN": "https://canary.example/canary-path",
    "VERISINK_SOURCES__Y__PROVIDER": "yoti",
    "VERISINK_SOURCES__Y__NOTIFICATION_TOKENS": "canary:token",
    "VERISINK_SOURCES__Y__PRIVATE_KEY": PEM,
    "VERISINK_DATABASE_URL": "postgresql://canary-user:canary#pass@db.example:5432/verisink?password=canary",
    "VERISINK_BROKER_URL": "redis://:canary/pass@redis.example:6379/0",
    "VERISINK_REDIS_URL": "redis://canary:canary@redis.example:6379/1",
    "VERISINK_API_TOKENS": "alice:canary-api",
}


def test_no_secret_is_in_any_text(tmp_path):
    loaded = load(SECRETIVE, tmp_path)

    for text in (repr(loaded), str(loaded), json.dumps(summary(loaded)), str(loaded.model_dump())):
        assert "canary" not in text
        assert PEM.splitlines()[1] not in text


def test_the_summary_says_what_is_set(tmp_path):
    shown = summary(load({**SECRETIVE, "VERISINK_DATABASE_URL": "postgresql://u:canary@db.example:5432/x"}, tmp_path))

    assert shown["database_url"] == "postgresql+psycopg://db.example:5432/x"
    assert shown["redis_url"] == "redis://redis.example:6379/1"
    assert shown["api_tokens"] == ["alice"]
    sources = shown["sources"]
    assert isinstance(sources, dict)
    assert sources["persona-live"]["webhook_secrets"] == "2 set"
    assert (sources["persona-live"]["api_key"], sources["persona-live"]["private_key"]) == ("set", None)
    assert set(shown) == set(Settings.model_fields)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u:canary@db/x?password=canary",
        "postgresql+psycopg://u:ca#canary@db/x",
        "postgresql+psycopg://u:1#canary@db/x",
        "postgresql+psycopg://u:1?canary@db/x",
        "redis://:1/canary@host/0",
        "redis://:[canary@host/0",
    ],
)
def test_a_masked_url_shows_nothing_of_a_password(url):
    assert "canary" not in masked_url(url)
    assert masked_url(url).startswith(url.partition("//")[0])


def test_settings_are_frozen():
    loaded = Settings(sources={"a": Source.model_validate({"slug": "a", "provider": "gu1"})})

    with pytest.raises(ValidationError, match="frozen"):
        loaded.port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        loaded.sources["a"].slug = "b"  # type: ignore[misc]


def test_budgets_are_shared_through_whichever_redis_there_is():
    redis, amqp, other = SecretStr("redis://a"), SecretStr("amqp://a"), SecretStr("rediss://b")

    assert Settings(broker_url=redis).budget_url == "redis://a"
    assert Settings(broker_url=redis, redis_url=other).budget_url == "rediss://b"
    assert Settings(broker_url=amqp).budget_url is None
    assert Settings(broker_url=amqp).embedded is False


def test_what_is_missing_is_warned_of(tmp_path):
    environ = {"VERISINK_SOURCES__Y__PROVIDER": "yoti", "VERISINK_SOURCES__Y__SDK_ID": "1", **PERSONA}

    assert warnings(load(environ, tmp_path)) == (
        "source y: notification_tokens is not set, so every webhook is refused",
        "source y: private_key is not set, so nothing can be retrieved",
    )


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.3.2.1", True), ("::1", True), ("0.0.0.0", False), ("example.com", False)],  # noqa: S104
)
def test_loopback(host, loopback):
    assert settings.is_loopback(host) is loopback
