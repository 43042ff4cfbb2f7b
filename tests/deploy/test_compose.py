"""`deploy/compose.yaml`, as far as it can be judged without Docker; see docs/deploying.md for what was run."""

import re

import pytest
from pydantic import BaseModel

from tests.deploy.files import DEPLOY, IMAGE, WORKER_GRACE, at, documents, items, mapping
from web.supervising import WEB_GRACE_SECONDS
from worker.settings import Settings, SinkSettings, Source, load
from worker.settings_text import PREFIX, SECRET_KEYS

[COMPOSE] = documents(DEPLOY / "compose.yaml")
OURS = ["migrate", "web", "worker"]
SERVICES = [*OURS, "postgres", "redis"]


def service(name: str):
    return mapping(COMPOSE, "services", name)


def test_these_are_the_services():
    assert sorted(mapping(COMPOSE, "services")) == sorted(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_each_is_locked_in_and_limited(name):
    own = service(name)
    assert own["read_only"] is True
    assert own["cap_drop"] == ["ALL"]
    assert own["security_opt"] == ["no-new-privileges:true"]
    assert own["restart"] == ("no" if name == "migrate" else "unless-stopped")
    assert own["pids_limit"]
    assert set(mapping(own, "deploy", "resources", "limits")) == {"cpus", "memory"}
    assert ("cap_add" in own) == (name == "postgres")


@pytest.mark.parametrize("name", OURS)
def test_ours_are_one_image_with_one_configuration(name):
    own = service(name)
    assert own["image"] == IMAGE
    assert own["command"] == [name]
    assert own["environment"] == service("web")["environment"]
    assert {f"/run/secrets/{secret}" for secret in items(own, "secrets")} <= {*mapping(own, "environment").values()}


def test_secrets_are_files():
    for name in SERVICES:
        for key, value in mapping(service(name), "environment").items() if "environment" in service(name) else ():
            setting = key.removeprefix(PREFIX).lower()
            if setting in SECRET_KEYS:
                assert re.fullmatch(r"redis://redis:6379/\d", str(value)), f"{name}: {key}"
            assert "password" not in setting or key.endswith("_FILE"), f"{name}: {key}"
    named = {
        str(secret) for name in SERVICES if "secrets" in service(name) for secret in items(service(name), "secrets")
    }
    assert named == set(mapping(COMPOSE, "secrets"))
    assert all(str(at(COMPOSE, "secrets", name, "file")).startswith("./secrets/") for name in named)


def test_the_migration_is_first_and_everybody_waits_for_it():
    assert mapping(service("migrate"), "depends_on") == {"postgres": {"condition": "service_healthy"}}
    for name in ("web", "worker"):
        assert mapping(service(name), "depends_on") == {
            "migrate": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
        }


def test_health_is_asked_where_there_is_somebody_to_ask():
    """The image's check is for who listens; others have one of their own, or none."""
    assert "healthcheck" not in service("web")
    for name in ("migrate", "worker"):
        assert service(name)["healthcheck"] == {"disable": True}
    for name in ("postgres", "redis"):
        assert items(service(name), "healthcheck", "test")[0] == "CMD"


@pytest.mark.parametrize(("name", "grace"), [("web", WEB_GRACE_SECONDS), ("worker", WORKER_GRACE)])
def test_it_waits_for_longer_than_a_process_takes_to_end(name, grace):
    assert int(str(service(name)["stop_grace_period"]).removesuffix("s")) > grace


def test_only_the_receiver_is_reached_and_only_from_this_machine():
    assert [name for name in SERVICES if "ports" in service(name)] == ["web"]
    assert service("web")["ports"] == ["127.0.0.1:8000:8000"]
    assert at(COMPOSE, "networks", "inside", "internal") is True
    for name in ("migrate", "postgres", "redis"):
        assert service(name)["networks"] == ["inside"]


def secret_fields(model: type[BaseModel]) -> set[str]:
    return {name for name, field in model.model_fields.items() if "SecretStr" in str(field.annotation)}


@pytest.mark.parametrize("model", [Settings, Source, SinkSettings])
def test_every_secret_can_be_a_file(model):
    """A secret that must be a value ends in the environment, or in a file that is shown to more people."""
    assert secret_fields(model)
    assert secret_fields(model) <= SECRET_KEYS


def test_a_secret_is_read_from_the_file_that_compose_mounts(tmp_path):
    (tmp_path / "database_url").write_text("postgresql://verisink:pass@postgres/verisink\n")
    environ = {f"{PREFIX}DATABASE_URL_FILE": str(tmp_path / "database_url")}
    found = load(environ, tmp_path).database_url.get_secret_value()
    assert found == "postgresql+psycopg://verisink:pass@postgres/verisink"
