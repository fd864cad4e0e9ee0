"""The table against everything that has to agree with it: incidents, settings, docs, Prometheus."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from runner import config
from runner.alerts import docs
from runner.alerts.rules import INCIDENT_RULES, RULES, prometheus_rules, threshold_of
from runner.alerts.sessions import SESSION_RULES
from runner.alerts.warnable import Severity
from runner.config import Settings
from runner.health import INCIDENTS
from support.alerts import KINDS

ROOT = Path(__file__).resolve().parents[2]
OPERATING = (ROOT / "docs" / "operating.md").read_text()


def raised_kinds() -> set[str]:
    """Every kind of incident that the sources raise."""
    found = set(INCIDENTS)
    for path in (ROOT / "python").rglob("*.py"):
        for word in re.findall(r"\.raise_incident\(\s*([\w\"]+)", path.read_text()):
            if word.startswith('"'):
                found.add(word.strip('"'))
            elif word != "kind":  # health's, of INCIDENTS
                module = ".".join(path.relative_to(ROOT / "python").with_suffix("").parts)
                found.add(getattr(import_module(module), word))
    return found


def test_every_kind_of_incident_has_an_alert_and_every_such_alert_is_raised() -> None:
    assert {"path_outage", "memory_limit", "session_fault", "engine_full"} <= raised_kinds()
    assert raised_kinds() == INCIDENT_RULES


def test_every_alert_is_documented_with_meaning_first_look_and_action() -> None:
    assert docs.section() in OPERATING, "run: make docs"
    for slug, rule in RULES.items():
        entry = OPERATING.split(f"**`{slug}`**")[1].split("**`")[0]
        for words in (f"Meaning: {rule.meaning}", f"First look: {rule.first_look}", f"Action: {rule.action}"):
            assert words in entry, f"{slug}: {words}"


def test_every_alert_can_be_tried_or_is_said_to_be_told_of_bugs_only() -> None:
    drills = (ROOT / "docs" / "drills.md").read_text()
    rows = [line.split(" | ") for line in drills.splitlines() if line.startswith("| `")]
    assert sorted(row[0].removeprefix("| ").strip("`") for row in rows) == sorted(RULES)
    proved = {row[0].removeprefix("| ").strip("`") for row in rows if row[-1][:1] in "✓◷"}
    assert proved == set(KINDS), "the last column says which are looked for on every channel"


def test_every_setting_that_is_named_exists() -> None:
    known = {f"WHATSAPP_{name}" for name in config.rows()}
    text = docs.section() + OPERATING
    named = {word for word in re.findall(r"WHATSAPP_[A-Z_]*[A-Z]", text) if not word.endswith("_FILE")}
    assert named <= known
    own = {field.name for field in fields(Settings)}
    assert {rule.setting for rule in RULES.values() if rule.setting} <= own
    assert {rule.variable for rule in RULES.values() if rule.variable} <= known


def test_the_thresholds_of_the_brief_are_watched() -> None:
    default = Settings()
    watched = {rule.variable: threshold_of(rule, default) for rule in RULES.values() if rule.variable}
    assert watched["WHATSAPP_MEMORY_THRESHOLD"] == 0.8
    assert watched["WHATSAPP_CPU_THRESHOLD"] == 0.9
    assert watched["WHATSAPP_ERROR_RATE_THRESHOLD"] == 0.1
    assert watched["WHATSAPP_RESPONSE_TIME_THRESHOLD"] == 5.0


def test_explanations_exist_come_first_and_never_explain_each_other() -> None:
    seen: set[str] = set()
    for slug, rule in RULES.items():
        assert set(rule.depends_on) <= seen, f"{slug} comes before what explains it, or that is no alert"
        seen.add(slug)


def test_every_condition_of_a_session_has_a_rule_without_a_threshold() -> None:
    for slug in SESSION_RULES:
        assert threshold_of(RULES[slug], Settings()) is None, f"a group's count is no measure for {slug}"


def test_hysteresis_points_the_right_way() -> None:
    for rule in RULES.values():
        assert 0 < rule.clear_ratio <= 1, rule.slug
        assert rule.threshold is None or rule.setting is None, rule.slug


def test_prometheus_gets_the_same_conditions_with_the_same_numbers() -> None:
    rules = {name: (expr, lasts, severity) for name, expr, lasts, severity, _ in prometheus_rules(Settings())}
    assert rules["RunnerMemoryHigh"] == (
        "runner_memory_used_bytes / runner_memory_total_bytes > 0.8",
        "30s",
        "warning",
    )
    assert all(severity in set(Severity) for _, _, severity in rules.values())
    source = (ROOT / "python/runner/prometheus.py").read_text()
    for expr, _, _ in rules.values():
        assert "{threshold}" not in expr
        for name in re.findall(r"runner_(\w+)", expr):
            stem = re.sub(r"_(sum|count)$", "", name)
            assert f'"{stem}"' in source or f'"{stem.removesuffix("_total")}"' in source, name


@pytest.mark.parametrize("word", ["(checked; alerts come later)"])
def test_no_setting_promises_alerts_for_later(word: str) -> None:
    assert not [name for name, (_, row) in config.rows().items() if word in row.what]
