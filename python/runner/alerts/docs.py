"""The section of docs/operating.md about alerts, from the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runner.alerts.rules import RULES, threshold_of
from runner.alerts.warnable import Kind
from runner.config import Settings

if TYPE_CHECKING:
    from runner.alerts.warnable import Warnable

BEGIN: Final = "<!-- alerts: generated -->"
END: Final = "<!-- /alerts -->"


def section() -> str:
    """Everything between the two marks, marks included."""
    parts = [BEGIN, ""]
    for kind in Kind:
        parts += [f"### {kind.value.capitalize()}", ""]
        for rule in sorted((it for it in RULES.values() if it.kind is kind), key=lambda it: it.slug):
            parts += [*_entry(rule), ""]
    return "\n".join([*parts, END])


def _entry(rule: Warnable) -> list[str]:
    facts = [rule.severity.value]
    threshold = threshold_of(rule, Settings())
    if rule.variable is not None:
        facts.append(f"`{rule.variable}`")
    if threshold:
        facts.append(f"above {threshold:g} {rule.unit}")
    if rule.for_s:
        facts.append(f"for {rule.for_s:g} s")
    if rule.clear_ratio < 1 and threshold:
        facts.append(f"over at {threshold * rule.clear_ratio:g} {rule.unit}")
    if rule.clear_s:
        facts.append(f"for {rule.clear_s:g} s")
    lines = [
        f"**`{rule.slug}`** ({', '.join(facts)})",
        f"- Meaning: {rule.meaning}.",
        f"- First look: {rule.first_look}{'' if rule.first_look.endswith('?') else '.'}",
        f"- Action: {rule.action}.",
    ]
    if rule.depends_on:
        lines.append(f"- Not told while: {', '.join(f'`{slug}`' for slug in rule.depends_on)}.")
    return lines


def inserted(page: str) -> str:
    """The page with its section replaced."""
    before, rest = page.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    return f"{before}{section()}{after}"
