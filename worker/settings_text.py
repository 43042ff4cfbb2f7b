"""From text to plain values: environment names, TOML, lists and secret files. It judges only what it cannot read."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

PREFIX = "VERISINK_"
BLOCKS = {"sources": "slug", "sinks": "name"}
"""Settings that are blocks, each with a name of its own, and the field that keeps this name."""

LIST_KEYS = frozenset(
    {"webhook_secrets", "webhook_tokens", "notification_tokens", "populates", "types", "sources", "kinds", "secrets"}
)
SECRET_KEYS = frozenset(
    {
        "webhook_secrets", "webhook_tokens", "notification_tokens", "api_key", "access_token", "private_key",
        "database_url", "broker_url", "redis_url", "api_tokens", "url",
        "secrets",
    }
)  # fmt: skip

Values = dict[str, object]


def gather(environ: Mapping[str, str], directory: Path) -> tuple[Values, list[str]]:
    """The nested values of the TOML file and the environment, which wins, and a sentence for each that cannot be
    read."""
    problems: list[str] = []
    values = _from_toml(environ, directory, problems)
    _merge(values, _from_environment(environ, problems))
    _shape(values, directory, problems)
    return values, problems


def display_name(where: tuple[str, ...]) -> str:
    """A setting's name as it is spelt in the environment."""
    words = where[1:] if where[:1] == ("settings",) else where
    return PREFIX + "__".join(word.replace("-", "_").upper() for word in words) if words else "settings"


def _from_toml(environ: Mapping[str, str], directory: Path, problems: list[str]) -> Values:
    named = environ.get(PREFIX + "CONFIG")
    path = Path(named) if named else directory / "verisink.toml"
    if not named and not path.is_file():
        return {}
    try:
        values: Values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(f"{path}: cannot be read as TOML: {error}")
        return {}
    for block in BLOCKS:
        for table in _tables(values.get(block)).values():
            _anchor_files(table, path.parent)
    _anchor_files(values, path.parent)
    return values


def _anchor_files(table: Values, folder: Path) -> None:
    """Files named in a TOML file are relative to that file, wherever the process was started."""
    for key, value in table.items():
        if key.removesuffix("_file") in SECRET_KEYS and key.endswith("_file") and isinstance(value, str):
            table[key] = str(folder / value)


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> Values:
    values: Values = {}
    blocks: dict[str, dict[str, Values]] = {}
    if environ.get("PORT"):
        values["port"] = environ["PORT"]
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or name == PREFIX + "CONFIG":
            continue
        steps = name.removeprefix(PREFIX).lower().split("__")
        if steps[0] in BLOCKS and len(steps) == 3:
            own = steps[1].replace("_", "-")
            blocks.setdefault(steps[0], {}).setdefault(own, {})[steps[2]] = text
        elif len(steps) == 1 and steps[0] not in BLOCKS:
            values[steps[0]] = text
        else:
            problems.append(f"{name}: unknown setting; {_naming(steps[0])}")
    return {**values, **blocks}


def _naming(block: str) -> str:
    """How the settings of a block are named."""
    if block == "sinks":
        return f"a sink's settings are named {PREFIX}SINKS__<NAME>__<KEY>"
    return f"a source's settings are named {PREFIX}SOURCES__<SLUG>__<KEY>"


def _tables(value: object) -> dict[str, Values]:
    """The tables in a table; what is no table is left for the validation to complain of."""
    if not isinstance(value, dict):
        return {}
    return {name: item for name, item in value.items() if isinstance(item, dict)}


def _merge(values: Values, stronger: Values) -> None:
    for name, value in stronger.items():
        current = values.get(name)
        if isinstance(value, dict) and isinstance(current, dict):
            _merge(current, value)
        else:
            # A key in the environment also replaces its `_file` form in the TOML file, and the other way round.
            other_form = name.removesuffix("_file") if name.endswith("_file") else name + "_file"
            if other_form not in stronger:
                values.pop(other_form, None)
            values[name] = value


def _shape(values: Values, directory: Path, problems: list[str]) -> None:
    _read_files(values, directory, (), problems)
    if isinstance(values.get("api_tokens"), str | list):
        values["api_tokens"] = _api_tokens(_as_list(values["api_tokens"]), problems)
    for block, own_name in BLOCKS.items():
        for name, table in _tables(values.get(block)).items():
            _read_files(table, directory, (block, name), problems)
            table.setdefault(own_name, name)
            for key in LIST_KEYS & table.keys():
                table[key] = _as_list(table[key])
            if isinstance(table.get("private_key"), str):
                table["private_key"] = str(table["private_key"]).replace("\\n", "\n")


def _read_files(table: Values, directory: Path, where: tuple[str, ...], problems: list[str]) -> None:
    for name in [key for key in table if key.endswith("_file") and key.removesuffix("_file") in SECRET_KEYS]:
        path = directory / str(table.pop(name))
        key = name.removesuffix("_file")
        if key in table:
            problems.append(f"{display_name((*where, key))}: is given both as itself and as {name}; keep one")
            continue
        try:
            table[key] = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{display_name((*where, name))}: cannot read {path}: {type(error).__name__}")


def _as_list(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return [item.strip() for item in value.split(",") if item.strip()]


def _api_tokens(pairs: object, problems: list[str]) -> list[Values]:
    tokens: list[Values] = []
    for pair in pairs if isinstance(pairs, list) else [None]:
        name, colon, token = pair.partition(":") if isinstance(pair, str) else ("", "", "")
        if not (colon and name and token):
            problems.append(f"{PREFIX}API_TOKENS: each entry is name:token or name:sha256:<hex>")
        elif token.startswith("sha256:"):
            tokens.append({"name": name, "sha256": token.removeprefix("sha256:").lower()})
        else:
            tokens.append({"name": name, "sha256": hashlib.sha256(token.encode("utf-8")).hexdigest()})
    return tokens
