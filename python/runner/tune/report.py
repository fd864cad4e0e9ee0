"""The whole answer: every check against the facts, as `tune` shows it and the API gives it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runner.tune import files, memory, network, process, rights
from runner.tune.finding import Check, Need, Status, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.tune.facts import Facts
    from runner.tune.finding import Change

CHECKS: Final[tuple[Check, ...]] = (*files.CHECKS, *network.CHECKS, *memory.CHECKS, *process.CHECKS)
_WORST_FIRST: Final = (Status.TOO_SMALL, Status.ADVISED)


@dataclass(frozen=True, slots=True)
class Finding:
    """A check and what it found here."""

    check: Check
    verdict: Verdict
    why_not: str
    """What keeps this user from changing it here; empty when nothing does, or nothing is to be changed."""
    how: str

    @property
    def is_advised(self) -> bool:
        """Something should be done."""
        return self.verdict.status in _WORST_FIRST

    def to_json(self) -> dict[str, object]:
        """As the API and `tune --json` show it."""
        return {
            "name": self.check.name,
            "setting": self.check.setting,
            "status": self.verdict.status.value,
            "now": self.verdict.now,
            "advised": self.verdict.advised,
            "why": self.check.why,
            "effect": self.verdict.effect,
            "how": self.how or None,
            "source": self.check.source,
            "canChange": self.verdict.change is not None and not self.why_not,
            "whyNot": self.why_not or None,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """Every finding, and what N sessions need."""

    need: Need
    sessions_from: str
    """`asked`, `store` (sessions that there are) or `default`."""
    facts: Facts
    findings: tuple[Finding, ...]

    @property
    def status(self) -> Status:
        """The worst of all."""
        found = {finding.verdict.status for finding in self.findings}
        return next((status for status in _WORST_FIRST if status in found), Status.FINE)

    def changes(self) -> Iterable[tuple[Finding, Change]]:
        """What `--apply` can do here."""
        for finding in self.findings:
            if finding.is_advised and finding.verdict.change is not None and not finding.why_not:
                yield finding, finding.verdict.change

    def to_json(self) -> dict[str, object]:
        """As the API and `tune --json` show it."""
        need = self.need
        return {
            "sessions": need.sessions,
            "sessionsFrom": self.sessions_from,
            "status": self.status.value,
            "container": self.facts.container,
            "processId": self.facts.pid,
            "needs": {
                "fileDescriptors": need.descriptors,
                "memoryBytes": need.memory_bytes,
                "kernelMemoryBytes": need.kernel_bytes,
                "threads": need.threads,
                "cores": round(need.cores, 3),
            },
            "findings": [finding.to_json() for finding in self.findings],
        }


def report(facts: Facts, need: Need, sessions_from: str) -> Report:
    """Judge everything."""
    return Report(need, sessions_from, facts, tuple(_finding(check, facts, need) for check in CHECKS))


def _finding(check: Check, facts: Facts, need: Need) -> Finding:
    verdict = check.judge(facts, need)
    refused = "" if verdict.change is None else rights.why_not(verdict.change, facts)
    advised = verdict.status in _WORST_FIRST
    return Finding(check, verdict, refused, rights.how(verdict, facts, need.sessions) if advised else "")
