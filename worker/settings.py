"""The settings: validated once, frozen, passed in. Tests build `Settings(...)` by value; `load` is for entry points.

This is the only reader of the environment. `settings_text` turns text into plain values; this module says what is
allowed.
"""

import difflib
import hashlib
import os
import re
from collections.abc import Mapping
from importlib.metadata import entry_points
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from worker import settings_text
from worker.errors import ConfigurationError
from worker.rsa_key import load_key

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Secrets = tuple[SecretStr, ...]

MEBIBYTE = 1024 * 1024

URL_TOKEN = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._~-]{1,256}\Z")
"""What arrives as it was configured as one segment of a URL's path; clients drop the segments `.` and `..`."""

PROVIDER_PLUGINS = "verisink.providers"

PROVIDER_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "persona": {"base_url": "https://api.withpersona.com/api/v1", "rate_limit_per_minute": 300},
    "verifik": {"base_url": "https://api.verifik.co", "max_body_bytes": 10 * MEBIBYTE},
    "gu1": {"base_url": "https://api.gu1.ai"},
    "yoti": {"base_url": "https://api.yoti.com/idverify/v1", "retry_horizon_hours": 144},
}
"""What differs from the defaults below. Yoti deletes a session's data after 7 days, so a retry after 6 still finds
it."""

PROVIDER_KEYS: Mapping[str, frozenset[str]] = {
    "persona": frozenset({"webhook_secrets", "api_key", "api_version", "tolerance_seconds"}),
    "verifik": frozenset({"webhook_tokens", "access_token", "populates"}),
    "gu1": frozenset({"webhook_secrets", "signature_encoding", "api_key", "organization_id"}),
    "yoti": frozenset({"notification_tokens", "notification_auth", "sdk_id", "private_key"}),
}
"""Which of the provider-specific keys each provider uses; another one is a mistake, and is said at the start."""

CREDENTIAL_KEYS: Mapping[str, tuple[str, ...]] = {
    "persona": ("api_key",),
    "verifik": ("access_token",),
    "gu1": ("api_key",),
    "yoti": ("sdk_id", "private_key"),
}
WEBHOOK_SECRET_KEYS: Mapping[str, str] = {
    "persona": "webhook_secrets",
    "verifik": "webhook_tokens",
    "gu1": "webhook_secrets",
    "yoti": "notification_tokens",
}

_COMMON_KEYS = frozenset(
    {
        "slug",
        "provider",
        "base_url",
        "environment",
        "max_body_bytes",
        "rate_limit_per_minute",
        "retry_horizon_hours",
    }
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ApiToken(_Frozen):
    """A bearer token of the API. Only its digest is kept, so that neither memory dumps nor mistakes print it."""

    name: str = Field(min_length=1, max_length=64)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Source(_Frozen):
    """One configured account or environment at a provider."""

    slug: Slug
    provider: str
    base_url: str
    environment: Literal["live", "sandbox"] = "live"
    webhook_secrets: Secrets = ()
    webhook_tokens: Secrets = ()
    notification_tokens: Secrets = ()
    notification_auth: Literal["basic", "bearer"] = "basic"
    signature_encoding: Literal["hex", "base64"] = "hex"
    api_key: SecretStr | None = None
    api_version: str = Field("2025-12-08", pattern=r"^\d{4}-\d{2}-\d{2}$")
    access_token: SecretStr | None = None
    organization_id: str | None = Field(None, pattern=r"^[\x21-\x7e]{1,128}$")
    sdk_id: str | None = Field(None, pattern=r"^[A-Za-z0-9-]{1,64}$")
    private_key: SecretStr | None = None
    populates: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,64}$")], ...] = ()
    tolerance_seconds: int = Field(300, ge=0)
    max_body_bytes: int = Field(MEBIBYTE, ge=1024, le=64 * MEBIBYTE)
    rate_limit_per_minute: int = Field(120, ge=1)
    retry_horizon_hours: float = Field(72, gt=0, le=24 * 366)

    @field_validator("provider")
    @classmethod
    def _check_provider(cls, name: str) -> str:
        known = {*PROVIDER_KEYS, *(() if name in PROVIDER_KEYS else plugin_names())}
        if name not in known:
            raise ValueError(f"must be one of {', '.join(sorted(known))}")
        return name

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http(s) URL")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("must not hold a user name, a query or a fragment")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("must use https unless the host is this machine itself, because credentials travel in it")
        return url.rstrip("/")

    @field_validator("webhook_secrets", "webhook_tokens", "notification_tokens")
    @classmethod
    def _check_secrets(cls, secrets: Secrets) -> Secrets:
        if any(not secret.get_secret_value().strip() for secret in secrets):
            raise ValueError("holds an empty secret, which would let anybody in")
        return secrets

    @field_validator("webhook_tokens")
    @classmethod
    def _check_tokens(cls, tokens: Secrets) -> Secrets:
        if not all(URL_TOKEN.match(token.get_secret_value()) for token in tokens):
            raise ValueError(
                "holds a token that cannot be the last segment of a URL: use letters, digits and . _ ~ -, at most 256"
            )
        return tokens

    @field_validator("private_key")
    @classmethod
    def _check_private_key(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        # Which keys a provider from another package takes, only that package knows.
        if key is not None and info.data.get("provider") == "yoti":
            load_key(key.get_secret_value())
        return key

    @model_validator(mode="before")
    @classmethod
    def _fill_provider_defaults(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        return {**PROVIDER_DEFAULTS.get(str(values.get("provider")), {}), **values}

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        # A provider from another package may use any key; only it knows which.
        own = PROVIDER_KEYS.get(self.provider, frozenset(type(self).model_fields))
        foreign = self.model_fields_set - _COMMON_KEYS - own
        if foreign:
            raise ValueError(f"{', '.join(sorted(foreign))}: not used by provider {self.provider}")
        return self

    @property
    def missing(self) -> tuple[str, ...]:
        """The keys without which this source refuses every webhook, or cannot retrieve."""
        secret = WEBHOOK_SECRET_KEYS.get(self.provider)
        wanted = ((secret,) if secret else ()) + CREDENTIAL_KEYS.get(self.provider, ())
        return tuple(key for key in wanted if not getattr(self, key))

    @property
    def missing_credentials(self) -> tuple[str, ...]:
        """The keys without which nothing can be retrieved."""
        return tuple(key for key in self.missing if key != WEBHOOK_SECRET_KEYS.get(self.provider))


class Settings(_Frozen):
    """Everything that can be configured."""

    database_url: SecretStr = SecretStr("sqlite:///verisink.db")
    broker_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    api_tokens: tuple[ApiToken, ...] = ()
    log_format: Literal["console", "json"] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    web_processes: int = Field(1, ge=1, le=64)
    web_threads: int = Field(32, ge=1, le=512)
    worker_processes: int = Field(1, ge=1, le=64)
    worker_concurrency: int = Field(16, ge=1, le=256)
    lease_seconds: int = Field(60, ge=2, le=3600)
    call_deadline_seconds: float = Field(20, gt=0)
    max_document_bytes: int = Field(8 * MEBIBYTE, ge=1024)
    sources: Mapping[str, Source] = {}

    @field_validator("database_url")
    @classmethod
    def _name_the_driver(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        for prefix in ("postgres://", "postgresql://"):
            if text.startswith(prefix):
                return SecretStr("postgresql+psycopg://" + text.removeprefix(prefix))
        if not text.startswith(("postgresql+psycopg://", "sqlite:///")):
            raise ValueError("must begin with sqlite:///, postgresql:// or postgresql+psycopg://")
        if text in ("sqlite:///", "sqlite:///:memory:"):
            raise ValueError("must name a file: what was acknowledged would not survive a restart in memory")
        return url

    @field_validator("broker_url")
    @classmethod
    def _check_broker(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("redis://", "rediss://", "amqp://", "amqps://")):
            raise ValueError("must begin with redis://, rediss://, amqp:// or amqps://")
        return url

    @field_validator("redis_url")
    @classmethod
    def _check_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("redis://", "rediss://")):
            raise ValueError("must begin with redis:// or rediss://, because only Redis can hold shared rate budgets")
        return url

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("sources")
    @classmethod
    def _check_slugs(cls, sources: Mapping[str, Source]) -> Mapping[str, Source]:
        renamed = [slug for slug, source in sources.items() if source.slug != slug]
        if renamed:
            raise ValueError(f"{', '.join(renamed)}: the slug is the name of the block, and is not set inside it")
        return sources

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.call_deadline_seconds > self.lease_seconds / 2:
            raise ValueError(
                "call_deadline_seconds must be at most half of lease_seconds, so that a claim outlives its call"
            )
        return self

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is the embedded one."""
        return self.database_url.get_secret_value().startswith("sqlite")

    @property
    def embedded(self) -> bool:
        """Whether the worker runs inside `verisink up`: no broker is configured."""
        return self.broker_url is None

    @property
    def budget_url(self) -> str | None:
        """The Redis that holds shared rate budgets; None where they are kept in memory."""
        for url in (self.redis_url, self.broker_url):
            if url is not None and url.get_secret_value().startswith("redis"):
                return url.get_secret_value()
        return None


def plugin_names() -> tuple[str, ...]:
    """The providers that other installed packages bring, through the entry-point group `verisink.providers`."""
    return tuple(entry_points(group=PROVIDER_PLUGINS).names)


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine itself. Names other than localhost are not looked up."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def token_digest(token: str) -> str:
    """The SHA-256 (hex) under which an API token is kept."""
    return hashlib.sha256(token.encode("utf-8")).hexdigest()


def masked_url(url: str) -> str:
    """The URL without its user name, password and query, for people to read."""
    unreadable = f"{url.partition('://')[0]}://…"
    try:
        parts = urlsplit(url)
        host = f"{parts.hostname or ''}:{parts.port}" if parts.port else parts.hostname or ""
    except ValueError:
        return unreadable
    if parts.netloc and "@" in url.partition(parts.netloc)[2]:
        # A password with a slash, a question mark or a hash in it: drivers take that, and `urlsplit` cuts it in two.
        return unreadable
    return f"{parts.scheme}://{host}{parts.path}"


def load(environ: Mapping[str, str] | None = None, directory: Path | None = None) -> Settings:
    """The settings of this process, from the environment and the TOML file that it names or that lies in `directory`.

    Raises ConfigurationError, which says every problem at once.
    """
    environ = os.environ if environ is None else environ
    values, problems = settings_text.gather(environ, directory or Path.cwd())
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(problems + _problems(error)) from None
    if problems:
        raise ConfigurationError(problems)
    return settings


def child_environment(config: Path) -> dict[str, str]:
    """The environment for a process of ours that is to run with the settings in `config`, and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(settings_text.PREFIX)}
    inherited.pop("PORT", None)
    return {**inherited, settings_text.PREFIX + "CONFIG": str(config)}


def summary(settings: Settings) -> dict[str, object]:
    """Every setting for people to read: secrets as whether they are set, URLs without credentials."""
    return {name: _masked(getattr(settings, name), name) for name in Settings.model_fields}


def warnings(settings: Settings) -> tuple[str, ...]:
    """What is missing for a source to do its work, one sentence each. Webhooks are still accepted where they can be."""
    return tuple(
        f"source {source.slug}: {key} is not set, so "
        + ("nothing can be retrieved" if key in source.missing_credentials else "every webhook is refused")
        for source in settings.sources.values()
        for key in source.missing
    )


def _masked(value: object, name: str = "") -> object:
    if isinstance(value, SecretStr):
        return masked_url(value.get_secret_value()) if name.endswith("_url") else "set"
    if isinstance(value, ApiToken):
        return value.name
    if isinstance(value, BaseModel):
        return {name: _masked(getattr(value, name), name) for name in type(value).model_fields if name != "slug"}
    if isinstance(value, Mapping):
        return {name: _masked(item) for name, item in value.items()}
    if isinstance(value, tuple):
        secrets = [item for item in value if isinstance(item, SecretStr)]
        return f"{len(secrets)} set" if secrets else [_masked(item) for item in value]
    return value


def _problems(error: ValidationError) -> list[str]:
    return [_problem(detail["type"], tuple(map(str, detail["loc"])), detail["msg"]) for detail in error.errors()]


def _problem(kind: str, where: tuple[str, ...], message: str) -> str:
    name = settings_text.display_name(where)
    if kind == "extra_forbidden":
        known = Source.model_fields if where[0] == "sources" else Settings.model_fields
        close = difflib.get_close_matches(where[-1], list(known), n=1)
        return f"{name}: unknown setting" + (f"; did you mean {close[0]}?" if close else "")
    if kind == "missing":
        return f"{name}: is required"
    return f"{name}: {message.removeprefix('Value error, ')}"
