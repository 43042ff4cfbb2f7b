"""What is configured for one sink: a place that events go to.

Part of the settings, which import everything here; others import it from `worker.settings`.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from worker.settings_sink_types import celery_problems, file_problems, redis_problems, webhook_problems
from worker.settings_source import Frozen, Secrets

SINK_PLUGINS = "verisink.sinks"

SINK_KEYS: Mapping[str, frozenset[str]] = {
    "redis_stream": frozenset({"url", "stream", "max_length"}),
    "webhook": frozenset({"url", "secrets", "timeout_seconds", "allow_http", "allow_private"}),
    "celery": frozenset({"broker_url", "task", "queue"}),
    "file": frozenset({"path"}),
}
"""Which of the type-specific keys each type uses; another one is a mistake, and is said at the start."""

RESERVED_SINKS = frozenset({"log"})
"""Names of sinks that are always there."""

EVENT_TYPES = (
    "verification.result.created",
    "verification.result.decided",
    "verification.result.revised",
    "verification.result.reversed",
    "verification.result.updated",
    "verification.result.erased",
    "verification.retrieval.parked",
    "verification.source.held",
    "verification.source.released",
    "verification.overdue",
)
"""Those of `worker.domain.states`, which stands above the settings; a test holds the two together."""

_COMMON_KEYS = frozenset({"name", "type", "types", "sources", "kinds", "retry_hours", "start"})

SinkName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$")]
"""Short enough for the tables that keep it with a prefix."""

Word = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,200}$")]


class SinkSettings(Frozen):
    """One configured sink. Empty filters let everything through; what a filter does not name is passed over."""

    name: SinkName
    type: str
    types: tuple[str, ...] = ()
    sources: tuple[Word, ...] = ()
    kinds: tuple[Word, ...] = ()
    retry_hours: int = Field(72, ge=1, le=8760)
    start: Literal["beginning", "now"] = "beginning"
    url: SecretStr | None = None
    stream: str = Field("verisink:events", min_length=1, max_length=512)
    max_length: int = Field(100_000, ge=1, le=100_000_000)
    secrets: Secrets = ()
    timeout_seconds: float = Field(15, ge=1, le=60)
    allow_http: bool = False
    allow_private: bool = False
    broker_url: SecretStr | None = None
    task: Word | None = None
    queue: Word | None = None
    path: str | None = None

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name in RESERVED_SINKS:
            raise ValueError("is the name of a sink that is always there; choose another one")
        return name

    @field_validator("type")
    @classmethod
    def _check_type(cls, kind: str) -> str:
        known = {*SINK_KEYS, *(() if kind in SINK_KEYS else sink_plugin_names())}
        if kind not in known:
            raise ValueError(f"must be one of {', '.join(sorted(known))}")
        return kind

    @field_validator("types")
    @classmethod
    def _check_types(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in types if name not in EVENT_TYPES]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no such event; there are {', '.join(EVENT_TYPES)}")
        return types

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        foreign = self.model_fields_set - self.used_keys
        if foreign:
            raise ValueError(f"{', '.join(sorted(foreign))}: not used by a sink of type {self.type}")
        problems = self._problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def used_keys(self) -> frozenset[str]:
        """The keys that mean something for this type. A sink from another package may use any; only it knows which."""
        return _COMMON_KEYS | SINK_KEYS.get(self.type, frozenset(type(self).model_fields))

    def _problems(self) -> list[str]:
        url = None if self.url is None else self.url.get_secret_value()
        match self.type:
            case "redis_stream":
                return redis_problems(url)
            case "webhook":
                secrets = [secret.get_secret_value() for secret in self.secrets]
                return webhook_problems(url, secrets, allow_http=self.allow_http, allow_private=self.allow_private)
            case "celery":
                broker = None if self.broker_url is None else self.broker_url.get_secret_value()
                return celery_problems(broker, self.task)
            case "file":
                return file_problems(self.path)
        return []


def sink_plugin_names() -> tuple[str, ...]:
    """The types of sinks that other installed packages bring, through the entry-point group `verisink.sinks`."""
    return tuple(entry_points(group=SINK_PLUGINS).names)
