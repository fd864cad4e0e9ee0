"""Write signal.json: what our core holds at some moments, and foreign messages that it must read from there.

Run once, with Node.js, `npm ci` in tests/interop/baileys and Go: `python tests/vectors/make_signal.py`. The
messages are made by real Baileys and by whatsmeow's library, so the tests of `rust/signal` that replay them
need neither. The keys are test keys. Foreign randomness is fresh on each run: the file changes as a whole.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.signal_files import named
from support.signal_group import GROUP
from support.signal_peers import Device, Program, build

if TYPE_CHECKING:
    from support.signal_peers import Sent


def records(device: Device) -> dict[str, Any]:
    """All that our device holds."""
    return device.program.call("records", device.name)


def listed(messages: list[Sent]) -> list[dict[str, str]]:
    return [{"type": one.type, "bytes": one.data, "plaintext": one.plaintext} for one in messages]


def group_messages(owner: Device, count: int) -> list[dict[str, str]]:
    """Messages to the group."""
    out = []
    for number in range(count):
        plaintext = f"group message {number}".encode().hex()
        answer = owner.program.call("groupEncrypt", owner.name, group=GROUP, plaintext=plaintext)
        out.append({"type": "skmsg", "bytes": answer["bytes"], "plaintext": plaintext})
    return out


def moments(ours: Program, theirs: Program, kind: str) -> list[dict[str, Any]]:
    """Moments of one conversation, each with messages to be read in that order, all from one record."""
    a, b = Device("runner", ours, "15550000001"), Device(kind, theirs, "15550000002")
    a.create(1)
    b.create(2)
    out = []

    def moment(name: str, messages: list[dict[str, str]]) -> None:
        out.append({"name": name, "peer": b.name, "group": GROUP, "device": records(a), "messages": messages})

    b.start(a, one_time=True)
    first = [b.encrypt(a, b"first, with a one-time pre-key"), b.encrypt(a, b"second"), b.encrypt(a, b"third")]
    moment("first contact", listed([first[1], first[0], first[2]]))
    for message in first:
        a.decrypt(b, message)
    b.decrypt(a, a.encrypt(b, b"answer"))
    late = b.encrypt(a, b"overtaken")
    a.decrypt(b, b.encrypt(a, b"overtaking"))
    b.decrypt(a, a.encrypt(b, b"another answer"))
    newer = [b.encrypt(a, bytes(length)) for length in (0, 15, 16, 17, 200)]
    moment("in a session", listed([newer[4], newer[0], late, newer[1], newer[3], newer[2]]))
    b.start(a, one_time=False)
    moment("a new session without a one-time pre-key", listed([b.encrypt(a, b"anew"), newer[1]]))

    told = b.program.call("distribution", b.name, group=GROUP)["bytes"]
    a.program.call("accept", a.name, peer=b.name, group=GROUP, bytes=told)
    sent = group_messages(b, 4)
    moment("in a group", [sent[2], sent[0], sent[3], sent[1]])
    return out


def answered(ours: Program, theirs: Program, kind: str) -> list[dict[str, Any]]:
    """We began, and the other answers."""
    a, b = Device("runner", ours, "15550000003"), Device(kind, theirs, "15550000004")
    a.create(3)
    b.create(4)
    a.start(b, one_time=True)
    b.decrypt(a, a.encrypt(b, b"first"))
    answer = listed([b.encrypt(a, b"answer")])
    return [{"name": "the answer", "peer": b.name, "group": GROUP, "device": records(a), "messages": answer}]


def files(ours: Program, baileys: Program, directory: Path) -> dict[str, Any]:
    """A directory of Baileys, and what its contact sent since."""
    a, b = Device("runner", ours, "15550000005"), Device("baileys", baileys, "15550000006")
    a.create(5)
    b.create(6)
    a.start(b, one_time=True)
    old = a.encrypt(b, b"by a session that Baileys has closed")
    b.decrypt(a, a.encrypt(b, b"first"))
    a.decrypt(b, b.encrypt(a, b"answer"))
    a.start(b, one_time=False)
    b.decrypt(a, a.encrypt(b, b"anew"))
    late = a.encrypt(b, b"overtaken")
    b.decrypt(a, a.encrypt(b, b"overtaking"))
    a.decrypt(b, b.encrypt(a, b"answer"))
    of_old_chain = a.encrypt(b, b"of a chain that Baileys still has open")
    next_one = a.encrypt(b, b"next")
    told = a.program.call("distribution", a.name, group=GROUP)["bytes"]
    b.program.call("accept", b.name, peer=a.name, group=GROUP, bytes=told)
    sent = group_messages(a, 4)
    b.program.call("groupDecrypt", b.name, peer=a.name, group=GROUP, bytes=sent[1]["bytes"])
    group_messages(b, 2)
    b.program.call("bundle", b.name, oneTime=True)
    own = directory / b.name
    return {
        "creds": json.loads((own / "creds.json").read_text()),
        "peer": a.name,
        "group": GROUP,
        "session": named(own, "session")[f"{a.name}.1"].read_text(),
        "senderKey": named(own, "sender-key")[f"{GROUP}--{a.name}--1"].read_text(),
        "ownSenderKey": named(own, "sender-key")[f"{GROUP}--{b.name}--1"].read_text(),
        "preKey": next(iter(named(own, "pre-key").values())).read_text(),
        "identityKey": named(own, "identity-key")[f"{a.name}.1"].read_text(),
        "messages": [*listed([next_one, late, of_old_chain, old]), sent[2], sent[0], sent[3]],
    }


def main() -> None:
    """Write the file beside this script."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        with (
            Program(build("runner", directory), directory) as ours,
            Program(build("baileys", directory), directory) as baileys,
            Program(build("whatsmeow", directory), directory) as whatsmeow,
        ):
            document = {
                "baileys": moments(ours, baileys, "baileys") + answered(ours, baileys, "baileys"),
                "whatsmeow": moments(ours, whatsmeow, "whatsmeow") + answered(ours, whatsmeow, "whatsmeow"),
                "files": files(ours, baileys, directory),
            }
    text = json.dumps(document, indent=1) + "\n"
    Path(__file__).with_name("signal.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
