"""A group over a bad network: every member writes with a sender key of its own, and reads all others'.

The network is kinder to two readers. Baileys gets messages in their order: the keys that it keeps of
overtaken ones it cannot read back from its own files. And what is under way to Baileys or whatsmeow arrives
before a key that is told again: they begin at its new place, and forget what was before. Ours needs neither.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from support.signal_peers import PeerError

if TYPE_CHECKING:
    from random import Random

    from support.signal_peers import Device

GROUP: Final = "120363000000000001@g.us"

OVERTAKEN_KEYS: Final = 3
"""A message is delivered at the latest when that many newer keys of its owner have come; all sides keep 5."""

IN_FLIGHT: Final = 30
"""Messages on their way from one member to another; more are delivered first."""


@dataclass(slots=True)
class GroupTally:
    """What happened."""

    sent: int = 0
    read: int = 0
    lost: int = 0
    overtaken: int = 0
    refused_again: int = 0
    told_again: int = 0
    crashes: int = 0
    rotations: int = 0
    read_twice: int = 0
    """By Baileys, which keeps the old chain of a key that it was told again."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One message, in hex, and how often its owner had rotated its key."""

    data: str
    plaintext: str
    rotation: int


@dataclass(slots=True)
class Queue:
    """Messages from one member to another."""

    in_flight: list[Sent] = field(default_factory=list)
    read: list[Sent] = field(default_factory=list)


@dataclass(slots=True)
class Group:
    """The members, and the network between them. Those of `ours` may crash and rotate their keys."""

    rng: Random
    members: list[Device]
    ours: list[Device]
    tally: GroupTally = field(default_factory=GroupTally)
    queues: dict[tuple[str, str], Queue] = field(default_factory=dict)
    rotated: Counter[str] = field(default_factory=Counter)

    def run(self, messages: int) -> GroupTally:
        """Begins, sends that many messages to everybody, and delivers what is not lost."""
        self.begin()
        self.go_on(messages)
        return self.end()

    def begin(self) -> None:
        """Everybody tells everybody its key."""
        for owner in self.members:
            for reader in self._others(owner):
                self.queues[owner.name, reader.name] = Queue()
            self._tell(owner, self._others(owner))

    def go_on(self, messages: int) -> None:
        """Sends that many messages more; leaves some under way."""
        until = self.tally.sent + messages
        while self.tally.sent < until:
            owner = self.rng.choice(self.members)
            self._step(owner, self.rng.choice(self._others(owner)), self.rng.random())

    def end(self) -> GroupTally:
        """Delivers what is under way."""
        for owner in self.members:
            for reader in self._others(owner):
                self._drain(owner, reader)
        return self.tally

    def _drain(self, owner: Device, reader: Device) -> None:
        queue = self.queues[owner.name, reader.name]
        while queue.in_flight:
            self._deliver(owner, reader, self.rng.randrange(len(queue.in_flight)))

    def _tell_again(self, owner: Device, reader: Device) -> None:
        if reader.kind != "runner":
            self._drain(owner, reader)
        self._tell(owner, [reader])

    def _others(self, owner: Device) -> list[Device]:
        return [member for member in self.members if member is not owner]

    def _tell(self, owner: Device, readers: list[Device]) -> None:
        told = owner.program.call("distribution", owner.name, group=GROUP)["bytes"]
        for reader in readers:
            reader.program.call("accept", reader.name, peer=owner.name, group=GROUP, bytes=told)

    def _step(self, owner: Device, reader: Device, chance: float) -> None:
        queue = self.queues[owner.name, reader.name]
        if chance < 0.25:
            self._send(owner)
        elif chance < 0.85:
            if queue.in_flight:
                self._deliver(owner, reader, int(self.rng.expovariate(0.5)))
        elif chance < 0.88:
            if queue.in_flight:
                queue.in_flight.pop(self.rng.randrange(len(queue.in_flight)))
                self.tally.lost += 1
        elif chance < 0.93:
            if queue.read:
                self._refuse(owner, reader, self.rng.choice(queue.read[-40:]))
        else:
            self._disturb(owner, reader, chance)

    def _disturb(self, owner: Device, reader: Device, chance: float) -> None:
        if chance < 0.96:
            self._tell_again(owner, reader)
            self.tally.told_again += 1
        elif not self.ours:
            return
        elif chance < 0.98:
            self.rng.choice(self.ours).crash()
            self.tally.crashes += 1
        elif owner in self.ours:
            self._rotate(owner)

    def _rotate(self, owner: Device) -> None:
        self.rotated[owner.name] += 1
        self.tally.rotations += 1
        for reader in self._others(owner):
            queue = self.queues[owner.name, reader.name]
            oldest = self.rotated[owner.name] - OVERTAKEN_KEYS
            while late := [sent for sent in queue.in_flight if sent.rotation <= oldest]:
                self._deliver(owner, reader, queue.in_flight.index(late[0]))
        owner.program.call("rotate", owner.name, group=GROUP)
        self._tell(owner, self._others(owner))

    def _send(self, owner: Device) -> None:
        plaintext = self.rng.randbytes(self.rng.choice([0, 1, 15, 16, 17, 100])).hex()
        sent = owner.program.call("groupEncrypt", owner.name, group=GROUP, plaintext=plaintext)["bytes"]
        self.tally.sent += 1
        for reader in self._others(owner):
            queue = self.queues[owner.name, reader.name]
            queue.in_flight.append(Sent(sent, plaintext, self.rotated[owner.name]))
            if len(queue.in_flight) > IN_FLIGHT:
                self._deliver(owner, reader, 0)

    def _decrypt(self, owner: Device, reader: Device, sent: Sent) -> str:
        answer = reader.program.call(
            "groupDecrypt", reader.name, peer=owner.name, group=GROUP, bytes=sent.data
        )
        return str(answer["plaintext"])

    def _deliver(self, owner: Device, reader: Device, at: int) -> None:
        queue = self.queues[owner.name, reader.name]
        at = 0 if reader.is_ordered else min(at, len(queue.in_flight) - 1)
        sent = queue.in_flight.pop(at)
        assert self._decrypt(owner, reader, sent) == sent.plaintext
        queue.read.append(sent)
        self.tally.read += 1
        self.tally.overtaken += at > 0

    def _refuse(self, owner: Device, reader: Device, again: Sent) -> None:
        try:
            self._decrypt(owner, reader, again)
        except PeerError:
            self.tally.refused_again += 1
        else:
            assert reader.kind == "baileys", f"{reader.name} read a message twice: {again}"
            self.tally.read_twice += 1
