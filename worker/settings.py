"""The settings: validated once, frozen, passed in. Tests build `Settings(...)` by value; `load` is for entry points.

This is the only reader of the environment. `settings_text` turns text into plain values; this module says what is
allowed.
"""

import difflib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from worker import settings_text
from worker.errors import ConfigurationError
from worker.settings_sink import RESERVED_SINKS as RESERVED_SINKS
from worker.settings_sink import SINK_PLUGINS as SINK_PLUGINS
from worker.settings_sink import SinkSettings as SinkSettings
from worker.settings_source import CREDENTIAL_KEYS as CREDENTIAL_KEYS
from worker.settings_source import MEBIBYTE as MEBIBYTE
from worker.settings_source import PROVIDER_DEFAULTS as PROVIDER_DEFAULTS
from worker.settings_source import PROVIDER_KEYS as PROVIDER_KEYS
from worker.settings_source import PROVIDER_PLUGINS as PROVIDER_PLUGINS
from worker.settings_source import WEBHOOK_SECRET_KEYS as WEBHOOK_SECRET_KEYS
from worker.settings_source import Frozen
from worker.settings_source import Source as Source
from worker.settings_source import is_loopback as is_loopback

WRITE_SHARE = 0.5
"""Of the lease, for writing: the call took at most the other half, and after the lease somebody else may have it."""

SHORTEST_KEEPING: Mapping[str, int] = {
    "keep_deliveries_days": 30,
    "keep_attempts_days": 7,
    "keep_event_deliveries_days": 7,
    "keep_runs_days": 30,
    "keep_expectations_days": 7,
    "keep_audit_days": 30,
}
"""Fewer days would delete what is still of use. Providers send again for days, and a delivery is what a repeat is
recognised by; a week covers the longest retries; reconciling compares with the webhooks of weeks."""


class ApiToken(Frozen):
    """A bearer token of the API. Only its digest is kept, so that neither memory dumps nor mistakes print it."""

    name: str = Field(min_length=1, max_length=64)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Settings(Frozen):
    """Everything that can be configured."""

    database_url: SecretStr = SecretStr("sqlite:///verisink.db")
    broker_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    api_tokens: tuple[ApiToken, ...] = ()
    api_rate_limit_per_minute: int = Field(600, ge=0, le=60_000)
    log_format: Literal["console", "json"] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    traces: Literal["off", "otlp"] = "off"
    traces_sample: float = Field(1.0, ge=0, le=1)
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(None, ge=0, le=65535)
    web_processes: int = Field(1, ge=1, le=64)
    web_threads: int = Field(32, ge=1, le=512)
    worker_processes: int = Field(1, ge=1, le=64)
    worker_concurrency: int = Field(16, ge=1, le=256)
    lease_seconds: int = Field(60, ge=2, le=3600)
    call_deadline_seconds: float = Field(20, gt=0)
    max_document_bytes: int = Field(8 * MEBIBYTE, ge=1024)
    watchdog_seconds: int = Field(60, ge=0, le=86_400)
    spool_dir: Path | None = None
    spool_max_bytes: int = Field(1024 * MEBIBYTE, ge=MEBIBYTE)
    spool_min_free_bytes: int = Field(256 * MEBIBYTE, ge=0)
    keep_deliveries_days: int = Field(0, ge=0, le=36_500)
    keep_attempts_days: int = Field(0, ge=0, le=36_500)
    keep_event_deliveries_days: int = Field(30, ge=0, le=36_500)
    keep_runs_days: int = Field(0, ge=0, le=36_500)
    keep_expectations_days: int = Field(0, ge=0, le=36_500)
    keep_audit_days: int = Field(0, ge=0, le=36_500)
    sources: Mapping[str, Source] = {}
    sinks: Mapping[str, SinkSettings] = {}

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

    @field_validator(*SHORTEST_KEEPING)
    @classmethod
    def _keep_long_enough(cls, days: int, info: ValidationInfo) -> int:
        least = SHORTEST_KEEPING[str(info.field_name)]
        if 0 < days < least:
            raise ValueError(f"must be at least {least}, or 0 to keep for ever")
        return days

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

    @field_validator("sinks")
    @classmethod
    def _check_names(cls, sinks: Mapping[str, SinkSettings]) -> Mapping[str, SinkSettings]:
        renamed = [name for name, sink in sinks.items() if sink.name != name]
        if renamed:
            raise ValueError(f"{', '.join(renamed)}: the name is that of the block, and is not set inside it")
        return sinks

    @model_validator(mode="after")
    def _check_sinks(self) -> Self:
        for name, sink in self.sinks.items():
            unknown = [slug for slug in sink.sources if slug not in self.sources]
            if unknown:
                raise ValueError(f"sink {name}: {', '.join(unknown)}: no source of that name is configured")
            if sink.type == "redis_stream" and sink.url is None and self.budget_url is None:
                raise ValueError(f"sink {name}: url is required, because there is no REDIS_URL either")
        return self

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

    @property
    def complete_sinks(self) -> Mapping[str, SinkSettings]:
        """The sinks; a Redis stream that names no Redis is in the one that everything else uses."""
        url = None if self.budget_url is None else SecretStr(self.budget_url)
        return {
            name: sink.model_copy(update={"url": url}) if sink.type == "redis_stream" and sink.url is None else sink
            for name, sink in self.sinks.items()
        }


def token_digest(token: str) -> str:
    """The SHA-256 (hex) under which an API token is kept."""
    return hashlib.sha256(token.encode("utf-8")).hexdigest()


def masked_url(url: str) -> str:
    """The URL without its user name, password and query, for people to read. A webhook's path may be a secret too."""
    unreadable = f"{url.partition('://')[0]}://…"
    try:
        parts = urlsplit(url)
        host = f"{parts.hostname or ''}:{parts.port}" if parts.port else parts.hostname or ""
    except ValueError:
        return unreadable
    if parts.netloc and "@" in url.partition(parts.netloc)[2]:
        # A password with a slash, a question mark or a hash in it: drivers take that, and `urlsplit` cuts it in two.
        return unreadable
    path = "/…" if parts.scheme.startswith("http") and len(parts.path) > 1 else parts.path
    return f"{parts.scheme}://{host}{path}"


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


class CountingPlace(NamedTuple):
    """Where the processes of a tree keep what they count for each other: a folder, and this one's name in it."""

    folder: Path | None = None
    name: str | None = None


COUNTING_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The name that prometheus_client reads; servers of one's own choosing may set it as well."""

COUNTING_NAME = "PROMETHEUS_MULTIPROC_NAME"
"""Set by our supervisor only. Without it, processes are told apart by their ids."""


def counting_place() -> CountingPlace:
    """Where this process counts; empty where it counts for itself. Not a setting, because supervisors choose it."""
    folder = os.environ.get(COUNTING_FOLDER)
    return CountingPlace(Path(folder), os.environ.get(COUNTING_NAME)) if folder else CountingPlace()


def counting_environment(folder: Path, name: str) -> dict[str, str]:
    """This process's environment, for a child that is to count in `folder` under `name`."""
    return {**os.environ, COUNTING_FOLDER: str(folder), COUNTING_NAME: name}


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


_BLOCKS: Mapping[str, type[BaseModel]] = {"sources": Source, "sinks": SinkSettings}

_OWN_NAMES = frozenset({"slug", "name"})
"""Fields of a block that say again what it is called."""


def _masked(value: object, name: str = "") -> object:
    if isinstance(value, SecretStr):
        return masked_url(value.get_secret_value()) if name.endswith("url") else "set"
    if isinstance(value, ApiToken):
        return value.name
    if isinstance(value, BaseModel):
        used = value.used_keys if isinstance(value, SinkSettings) else type(value).model_fields
        shown = [name for name in type(value).model_fields if name in used and name not in _OWN_NAMES]
        return {name: _masked(getattr(value, name), name) for name in shown}
    if isinstance(value, Mapping):
        return {name: _masked(item) for name, item in value.items()}
    if isinstance(value, tuple):
        secrets = [item for item in value if isinstance(item, SecretStr)]
        return f"{len(secrets)} set" if secrets else [_masked(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _problems(error: ValidationError) -> list[str]:
    return [_problem(detail["type"], tuple(map(str, detail["loc"])), detail["msg"]) for detail in error.errors()]


def _problem(kind: str, where: tuple[str, ...], message: str) -> str:
    name = settings_text.display_name(where)
    if kind == "extra_forbidden":
        known = _BLOCKS.get(where[0], Settings).model_fields
        close = difflib.get_close_matches(where[-1], list(known), n=1)
        return f"{name}: unknown setting" + (f"; did you mean {close[0]}?" if close else "")
    if kind == "missing":
        return f"{name}: is required"
    return f"{name}: {message.removeprefix('Value error, ')}"
