"""What is exported, by a real scrape and the declarations, and what expressions ask of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import promql_parser as promql
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from tests.support.results import settings
from worker import metrics
from worker.exposition import Exposition

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
ALERT_TESTS = ROOT / "deploy" / "prometheus" / "alerts_test.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "verisink.json"
RUNBOOK = ROOT / "docs" / "runbook.md"

TARGET_LABELS = frozenset({"job", "instance"})
"""Given by Prometheus to whatever it scrapes."""

GIVEN = {"up": TARGET_LABELS}
"""Made by Prometheus itself."""


def declared() -> dict[str, frozenset[str]]:
    """Every series that processes count, by its name, with its labels."""
    found: dict[str, frozenset[str]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            labels = frozenset(metric._labelnames)
            name = metric._name
            if isinstance(metric, Counter):
                found[f"{name}_total"] = labels
            elif isinstance(metric, Gauge):
                found[name] = labels
            else:
                found |= {f"{name}_{end}": labels for end in ("count", "sum")}
                found[f"{name}_bucket"] = labels | {"le"}
    return found


def exported(url: str, spool: Path) -> dict[str, frozenset[str]]:
    """Those, and all that a real scrape shows of the database; only ours."""
    shown = Exposition(settings(url, spool_dir=spool, redis_url=SecretStr("redis://127.0.0.1:1/0")), lambda _: 1)
    text = shown.text().decode()
    shown.close()
    found = declared()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("verisink_"):
                found[sample.name] = found.get(sample.name, frozenset()) | frozenset(sample.labels)
    return found


def expressions() -> dict[str, str]:
    """Every expression of the dashboard, by its panel's title and its place there."""
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "5m")
        for panel in panels
        for target in panel.get("targets", ())
    }


def selectors(expression: str) -> list[promql.VectorSelector]:
    """The series that an expression reads. Raises ValueError where it is none."""
    return [node for node in _nodes(promql.parse(expression)) if isinstance(node, promql.VectorSelector)]


def grouped_by(expression: str) -> set[str]:
    """The labels that it groups by or matches on."""
    found: set[str] = set()
    for node in _nodes(promql.parse(expression)):
        modifier = getattr(node, "modifier", None)
        matching = getattr(modifier, "matching", None)
        for labels in (getattr(modifier, "labels", None), getattr(matching, "labels", None)):
            found.update(labels or ())
    return found


def _nodes(node: promql.Expr) -> Iterator[promql.Expr]:
    found: list[promql.Expr] = []

    def keep(visited: promql.Expr) -> None:
        found.append(visited)

    promql.walk(node, keep)
    yield from found


def wrong(expression: str, known: dict[str, frozenset[str]]) -> list[str]:
    """What an expression asks for that nobody exports."""
    problems = []
    labels: set[str] = set(TARGET_LABELS)
    for selector in selectors(expression):
        name = selector.name or ""
        if name not in known:
            problems.append(f"no such series: {name}")
            continue
        labels |= known[name]
        asked = {matcher.name for matcher in selector.matchers.matchers}
        problems += [f"{name} has no label {label}" for label in sorted(asked - known[name] - TARGET_LABELS)]
    return problems + [f"nothing has a label {label}" for label in sorted(grouped_by(expression) - labels)]
