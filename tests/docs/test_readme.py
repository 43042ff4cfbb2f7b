"""The README says what the code does: its settings tables, its commands and its links."""

import re
from pathlib import Path

import click
import pytest

from web.main import main
from worker.settings import PROVIDER_DEFAULTS, PROVIDER_KEYS, SHORTEST_KEEPING, Settings, SinkSettings, Source
from worker.settings_sink import SINK_KEYS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SETTINGS = README.split("## Settings", 1)[1].split("## Where to go next", 1)[0]
OWN_TABLE, BLOCK_TABLES = SETTINGS.split("For each source:", 1)
SOURCE_TABLE, SINK_TABLE = BLOCK_TABLES.split("For each sink:", 1)


def table(text: str) -> dict[str, list[str]]:
    """The rows of a table by the name in their first cell."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]
    return {row[0].strip("`"): row[1:] for row in rows}


def test_every_setting_is_listed_and_nothing_else():
    listed = {name.lower() for name in table(OWN_TABLE)} - {"sources__<slug>__…", "sinks__<name>__…"}
    assert listed == set(Settings.model_fields) - {"sources", "sinks"}


def test_every_key_of_a_sink_is_listed_with_its_types_and_default():
    rows = table(SINK_TABLE)
    assert set(rows) == set(SinkSettings.model_fields) - {"name"}
    for name in ("stream", "max_length", "timeout_seconds", "allow_http", "allow_private"):
        assert rows[name][1] == f"`{SinkSettings.model_fields[name].default}`"
    for kind, keys in SINK_KEYS.items():
        assert {name for name, (types, *_) in rows.items() if kind in types} == keys


def test_every_key_of_a_source_is_listed_and_nothing_else():
    assert set(table(SOURCE_TABLE)) == set(Source.model_fields) - {"slug"}


@pytest.mark.parametrize("name", ["port", "log_level", "web_processes", "web_threads", "worker_processes"])
def test_defaults_are_the_code_s(name):
    assert table(OWN_TABLE)[name.upper()][0] == f"`{Settings.model_fields[name].default}`"


@pytest.mark.parametrize("name", SHORTEST_KEEPING)
def test_how_long_things_are_kept_is_the_code_s(name):
    default, meaning = table(OWN_TABLE)[name.upper()]
    assert int(default.strip("`")) == Settings.model_fields[name].default
    assert f"(at least {SHORTEST_KEEPING[name]})" in meaning


@pytest.mark.parametrize("name", ["worker_concurrency", "lease_seconds", "call_deadline_seconds", "max_document_bytes"])
def test_default_numbers_are_the_code_s(name):
    assert float(table(OWN_TABLE)[name.upper()][0].strip("`")) == float(Settings.model_fields[name].default)


def test_the_providers_of_each_key_are_the_code_s():
    own = {key for keys in PROVIDER_KEYS.values() for key in keys}
    for name, (providers, *_) in table(SOURCE_TABLE).items():
        expected = {provider for provider, keys in PROVIDER_KEYS.items() if name in keys} if name in own else {"all"}
        assert set(providers.split(", ")) == expected, name


@pytest.mark.parametrize("provider", list(PROVIDER_DEFAULTS))
def test_what_differs_by_provider_is_said(provider):
    for name, value in PROVIDER_DEFAULTS[provider].items():
        if name != "base_url":
            assert f"{provider} `{value}`" in table(SOURCE_TABLE)[name][1], name


def test_commands_in_the_readme_exist():
    named = set(re.findall(r"\bverisink ([a-z]+)\b", README)) - {"web"}
    assert named
    assert named <= set(main.list_commands(click.Context(main))), named


@pytest.mark.parametrize(
    "page", sorted({"README.md", *(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))})
)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target
