"""The store as consumer and webhooks use it, in memory, with messages that are decrypted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import trio

from runner._core import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def inline(work: Callable[[], T]) -> T:
    """In place of a thread, which virtual time does not wait for."""
    await trio.lowlevel.checkpoint()
    return work()


Event = tuple[str, str, str, str, bytes, int, list[str]]


def conversation(text: str) -> bytes:
    """WhatsApp's protobuf `Message` with nothing but a text (field 1)."""
    data = text.encode()
    length, size = bytearray(), len(data)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return b"\x0a" + bytes(length) + bytes([size]) + data


@dataclass(frozen=True, slots=True)
class FakeRow:
    """What is used of `_core.InboxMessage`."""

    seq: int
    session_id: str
    chat: str
    sender: str
    message_id: str
    received_unix_ms: int
    content: bytes | None
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class FakeUnread:
    """What is used of `_core.UnreadMessage`."""

    seq: int
    failure: str
    attempts: int
    row: FakeRow

    @property
    def session_id(self) -> str:
        return self.row.session_id

    @property
    def chat(self) -> str:
        return self.row.chat

    @property
    def sender(self) -> str:
        return self.row.sender

    @property
    def message_id(self) -> str:
        return self.row.message_id

    @property
    def received_unix_ms(self) -> int:
        return self.row.received_unix_ms


@dataclass(frozen=True, slots=True)
class FakeDelivery:
    seq: int
    webhook_id: str
    event_id: str
    name: str
    session_id: str
    chat: str
    body: bytes
    at_unix_ms: int
    attempts: int = 0
    not_before_unix_ms: int = 0


@dataclass(frozen=True, slots=True)
class FakeUndelivered:
    seq: int
    sink: str
    name: str
    id: str
    session_id: str
    chat: str
    at_unix_ms: int
    died_unix_ms: int
    attempts: int
    why: str
    what: object


class FakeStore:
    """The rules of rust/store/src/inbox.rs and outbox.rs; nothing blocks, any call can be made to fail."""

    def __init__(self) -> None:
        self.waiting: dict[int, FakeRow] = {}
        self.confirmed: list[int] = []
        self.events: dict[str, Event] = {}
        self.open: dict[int, FakeDelivery] = {}
        self.dead: dict[int, FakeUndelivered] = {}
        self.hooks: dict[str, str] = {}
        self.unread_since: dict[int, tuple[int, FakeUnread]] = {}
        self.is_broken = False
        self.reads = 0
        self._seq = self._delivery = self._dead = 0

    def receive(self, session_id: str, chat: str, text: str | None, sender: str = "") -> int:
        """One more message; without a text it is not decrypted."""
        self._seq += 1
        self.waiting[self._seq] = FakeRow(
            self._seq,
            session_id,
            chat,
            sender or chat,
            f"ID{self._seq}",
            1_700_000_000_000 + self._seq,
            None if text is None else conversation(text),
        )
        return self._seq

    def decrypt(self, seq: int, text: str) -> int:
        """The message came again and was read: a new row in place of the old one, or of its dead letter."""
        row = self.waiting.pop(seq, None)
        for number, it in list(self.dead.items()):
            if isinstance(it.what, FakeUnread) and it.what.seq == seq:
                row = it.what.row
                del self.dead[number]
        assert row is not None
        self.unread_since.pop(seq, None)
        self._seq += 1
        self.waiting[self._seq] = replace(row, seq=self._seq, content=conversation(text))
        return self._seq

    def fail(self, seq: int, why: str, *, is_final: bool = False) -> None:
        """The message of this row could not be read, once more."""
        row = self.waiting[seq]
        before = self.unread_since.get(seq)
        attempts = 1 if before is None else before[1].attempts + 1
        since_ms = 0 if is_final else row.received_unix_ms
        self.unread_since[seq] = since_ms, FakeUnread(seq, why, attempts, row)

    def unread(self, before_unix_ms: int, n: int) -> list[FakeUnread]:
        self._check()
        self.reads += 1
        due = [it for since_ms, it in self.unread_since.values() if since_ms < before_unix_ms]
        return [it for it in due if it.seq in self.waiting][:n]

    def give_up_unread(self, events: list[Event], seqs: list[int]) -> int:
        self.post(events, [])
        for seq in seqs:
            _, it = self.unread_since.pop(seq)
            row = self.waiting.pop(seq)
            self._bury(
                "undecryptable",
                "message.undecryptable",
                row.message_id,
                row.session_id,
                row.chat,
                row.received_unix_ms,
                it.attempts,
                it.failure,
                it,
            )
        return len(seqs)

    def _check(self) -> None:
        if self.is_broken:
            raise StoreError("disk_full", "no space left")

    def take(self, after_seq: int, n: int) -> list[FakeRow]:
        self._check()
        self.reads += 1
        return [self.waiting[seq] for seq in sorted(self.waiting) if seq > after_seq][:n]

    def take_of_chat(self, session_id: str, chat: str, after_seq: int, n: int) -> list[FakeRow]:
        self._check()
        self.reads += 1
        rows = [self.waiting[seq] for seq in sorted(self.waiting) if seq > after_seq]
        return [row for row in rows if (row.session_id, row.chat) == (session_id, chat)][:n]

    def post(self, events: list[Event], done: list[int]) -> int:
        self._check()
        posted = 0
        for event in events:
            event_id, name, session_id, chat, body, at_ms, webhooks = event
            if event_id in self.events or not webhooks:
                continue
            self.events[event_id] = event
            posted += 1
            for webhook in webhooks:
                self._deliver(webhook, event_id, name, session_id, chat, body, at_ms)
        for seq in done:
            if self.waiting.pop(seq, None) is not None:
                self.confirmed.append(seq)
        return posted

    def _deliver(
        self, webhook: str, event_id: str, name: str, session_id: str, chat: str, body: bytes, at_ms: int
    ) -> None:
        self._delivery += 1
        self.open[self._delivery] = FakeDelivery(
            self._delivery, webhook, event_id, name, session_id, chat, body, at_ms
        )

    def deliveries(self, webhook_id: str, after_seq: int, n: int) -> list[FakeDelivery]:
        self._check()
        found = [self.open[seq] for seq in sorted(self.open) if seq > after_seq]
        return [it for it in found if it.webhook_id == webhook_id][:n]

    def deliveries_of(
        self, webhook_id: str, session_id: str, chat: str, after_seq: int, n: int
    ) -> list[FakeDelivery]:
        found = self.deliveries(webhook_id, after_seq, 10**9)
        return [it for it in found if (it.session_id, it.chat) == (session_id, chat)][:n]

    def settle(
        self, delivered: list[int], failed: list[tuple[int, int, int]], dead: list[tuple[int, int, str]]
    ) -> None:
        self._check()
        for seq in delivered:
            self.open.pop(seq, None)
        for seq, attempts, not_before in failed:
            if seq in self.open:
                self.open[seq] = replace(self.open[seq], attempts=attempts, not_before_unix_ms=not_before)
        for seq, attempts, why in dead:
            self._give_up(seq, attempts, why)

    def _give_up(self, seq: int, attempts: int, why: str) -> None:
        it = self.open.pop(seq, None)
        if it is not None:
            self._bury(
                it.webhook_id, it.name, it.event_id, it.session_id, it.chat, it.at_unix_ms, attempts, why, it
            )

    def _bury(
        self,
        sink: str,
        name: str,
        of: str,
        session_id: str,
        chat: str,
        at_ms: int,
        attempts: int,
        why: str,
        what: object,
    ) -> None:
        self._dead += 1
        self.dead[self._dead] = FakeUndelivered(
            self._dead, sink, name, of, session_id, chat, at_ms, at_ms, attempts, why, what
        )

    def bury(self, messages: list[tuple[int, int, str]]) -> int:
        self._check()
        for seq, attempts, why in messages:
            row = self.waiting.pop(seq)
            self._bury(
                "app",
                "message",
                row.message_id,
                row.session_id,
                row.chat,
                row.received_unix_ms,
                attempts,
                why,
                row,
            )
        return len(messages)

    def undelivered(self, after_seq: int, n: int, sink: str | None = None) -> list[FakeUndelivered]:
        self._check()
        found = [self.dead[seq] for seq in sorted(self.dead) if seq > after_seq]
        return [it for it in found if sink in (None, it.sink)][:n]

    def redrive(self, seqs: list[int]) -> tuple[int, int]:
        self._check()
        messages = deliveries = 0
        for seq in seqs:
            it = self.dead.pop(seq, None)
            if it is not None and isinstance(it.what, FakeRow):
                self.waiting[it.what.seq] = it.what
                messages += 1
            elif it is not None and isinstance(it.what, FakeDelivery):
                old = it.what
                self._deliver(
                    old.webhook_id, old.event_id, old.name, old.session_id, old.chat, old.body, old.at_unix_ms
                )
                deliveries += 1
        return messages, deliveries

    def discard(self, seqs: list[int]) -> int:
        self._check()
        return sum(self.dead.pop(seq, None) is not None for seq in seqs)

    def webhooks(self) -> list[tuple[str, str]]:
        return sorted(self.hooks.items())

    def put_webhook(self, webhook_id: str, json: str) -> None:
        self._check()
        self.hooks[webhook_id] = json

    def remove_webhook(self, webhook_id: str, why: str) -> int:
        self._check()
        self.hooks.pop(webhook_id, None)
        gone = [seq for seq, it in self.open.items() if it.webhook_id == webhook_id]
        for seq in gone:
            self._give_up(seq, self.open[seq].attempts, why)
        return len(gone)

    def give_up_unknown(self, known: list[str], why: str) -> int:
        gone = [seq for seq, it in self.open.items() if it.webhook_id not in known]
        for seq in gone:
            self._give_up(seq, self.open[seq].attempts, why)
        return len(gone)

    def backlog(self) -> list[tuple[str, int, int]]:
        self._check()
        sinks = sorted({it.webhook_id for it in self.open.values()} | {it.sink for it in self.dead.values()})
        return [
            (
                sink,
                sum(it.webhook_id == sink for it in self.open.values()),
                sum(it.sink == sink for it in self.dead.values()),
            )
            for sink in sinks
        ]
