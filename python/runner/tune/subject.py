"""Whose tuning is looked at: one process, and how many sessions it is to serve. For API and CLI alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner.tune import facts
from runner.tune.finding import Need
from runner.tune.report import Report, report

if TYPE_CHECKING:
    from runner.config import Settings

DEFAULT_SESSIONS: Final = 1000
"""Judged for when nobody says how many, and the store is empty."""
MOST_SESSIONS: Final = 1_000_000


def look(
    settings: Settings,
    asked: int | None,
    in_store: int,
    pid: int | None = None,
    root: Path = Path("/"),
) -> Report:
    """Read the machine and judge it for `asked` sessions, else for those in the store. Blocking, briefly."""
    sessions, origin = asked, "asked"
    if sessions is None:
        sessions, origin = (in_store, "store") if in_store else (DEFAULT_SESSIONS, "default")
    need = Need(
        sessions=sessions,
        admin_connections=settings.admin_connections,
        dials=settings.connect_concurrency,
        dials_per_s=settings.connect_rate,
        worker_threads=settings.worker_threads,
    )
    return report(facts.read(root, pid), need, origin)
