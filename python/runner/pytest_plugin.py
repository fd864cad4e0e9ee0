"""The pytest plugin: fixtures for tests of a user's bot (docs/app.md, "Testing a bot").

pytest loads this in every run of an environment that has us, so nothing is imported before a fixture is asked
for.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runner.application import App
    from runner.live_testing import LiveBot
    from runner.testing import Bot


@pytest.fixture
def runner_bot() -> Callable[[App], Bot]:
    """Makes a `runner.testing.Bot` of an app: `bot = runner_bot(app)`, then `bot.say("hello")`."""
    from runner.testing import Bot

    return Bot


@pytest.fixture
def runner_live(tmp_path: Path) -> Iterator[Callable[[str], LiveBot]]:
    """Runs an app against the simulator, in a process of its own: `bot = runner_live("my_app:app")`."""
    from runner.live_testing import live_bot

    with ExitStack() as stack:
        runs = 0

        def run(reference: str, *, sessions: int = 1) -> LiveBot:
            nonlocal runs
            runs += 1
            return stack.enter_context(live_bot(reference, tmp_path / f"runner-{runs}", sessions=sessions))

        yield run
