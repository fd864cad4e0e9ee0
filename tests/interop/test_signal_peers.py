"""Our end-to-end core against foreign ones, over a bad network (docs/decisions/0013-signal-clean-room.md).

`python -m bench.scenarios.soak --only end_to_end` does the same with thousands of messages.
"""

from collections.abc import Iterator
from random import Random

import pytest

from support.signal_group import Group
from support.signal_peers import Programs, missing
from support.signal_replay import PAIRS, Conversation, Overlap

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

MESSAGES = 150
"""Of one conversation."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    with Programs(tmp_path_factory.mktemp("peers")) as running:
        yield running


def need(*kinds: str) -> None:
    """Skips the test when one of them is missing here."""
    for kind in kinds:
        if (why := missing(kind)) is not None:
            pytest.skip(why)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("other", "overlap"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_a_conversation_survives_a_bad_network(
    programs: Programs, other: str, overlap: Overlap, seed: int
) -> None:
    need(other)
    ours, theirs = programs.device("runner", lease=[1, 16][seed]), programs.device(other)
    tally = Conversation(Random(seed), ours, theirs, overlap).run(MESSAGES)
    assert tally.sent >= MESSAGES
    assert min(tally.lost, tally.overtaken, tally.refused_again, tally.crashes, tally.starts) > 0
    # Where sessions overlap, one failure brings others with it; see support.signal_replay.
    assert tally.retried <= tally.sent // 2


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("others", [("runner",), ("baileys",), ("whatsmeow",), ("baileys", "whatsmeow")])
def test_a_group_survives_a_bad_network(programs: Programs, others: tuple[str, ...], seed: int) -> None:
    need(*others)
    ours = [programs.device("runner", lease) for lease in [(1, 16), (64, 256)][seed]]
    members = ours + [programs.device(kind) for kind in others]
    tally = Group(Random(seed), members, ours).run(MESSAGES // 2)
    assert min(tally.lost, tally.overtaken, tally.refused_again, tally.told_again, tally.crashes) > 0
    assert tally.read > tally.sent
    assert tally.rotations > 0
