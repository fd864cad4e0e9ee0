"""An imported Baileys directory goes on where Baileys stopped, and Baileys goes on where we stopped."""

from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from support.signal_files import move_in, move_out
from support.signal_group import Group
from support.signal_peers import Device, Program, build, missing
from support.signal_replay import Conversation, Overlap

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(300),
    pytest.mark.skipif(missing("baileys") is not None, reason=str(missing("baileys"))),
]

MESSAGES = 40
"""Before, between and after the moves."""


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("other", ["runner", "whatsmeow"])
def test_a_device_moves_in_and_out_and_its_contacts_notice_nothing(
    other: str, seed: int, tmp_path: Path
) -> None:
    if (why := missing(other)) is not None:
        pytest.skip(why)
    with ExitStack() as stack:
        ours = stack.enter_context(Program(build("runner", tmp_path), tmp_path))
        theirs = stack.enter_context(Program(build(other, tmp_path), tmp_path))
        moving = Device("baileys", ours, "15550000001", is_ordered=True)
        contact, third = Device(other, theirs, "15550000002"), Device(other, theirs, "15550000003")
        with Program(build("baileys", tmp_path), tmp_path) as baileys:
            moving.program = baileys
            for at, device in enumerate([moving, contact, third]):
                device.create(seed + at)
            alone = Conversation(Random(seed), moving, contact, Overlap.DRAINED)
            group = Group(Random(seed), [moving, contact, third], [])
            alone.begin()
            group.begin()
            alone.go_on(MESSAGES)
            group.go_on(MESSAGES)
        directory = tmp_path / moving.name
        move_in(moving, directory, ours)
        alone.go_on(MESSAGES)
        group.go_on(MESSAGES)
        move_out(moving, directory, stack.enter_context(Program(build("baileys", tmp_path), tmp_path)))
        alone.go_on(MESSAGES)
        group.go_on(MESSAGES)
        print(alone.end(), group.end())
        assert alone.tally.read > 2 * MESSAGES
        assert group.tally.read > 4 * MESSAGES
