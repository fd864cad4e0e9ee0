"""Run it with: pytest examples/test_pong.py"""

from collections.abc import Callable

from examples.pong import app

from runner import App
from runner.live_testing import LiveBot
from runner.testing import Bot


def test_ping_is_answered_and_quoted(runner_bot: Callable[[App], Bot]) -> None:
    bot = runner_bot(app)
    (pong,) = bot.say("ping", sender="15550002222")
    assert (pong.chat, pong.text) == ("15550002222@s.whatsapp.net", "pong")
    assert pong.quotes is not None


def test_a_ping_in_a_group_is_answered_there(runner_bot: Callable[[App], Bot]) -> None:
    bot = runner_bot(app)
    (pong,) = bot.say("ping", group="120363000000000001@g.us")
    assert (pong.chat, pong.text) == ("120363000000000001@g.us", "pong")


def test_other_words_are_left_alone(runner_bot: Callable[[App], Bot]) -> None:
    bot = runner_bot(app)
    assert bot.say("hello") == []


def test_it_runs(runner_live: Callable[[str], LiveBot]) -> None:
    """The whole of it: a runner, its store, and a contact of the simulator."""
    bot = runner_live("examples.pong:app")
    bot.say("hello")
    bot.say("ping", contact=2)
    (heard,) = bot.wait_heard(1)
    assert (heard.contact, heard.text) == (2, "pong")
    bot.say("ping", contact=2, group=True)
    assert {(it.contact, it.text) for it in bot.wait_heard(11)} == {(n, "pong") for n in range(1, 11)}
