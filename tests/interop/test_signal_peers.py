"""Our end-to-end core against foreign ones, over a bad network (docs/decisions/0013-signal-clean-room.md)."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from support.signal_group import Group
from support.signal_peers import Device, Program, build, missing
from support.signal_replay import Conversation, Overlap

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

MESSAGES = int(os.environ.get("SIGNAL_MESSAGES", "300"))
"""Messages of one conversation; `make soak` takes more."""


class Programs:
    """One process of each kind, started when first asked for."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._running: dict[str, Program] = {}
        self._devices = 0

    def device(self, kind: str, lease: int = 1) -> Device:
        """A new device."""
        if (why := missing(kind)) is not None:
            pytest.skip(why)
        if kind not in self._running:
            own = self._directory / kind
            own.mkdir()
            self._running[kind] = self._stack.enter_context(Program(build(kind, own), own))
        self._devices += 1
        device = Device(kind, self._running[kind], str(15550000000 + self._devices), kind == "baileys")
        device.create(self._devices, lease)
        return device


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    with ExitStack() as stack:
        yield Programs(tmp_path_factory.mktemp("peers"), stack)


PAIRS = [
    ("runner", Overlap.FREE),
    ("whatsmeow", Overlap.DRAINED),
    ("whatsmeow", Overlap.RETRIED),
    ("baileys", Overlap.DRAINED),
    ("baileys", Overlap.RETRIED),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("other", "overlap"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_a_conversation_survives_a_bad_network(
    programs: Programs, other: str, overlap: Overlap, seed: int
) -> None:
    ours = programs.device("runner", lease=[1, 8, 32][seed])
    theirs = programs.device(other)
    tally = Conversation(Random(seed), ours, theirs, overlap).run(MESSAGES)
    print(tally)
    assert tally.sent >= MESSAGES
    assert min(tally.lost, tally.overtaken, tally.refused_again, tally.crashes, tally.starts) > 0
    assert tally.retried <= tally.sent // 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("others", [("runner",), ("baileys",), ("whatsmeow",), ("baileys", "whatsmeow")])
def test_a_group_survives_a_bad_network(programs: Programs, others: tuple[str, ...], seed: int) -> None:
    ours = [programs.device("runner", lease) for lease in [(1, 1), (1, 16), (64, 256)][seed]]
    members = ours + [programs.device(kind) for kind in others]
    tally = Group(Random(seed), members, ours).run(MESSAGES // 3)
    print(tally)
    assert min(tally.lost, tally.overtaken, tally.refused_again, tally.told_again, tally.crashes) > 0
    assert tally.read > tally.sent
    assert tally.rotations > 0
