"""Fixtures of the property tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

from support.quiet import quiet_logs

settings.register_profile("runner", deadline=None)  # this machine is shared: wall time says nothing
settings.load_profile("runner")

__all__ = ["quiet_logs"]


@pytest.fixture(autouse=True)
def _quiet(quiet_logs: None) -> None:
    """Hypothesis runs each life a hundred times."""
