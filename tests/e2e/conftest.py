"""A browser for the tests that need one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from support.browser import CHROMIUM, chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium with a new profile; one for all tests of a module."""
    if not CHROMIUM.exists() and not os.environ.get("CI"):
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium")
    with chromium() as made:
        yield made
