"""Finding an app, and what an operator is told when there is none."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from runner import App
from runner.application import load_app
from runner.cli.rehearsal import rehearse
from runner.config import Settings
from runner.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner import Message, Session

    Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Put a module into the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(dedent(text))

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


ROOT = Path(__file__).parents[2]
GOOD = """
    from runner import App
    app = App()
    empty = App()
    number = 7

    @app.on_message
    async def handle(session, message):
        pass
"""


def test_an_app_is_found_in_the_current_directory(write: Write) -> None:
    write("good_bot", GOOD)
    app = load_app("good_bot:app")
    assert app.handler is not None
    assert app.handler.__name__ == "handle"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("good_bot", "not MODULE:NAME"),
        (":app", "not MODULE:NAME"),
        ("nowhere_bot:app", "there is no module 'nowhere_bot'"),
        ("good_bot:ap", "did you mean app?"),
        ("good_bot:number", "is no App but int"),
        ("good_bot:empty", "has no handler: put @empty.on_message"),
        ("missing_bot:app", "does not import: No module named 'not_installed'"),
        ("broken_bot:app", "does not import: ZeroDivisionError: division by zero"),
        ("typo_bot:app", "does not import: SyntaxError"),
        ("leaving_bot:app", "does not import: SystemExit"),
        ("sync_bot:app", "needs an async function, and handle is none"),
        ("twice_bot:app", "is taken by one; an app has one handler"),
        ("narrow_bot:app", "needs a function of two, (session, message), and handle takes (message)"),
        ("good_bot.py:app", "there is no module 'good_bot.py'"),
        ("good_bot.py:app", "did you mean good_bot:app?"),
    ],
)
def test_what_is_wrong_with_an_app_is_told_in_one_line(write: Write, reference: str, said: str) -> None:
    write("good_bot", GOOD)
    write("missing_bot", "import not_installed")
    write("broken_bot", "x = 1\ny = x / 0")
    write("typo_bot", "def x(:")
    write("leaving_bot", "raise SystemExit(3)")
    write(
        "sync_bot",
        """
        from runner import App
        app = App()
        @app.on_message
        def handle(session, message): pass
        """,
    )
    write(
        "twice_bot",
        """
        from runner import App
        app = App()
        @app.on_message
        async def one(session, message): pass
        @app.on_message
        async def two(session, message): pass
        """,
    )
    write(
        "narrow_bot",
        """
        from runner import App
        app = App()
        @app.on_message
        async def handle(message): pass
        """,
    )
    with pytest.raises(ConfigError) as caught:
        load_app(reference)
    (problem,) = caught.value.problems
    assert said in problem
    assert "\n" not in problem


def test_a_rehearsal_loads_the_app_of_the_command_line_or_of_the_settings(write: Write) -> None:
    write("good_bot", GOOD)
    for settings, reference in ((Settings(), "good_bot:app"), (Settings(app="good_bot:app"), None)):
        assert rehearse(settings, reference)["listeners"]
    for settings, reference in ((Settings(), "good_bot:ap"), (Settings(app="good_bot:ap"), None)):
        with pytest.raises(ConfigError, match="did you mean app"):
            rehearse(settings, reference)


def test_a_rehearsal_reads_the_webhooks_of_the_settings() -> None:
    wrong = Settings(webhook_urls="https://example.com/", webhook_events="mesage")
    with pytest.raises(ConfigError, match="did you mean message"):
        rehearse(wrong)


@pytest.mark.parametrize(
    "mistake",
    [
        "x = 1 / 0",
        "import os; os.environ['NOT_SET']",
        "from runner import App; App().on_message(lambda session, message: None)",
    ],
)
def test_the_line_of_the_mistake_is_named_and_it_is_the_users(write: Write, mistake: str) -> None:
    write("broken_bot", f"x = 1\n{mistake}")
    with pytest.raises(ConfigError, match=r"broken_bot\.py, line 2"):
        load_app("broken_bot:app")


def test_the_example_is_the_one_of_the_readme_and_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert load_app("examples.echo:app").handler is not None
    example = (ROOT / "examples" / "echo.py").read_text()
    body = example.partition("@app.on_message")[2].splitlines()
    shown = (ROOT / "README.md").read_text().partition("# examples/echo.py")[2].partition("```")[0]
    for line in body:
        assert '"""' in line or line in shown


def test_the_decorator_gives_the_handler_back() -> None:
    app = App()

    async def handle(_session: Session, _message: Message) -> None:
        return

    assert app.on_message(handle) is handle
    assert app.handler is handle
