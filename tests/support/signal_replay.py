"""Conversations over a bad network: messages lost, doubled, overtaken, both sides beginning at once, crashes.

What must hold of each: a message that arrives is read, once, and comes out as it went in; whatever arrives
again is refused and changes nothing.

Neither Baileys nor whatsmeow can hold that where sessions overlap: a message of an older session that reaches
them damages their newest one, until a retry receipt makes another, and whatsmeow may then read a message
twice. Each against itself shows the same. With them a conversation is therefore `DRAINED`, with every rule
kept, or `RETRIED`, as real clients recover.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from support.signal_peers import PeerError

if TYPE_CHECKING:
    from random import Random

    from support.signal_peers import Device, Sent

OVERTAKEN_TURNS: Final = 3
"""A message arrives at the latest when that many newer ratchet keys of its sender have come; 5 are kept."""

IN_FLIGHT: Final = 40
"""Messages on their way in one direction; more are delivered first."""


class Overlap(enum.Enum):
    """What happens where one session follows another."""

    FREE = "any message may be under way, and all are read"
    DRAINED = "nothing is under way, and the new session is answered first"
    RETRIED = "any message may be under way; one that is not read is asked for again, in a new session"


PAIRS: Final = [
    ("runner", Overlap.FREE),
    ("whatsmeow", Overlap.DRAINED),
    ("whatsmeow", Overlap.RETRIED),
    ("baileys", Overlap.DRAINED),
    ("baileys", Overlap.RETRIED),
]
"""Whom ours talks to, and how."""


@dataclass(slots=True)
class Tally:
    """What happened, so that a run can be seen to have tried what it says."""

    sent: int = 0
    read: int = 0
    lost: int = 0
    overtaken: int = 0
    refused_again: int = 0
    starts: int = 0
    crashes: int = 0
    first_contact: int = 0
    retried: int = 0
    read_twice: int = 0
    """By the other side, in `RETRIED` only."""


@dataclass(slots=True)
class Direction:
    """Messages from one device to another."""

    sender: Device
    receiver: Device
    in_flight: list[Sent] = field(default_factory=list)
    read: list[Sent] = field(default_factory=list)


Ways: TypeAlias = tuple[Direction, Direction]


@dataclass(slots=True)
class Conversation:
    """Two devices and the network between them."""

    rng: Random
    one: Device
    """Ours: the one that must keep every rule, and that may crash."""
    two: Device
    overlap: Overlap = Overlap.FREE
    tally: Tally = field(default_factory=Tally)
    ways: Ways = field(init=False)

    def run(self, messages: int) -> Tally:
        """Begins, sends that many messages, and delivers what is not lost."""
        self.begin()
        self.go_on(messages)
        return self.end()

    def begin(self) -> None:
        self.ways = Direction(self.one, self.two), Direction(self.two, self.one)
        self._begin(self.ways)

    def go_on(self, messages: int) -> None:
        """Sends that many messages more; leaves some under way."""
        until = self.tally.sent + messages
        while self.tally.sent < until:
            self._step(self.ways, self.rng.choice(self.ways), self.rng.random())

    def end(self) -> Tally:
        """Delivers what is under way; both sides must then be in one session."""
        self._drain(self.ways)
        self._settle(self.ways)
        for way in self.ways:
            assert way.sender.encrypt(way.receiver, b"settled").type == "msg"
        return self.tally

    def _begin(self, ways: Ways) -> None:
        way = self.rng.choice(ways)
        self._start(ways, way)
        if self.overlap is not Overlap.DRAINED and self.rng.random() < 0.5:
            self._start(ways, ways[way is ways[0]])

    def _start(self, ways: Ways, way: Direction) -> None:
        if self.overlap is Overlap.DRAINED:
            self._drain(ways)
        way.sender.start(way.receiver, one_time=self.rng.random() < 0.7)
        self.tally.starts += 1
        if self.overlap is Overlap.DRAINED:
            self._settle(ways if way is ways[0] else ways[::-1])

    def _drain(self, ways: Ways) -> None:
        for way in ways:
            while way.in_flight:
                self._deliver(way, self.rng.randrange(len(way.in_flight)))

    def _settle(self, ways: Ways) -> None:
        """Message and answer, until both sides are in one session."""
        for _ in range(3):
            for way in ways:
                self._send(way)
                self._deliver(way, len(way.in_flight) - 1)

    def _step(self, ways: Ways, way: Direction, chance: float) -> None:
        if chance < 0.42:
            self._send(way)
        elif chance < 0.90:
            if way.in_flight:
                self._deliver(way, min(int(self.rng.expovariate(0.7)), len(way.in_flight) - 1))
        elif chance < 0.93:
            if way.in_flight:
                way.in_flight.pop(self.rng.randrange(len(way.in_flight)))
                self.tally.lost += 1
        elif chance < 0.97:
            if way.read:
                self._refuse(way, self.rng.choice(way.read[-60:]))
        elif chance < 0.98:
            self._start(ways, way)
        elif self.one.kind == "runner":
            self.one.crash()
            self.tally.crashes += 1

    def _send(self, way: Direction) -> None:
        plaintext = self.rng.randbytes(self.rng.choice([0, 1, 15, 16, 17, 100, 300]))
        try:
            sent = way.sender.encrypt(way.receiver, plaintext)
        except PeerError:
            # Only who has neither begun nor been written to has no session.
            assert way.receiver.name not in way.sender.opened
            way.sender.start(way.receiver, one_time=True)
            self.tally.starts += 1
            sent = way.sender.encrypt(way.receiver, plaintext)
        way.in_flight.append(sent)
        self.tally.sent += 1
        self.tally.first_contact += sent.type == "pkmsg"
        if len(way.in_flight) > IN_FLIGHT:
            self._deliver(way, 0)

    def _deliver(self, way: Direction, at: int) -> None:
        sent = way.in_flight.pop(at)
        opened = way.receiver.opened.get(way.sender.name, [])
        if sent.ratchet_key not in opened:
            old = set(opened[: max(0, len(opened) + 1 - OVERTAKEN_TURNS)])
            late = [other for other in way.in_flight if other.ratchet_key in old]
            way.in_flight = [other for other in way.in_flight if other.ratchet_key not in old]
            for other in late:
                self._read(way, other)
        self.tally.overtaken += at > 0
        self._read(way, sent)

    def _read(self, way: Direction, sent: Sent) -> None:
        try:
            plaintext = way.receiver.decrypt(way.sender, sent)
        except PeerError:
            if self.overlap is not Overlap.RETRIED or self.tally.starts == 1:
                raise
            self.tally.retried += 1
            way.sender.start(way.receiver, one_time=True)
            sent = way.sender.encrypt(way.receiver, bytes.fromhex(sent.plaintext))
            plaintext = way.receiver.decrypt(way.sender, sent)
        assert plaintext == sent.plaintext
        way.read.append(sent)
        self.tally.read += 1

    def _refuse(self, way: Direction, sent: Sent) -> None:
        try:
            way.receiver.decrypt(way.sender, sent)
        except PeerError:
            self.tally.refused_again += 1
        else:
            assert way.receiver is self.two, f"we read a message twice: {sent}"
            assert self.overlap is Overlap.RETRIED, "a message was read twice"
            self.tally.read_twice += 1
