"""What is configured for one source: an account or environment at a provider.

Part of the settings, which import everything here; others import it from `worker.settings`.
"""

import re
from collections.abc import Mapping
from importlib.metadata import entry_points
from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

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
    "yoti": {"base_url": "https://api.yoti.com/idverify/v1", "retry_horizon_hours": 144, "coalesce_seconds": 5},
}
"""What differs from the defaults below. Yoti deletes a session's data after 7 days, so a retry after 6 still finds
it; and it sends a notification for each topic of a session, several within seconds."""

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
        "coalesce_seconds",
        "reconcile_hours",
    }
)


class Frozen(BaseModel):
    """A part of the settings: it never changes, and takes no name that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Source(Frozen):
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
    coalesce_seconds: float = Field(2, ge=0, le=600)
    reconcile_hours: float = Field(0, ge=0, le=24 * 366)

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


def plugin_names() -> tuple[str, ...]:
    """The providers that other installed packages bring, through the entry-point group `verisink.providers`."""
    return tuple(entry_points(group=PROVIDER_PLUGINS).names)


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine itself. Names other than localhost are not looked up."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
