"""The secrets that the simulated providers and Verisink share, and the settings file that hands them to Verisink.

Everything here is made up at the moment that it is needed; nothing is worth anything outside this machine.
"""

import base64
import hashlib
import json
import os
import random
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from web.simulator.world import ORGANIZATION_ID
from worker.clock import unix_seconds

SIMULATOR_URL = "http://127.0.0.1:9009"
CONFIG_NAME = "verisink.toml"
KEY_NAME = "yoti.pem"
BASE_PATHS = {"persona": "/persona/api/v1", "verifik": "/verifik", "gu1": "/gu1", "yoti": "/yoti/idverify/v1"}
TEN_YEARS = 10 * 365 * 86_400

Setting: TypeAlias = str | int | float | bool | list[str]
Tables: TypeAlias = dict[str, dict[str, Setting]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """All secrets of the four sources. The first Persona secret is the present one; the others are for rotation."""

    persona_webhook_secrets: tuple[str, ...] = field(repr=False)
    persona_api_key: str = field(repr=False)
    verifik_webhook_token: str = field(repr=False)
    verifik_access_token: str = field(repr=False)
    gu1_webhook_secret: str = field(repr=False)
    gu1_api_key: str = field(repr=False)
    yoti_notification_token: str = field(repr=False)
    yoti_sdk_id: str
    yoti_private_key: str = field(repr=False)
    gu1_organization_id: str = ORGANIZATION_ID
    gu1_signature_encoding: Literal["hex", "base64"] = "hex"
    yoti_notification_auth: Literal["basic", "bearer"] = "basic"

    @classmethod
    def generate(cls, seed: int | None = None) -> "Credentials":
        """Fresh secrets, or with a seed the same ones each time; the RSA key alone is always new."""
        rng = random.Random(seed) if seed is not None else secrets.SystemRandom()
        now = 1_760_000_000 if seed is not None else unix_seconds()
        return cls(
            persona_webhook_secrets=(f"wbhsec_{_token(rng)}", f"wbhsec_{_token(rng)}"),
            persona_api_key=f"persona_sandbox_{_token(rng)}",
            verifik_webhook_token=_token(rng),
            verifik_access_token=_jwt(rng, now, now + TEN_YEARS),
            gu1_webhook_secret=_token(rng),
            gu1_api_key=f"gk_sandbox_{_token(rng)}",
            yoti_notification_token=f"verisink:{_token(rng)}",
            yoti_sdk_id=_uuid(rng),
            yoti_private_key=_rsa_key(),
        )

    def public_key(self) -> rsa.RSAPublicKey:
        """The half of the Yoti key that Yoti itself knows."""
        key = serialization.load_pem_private_key(self.yoti_private_key.encode("ascii"), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError("the Yoti key is not an RSA key")
        return key.public_key()


def settings_for(
    credentials: Credentials, simulator_url: str = SIMULATOR_URL, **extra: Setting
) -> dict[str, Setting | Tables]:
    """Verisink's settings for four sources that point at the simulator; `extra` are settings outside the sources."""
    urls = {provider: simulator_url.rstrip("/") + path for provider, path in BASE_PATHS.items()}
    own: Tables = {
        "persona": {
            "webhook_secrets": list(credentials.persona_webhook_secrets), "api_key": credentials.persona_api_key,
        },
        "verifik": {
            "webhook_tokens": [credentials.verifik_webhook_token], "access_token": credentials.verifik_access_token,
        },
        "gu1": {
            "webhook_secrets": [credentials.gu1_webhook_secret], "api_key": credentials.gu1_api_key,
            "organization_id": credentials.gu1_organization_id,
            "signature_encoding": credentials.gu1_signature_encoding,
        },
        "yoti": {
            "notification_tokens": [credentials.yoti_notification_token],
            "notification_auth": credentials.yoti_notification_auth, "sdk_id": credentials.yoti_sdk_id,
            "private_key": credentials.yoti_private_key,
        },
    }  # fmt: skip
    sources: Tables = {
        name: {"provider": name, "base_url": urls[name], "environment": "sandbox", **keys} for name, keys in own.items()
    }
    return {**extra, "sources": sources}


def to_toml(settings: Mapping[str, Setting | Tables]) -> str:
    """The settings as TOML text."""
    lines = [f"{name} = {_toml(value)}" for name, value in settings.items() if not isinstance(value, dict)]
    for group, tables in settings.items():
        for name, table in tables.items() if isinstance(tables, dict) else ():
            lines += ["", f"[{group}.{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines).lstrip("\n") + "\n"


def write_settings(
    directory: Path, simulator_url: str = SIMULATOR_URL, credentials: Credentials | None = None, **extra: Setting
) -> Credentials:
    """Write `verisink.toml` and `yoti.pem`, readable by their owner alone. Existing files are kept and read instead."""
    config = directory / CONFIG_NAME
    if config.exists():
        return load(directory)
    credentials = credentials or Credentials.generate()
    if (directory / KEY_NAME).exists():
        credentials = replace(credentials, yoti_private_key=(directory / KEY_NAME).read_text("ascii"))
    settings = settings_for(credentials, simulator_url, **extra)
    sources = settings["sources"]
    if isinstance(sources, dict):
        del sources["yoti"]["private_key"]
        sources["yoti"]["private_key_file"] = KEY_NAME
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_private(directory / KEY_NAME, credentials.yoti_private_key)
    header = "# Made by `verisink simulate --write-settings`: four sources whose other side is the simulator.\n\n"
    _write_private(config, header + to_toml(settings))
    return credentials


def load(directory: Path) -> Credentials:
    """Read back what `write_settings` wrote. Raises FileNotFoundError, or ValueError where something is missing."""
    try:
        sources = tomllib.loads((directory / CONFIG_NAME).read_text("utf-8"))["sources"]
        return Credentials(
            persona_webhook_secrets=tuple(sources["persona"]["webhook_secrets"]),
            persona_api_key=sources["persona"]["api_key"],
            verifik_webhook_token=sources["verifik"]["webhook_tokens"][0],
            verifik_access_token=sources["verifik"]["access_token"],
            gu1_webhook_secret=sources["gu1"]["webhook_secrets"][0],
            gu1_api_key=sources["gu1"]["api_key"],
            gu1_organization_id=sources["gu1"]["organization_id"],
            gu1_signature_encoding=sources["gu1"].get("signature_encoding", "hex"),
            yoti_notification_token=sources["yoti"]["notification_tokens"][0],
            yoti_notification_auth=sources["yoti"].get("notification_auth", "basic"),
            yoti_sdk_id=sources["yoti"]["sdk_id"],
            yoti_private_key=(directory / sources["yoti"]["private_key_file"]).read_text("ascii"),
        )
    except (KeyError, IndexError, tomllib.TOMLDecodeError) as error:
        raise ValueError(
            f"{directory / CONFIG_NAME} is not what `simulate --write-settings` writes: {error!r}"
        ) from None


def simulator_url(directory: Path) -> str:
    """Where the settings in `directory` expect the simulator."""
    sources = tomllib.loads((directory / CONFIG_NAME).read_text("utf-8"))["sources"]
    return str(sources["persona"]["base_url"]).removesuffix(BASE_PATHS["persona"])


def expired_access_token() -> str:
    """A Verifik token whose time is over, for tests: Verifik answers it with 403."""
    return _jwt(random.Random(0), 1_600_000_000, 1_602_592_000)


def _token(rng: random.Random) -> str:
    return base64.urlsafe_b64encode(rng.getrandbits(240).to_bytes(30, "big")).decode("ascii").replace("=", "")


def _uuid(rng: random.Random) -> str:
    text = f"{rng.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _jwt(rng: random.Random, issued: int, expires: int) -> str:
    claims = {"clientId": "66b1f0a2c4d5e6f708192a3b", "iat": issued, "exp": expires, "jti": _token(rng)}
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode("ascii")
        for part in ({"alg": "HS256", "typ": "JWT"}, claims)
    )
    signature = hashlib.sha256(f"{head}.{body}.{_token(rng)}".encode()).digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode('ascii')}"


def _rsa_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode("ascii")


def _toml(value: Setting | Tables) -> str:
    """JSON's spelling of strings, numbers, booleans and lists of ASCII strings is also TOML's."""
    return json.dumps(value)


def _write_private(path: Path, text: str) -> None:
    if path.exists():
        return
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
