"""The table of `tune`, for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from runner.cli import tables
from runner.tune.finding import MEANING, Status, mib

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from runner.tune.changes import Outcome
    from runner.tune.report import Finding, Report

_WORDS: Final = {
    Status.TOO_SMALL: "[red]too small[/]",
    Status.ADVISED: "[yellow]advised[/]",
    Status.FINE: "[green]fine[/]",
    Status.NOT_ADVISED: "[dim]not advised[/]",
    Status.UNKNOWN: "[dim]unknown[/]",
}
_WITH_EFFECT: Final = 110
"""From this many columns on there is room for what it means."""


def report(report: Report, *, explain: bool) -> None:
    """The table, then the reasons."""
    screen = tables.screen()
    need = report.need
    origin = {"asked": "as asked", "store": "in the store", "default": "nobody said how many"}
    screen.print(
        f"[bold]{need.sessions:,} sessions[/] ({origin[report.sessions_from]}) need "
        f"{need.descriptors:,} descriptors, {mib(need.memory_bytes)} and {mib(need.kernel_bytes)} in "
        "the kernel, "
        f"{need.threads} threads, {need.cores:.2f} of a core."
    )
    if report.facts.container:
        screen.print(f"This is a container ({report.facts.container}): what belongs to the host is said so.")
    screen.print(_table(report.findings, with_effect=screen.width >= _WITH_EFFECT))
    advised = [finding for finding in report.findings if finding.is_advised]
    shown = report.findings if explain else advised
    for finding in shown:
        _explain(screen, finding)
    if not advised:
        screen.print("[green]nothing to change[/]")
    elif any(report.changes()):
        screen.print(
            "\n--apply makes what can be made here (root); --undo takes it back; --explain says why for all."
        )
    if explain:
        for status, text in MEANING.items():
            screen.print(f"{_WORDS[status]}: {text}")


def _table(findings: Iterable[Finding], *, with_effect: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "SETTING", "NOW", "ADVISED"):
        table.add_column(name, overflow="fold")
    if with_effect:
        table.add_column("FOR SO MANY SESSIONS", overflow="fold", ratio=1)
    for finding in findings:
        verdict = finding.verdict
        cells = [_WORDS[verdict.status], finding.check.name, verdict.now, verdict.advised or "-"]
        if with_effect:
            cells.append(verdict.effect)
        table.add_row(cells[0], *(escape(cell) for cell in cells[1:]))
    return table


def _explain(screen: Console, finding: Finding) -> None:
    verdict = finding.verdict
    screen.print(
        f"\n{_WORDS[verdict.status]} [bold]{escape(finding.check.name)}[/] {escape(finding.check.setting)}"
    )
    lines = [("why", finding.check.why), ("effect", verdict.effect)]
    if finding.is_advised:
        lines += [("change", f"{verdict.now} → {verdict.advised or '-'}"), ("how", finding.how)]
    lines.append(("source", finding.check.source))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in lines:
        table.add_row(name, escape(text))
    screen.print(Padding(table, (0, 0, 0, 2), expand=False))


def outcomes(outcomes: Sequence[Outcome]) -> None:
    """What became of each change."""
    screen = tables.screen()
    for outcome in outcomes:
        word = "[green]done[/]  " if outcome.done else "[red]failed[/]"
        screen.print(f"{word} {escape(outcome.what)}: {escape(outcome.text)}")


def left(findings: Sequence[Finding]) -> None:
    """What is advised and was not changed, with the place where it can be."""
    screen = tables.screen()
    for finding in findings:
        screen.print(
            f"[yellow]left[/]   {escape(finding.check.name)}, {escape(finding.verdict.now)} → "
            f"{escape(finding.verdict.advised or '-')}: {escape(finding.how)}"
        )
