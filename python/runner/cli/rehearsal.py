"""`config check --start`: whether a runner could start here, without starting one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.config import Settings


def rehearse(settings: Settings, reference: str | None = None) -> dict[str, list[str]]:
    """Load what a start loads; what it would lock and where it would listen. Opens nothing. Takes a second.
    `reference` is the app that its command line names.

    Errors: ConfigError, StartError; ImportError for a broken installation.
    """
    from runner.app import engine_config
    from runner.application import load_app
    from runner.handover import opened_by
    from runner.webhooks.registry import webhooks_of

    import_module("runner.admin.assembly")  # a start does so late, when the old process has gone
    engine_config(settings)
    webhooks_of(settings)
    if named := reference or settings.app:
        load_app(named)
    locks, listeners = opened_by(settings)
    return {"locks": [str(path) for path in locks], "listeners": listeners}
