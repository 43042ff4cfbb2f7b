"""The secrets, and the settings file that Verisink itself must be able to load."""

import stat
import tomllib

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from web.simulator.credentials import (
    Credentials,
    load,
    settings_for,
    simulator_url,
    to_toml,
    write_settings,
)
from worker import settings as verisink


def test_a_seed_makes_the_same_secrets_but_never_the_same_key():
    first, second, other = Credentials.generate(1), Credentials.generate(1), Credentials.generate()

    assert first.persona_webhook_secrets == second.persona_webhook_secrets
    assert first.verifik_access_token == second.verifik_access_token
    assert first.yoti_private_key != second.yoti_private_key
    assert other.gu1_api_key != first.gu1_api_key
    assert isinstance(first.public_key(), RSAPublicKey)


def test_verisink_loads_what_is_written(tmp_path):
    written = write_settings(
        tmp_path / "new", "http://127.0.0.1:9100", Credentials.generate(2), port=8123, log_format="json"
    )

    settings = verisink.load(environ={"VERISINK_CONFIG": str(tmp_path / "new" / "verisink.toml")})

    assert set(settings.sources) == {"persona", "verifik", "gu1", "yoti"}
    assert [source.missing for source in settings.sources.values()] == [()] * 4
    assert verisink.warnings(settings) == ()
    assert settings.port == 8123
    persona, yoti = settings.sources["persona"], settings.sources["yoti"]
    assert persona.base_url == "http://127.0.0.1:9100/persona/api/v1"
    assert yoti.base_url == "http://127.0.0.1:9100/yoti/idverify/v1"
    assert settings.sources["gu1"].organization_id == written.gu1_organization_id
    assert yoti.private_key is not None
    assert yoti.private_key.get_secret_value().strip() == written.yoti_private_key.strip()
    assert [secret.get_secret_value() for secret in persona.webhook_secrets] == list(written.persona_webhook_secrets)


def test_the_simulator_reads_back_what_it_wrote(tmp_path):
    written = write_settings(tmp_path, "http://127.0.0.1:9100")

    assert load(tmp_path) == written
    assert simulator_url(tmp_path) == "http://127.0.0.1:9100"


def test_the_files_are_for_their_owner_alone(tmp_path):
    write_settings(tmp_path / "private")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "private").iterdir()}
    assert modes == {"verisink.toml": 0o600, "yoti.pem": 0o600}
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700


def test_existing_files_are_kept(tmp_path):
    first = write_settings(tmp_path)
    assert write_settings(tmp_path, "http://127.0.0.1:1234") == first

    (tmp_path / "verisink.toml").unlink()
    again = write_settings(tmp_path)
    assert again.yoti_private_key == first.yoti_private_key
    assert again.persona_api_key != first.persona_api_key
    assert load(tmp_path) == again


def test_a_broken_settings_file_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path)

    for text in ("[sources.persona]\n", "not toml"):
        (tmp_path / "verisink.toml").write_text(text)
        with pytest.raises(ValueError, match="is not what"):
            load(tmp_path)


def test_toml_holds_every_kind_of_setting():
    credentials = Credentials.generate(3)
    settings = settings_for(credentials, web_threads=4, call_deadline_seconds=2.5, api_tokens=["a:b"])

    read = tomllib.loads(to_toml(settings))

    assert read == settings
    assert read["sources"]["yoti"]["private_key"] == credentials.yoti_private_key
