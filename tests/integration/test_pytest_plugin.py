"""The pytest plugin as a user has it: in a project of its own, and out of the way of everybody else."""

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from runner import App, Message, SendError, Session
from runner.sending import send_error
from runner.testing import Bot

ROOT = Path(__file__).parents[2]


def run_pytest(where: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """pytest in a process of its own, with the plugins that are installed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=60, check=False)


def test_the_example_runs_as_its_reader_would_run_it() -> None:
    ran = run_pytest(ROOT, "examples/test_pong.py")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "4 passed" in ran.stdout


def test_a_run_that_does_not_use_it_loads_nothing_of_ours(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(
        "import sys\n"
        "def test_theirs():\n"
        "    assert 'runner.pytest_plugin' in sys.modules\n"
        "    heavy = {'runner._core', 'runner.engine', 'runner.testing', 'msgspec', 'fastapi', 'trio'}\n"
        "    assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    # Ours alone: others that are installed here load trio.
    ran = run_pytest(tmp_path, "--disable-plugin-autoload", "-p", "runner.pytest_plugin")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def bot_of(*replies: str) -> Bot:
    app = App()

    @app.on_message
    async def answer(session: Session, message: Message) -> None:
        for words in replies:
            await message.reply(words)
        await session.send_text("+1 555 000 3333".replace(" ", ""), f"told by {session.id}")

    return Bot(app)


def test_what_a_handler_sends_is_kept_in_order_under_ids_of_its_own() -> None:
    bot = bot_of("one", "two")
    first, second = bot.say("hi"), bot.say("hi")
    assert [(sent.chat, sent.text, sent.quotes is None) for sent in first] == [
        ("15550001111@s.whatsapp.net", "one", False),
        ("15550001111@s.whatsapp.net", "two", False),
        ("15550003333@s.whatsapp.net", "told by test", True),
    ]
    assert bot.sent == first + second
    assert len({sent.id for sent in bot.sent}) == 6


def test_what_the_owner_writes_in_a_group_is_told_from_what_others_do() -> None:
    app, group = App(), "120363000000000001@g.us"

    @app.on_message
    async def answer(session: Session, message: Message) -> None:
        if not message.is_own:
            await message.reply("yes")

    bot = Bot(app)
    assert [sent.chat for sent in bot.say("hi", group=group)] == [group]
    assert bot.say("hi", group=group, is_own=True) == []


def test_sending_can_be_made_to_fail() -> None:
    bot = bot_of("one")
    bot.send_error = send_error("not_online")
    with pytest.raises(SendError, match="not online"):
        bot.say("hi")
    assert bot.sent == []


def test_what_a_handler_raises_is_raised_and_one_that_hangs_ends() -> None:
    app = App()

    @app.on_message
    async def wait(session: Session, message: Message) -> None:
        if message.text == "raise":
            raise KeyError("theirs")
        await trio.sleep_forever()

    bot = Bot(app, timeout_s=0.01)
    with pytest.raises(KeyError, match="theirs"):
        bot.say("raise")
    with pytest.raises(trio.TooSlowError):
        bot.say("hang")
    with pytest.raises(ValueError, match="no handler"):
        Bot(App())


async def test_a_test_on_trio_delivers_and_the_content_is_a_message_of_whatsapp() -> None:
    seen: list[Message] = []
    app = App()

    @app.on_message
    async def keep(session: Session, message: Message) -> None:
        seen.append(message)
        assert session.state == "online"

    bot = Bot(app)
    message = Message(id="A", chat="1@lid", sender="1@lid", received_unix_ms=0, kind="reaction")
    assert await bot.deliver(message) == []
    assert seen == [message]


@pytest.mark.parametrize("text", ["", "x" * 127, "x" * 128, "é" * 10_000])
def test_a_said_text_is_encoded_as_the_real_one(text: str) -> None:
    from runner.engine import view_of

    contents: list[bytes] = []
    app = App()

    @app.on_message
    async def keep(session: Session, message: Message) -> None:
        contents.append(message.content)

    Bot(app).say(text)
    view = view_of(contents[0])
    assert view is not None
    assert (view.kind, view.text) == ("text", text)
