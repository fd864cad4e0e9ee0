"""The simulator's contacts, from the command line: what an operator types is what a session gets."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from runner.cli.main import cli
from runner.cli.simulating import Rate
from runner.sim import FIRST_USERNAME, Simulator
from support.receiver import Receiver, texts


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    with Simulator(sessions=2, directory=str(tmp_path / "sim")) as simulator:
        yield simulator


def sim(simulator: Simulator, *words: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli, ["sim", *words, "--control", simulator.control])
    assert result.exit_code == code, result.output
    return result.output


def test_contacts_say_what_they_are_told_to_whom(simulator: Simulator, tmp_path: Path) -> None:
    assert simulator.client.get("/devices")[0]["user"] == str(FIRST_USERNAME), "sim-00001's number"
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001", "sim-00002"]) as receiver:
        receiver.open()
        assert sim(simulator, "say", "sim-00002", "to one", "--contact", "10") == "said to 1: 1 each\n"
        (row,) = receiver.take(1)
        assert (row.session_id, row.chat) == ("sim-00002", "15559000009@s.whatsapp.net")
        assert (
            sim(simulator, "say", "all", "in a group {n}", "--group", "--count", "2") == "said to 2: 2 each\n"
        )
        rows = receiver.take(5)[1:]
        assert sorted(words for _, words in texts(rows)) == ["in a group 0"] * 2 + ["in a group 1"] * 2
        assert {row.chat for row in rows} == {f"120363015550{n:06}@g.us" for n in range(2)}
        sim(simulator, "say", f"+{FIRST_USERNAME}", "👍", "--kind", "reaction", "--group")
        assert receiver.take(6)[5].kind == "reaction"


def test_who_does_not_exist_is_said_so(simulator: Simulator) -> None:
    assert "no sim-00009" in sim(simulator, "say", "sim-00009", "hello", code=1)
    assert "name a session" in sim(simulator, "say", "shop", "hello", code=1)


def test_chatter_comes_at_its_rate_until_it_is_off(simulator: Simulator, tmp_path: Path) -> None:
    with Receiver(tmp_path / "store.db", simulator, ["sim-00001"]) as receiver:
        receiver.open()
        assert (
            sim(simulator, "chatter", "100/s", "--kinds", "text", "--groups", "0")
            == "a message every 0.01 s\n"
        )
        assert {(row.kind, row.chat.partition("@")[2]) for row in receiver.take(20)} == {
            ("text", "s.whatsapp.net")
        }
        assert sim(simulator, "chatter", "off") == "they are quiet\n"
    assert "no 'song'" in sim(simulator, "chatter", "1/s", "--kinds", "song", code=2)


@pytest.mark.parametrize(("written", "per_minute"), [("2/s", 120), ("30/min", 30), ("6/h", 0.1), ("off", 0)])
def test_a_rate_is_written_with_its_unit(written: str, per_minute: float) -> None:
    assert Rate().convert(written, None, None) == pytest.approx(per_minute)


@pytest.mark.parametrize("written", ["2", "2/d", "-1/s", "nan/s", "inf/s", "x/s", "1001/s", ""])
def test_what_is_no_rate_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(click.BadParameter, match="2/s, 30/min, 5/h or off"):
        Rate().convert(written, None, None)


def test_chatter_without_a_simulator_is_a_mistake() -> None:
    result = CliRunner().invoke(cli, ["run", "--chatter", "2/s"])
    assert result.exit_code == 2
    assert "--simulator N" in result.output
