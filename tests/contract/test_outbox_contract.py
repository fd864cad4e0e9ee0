"""The outbox and what was given up: the store in memory that other tests use does what the real one does."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from runner import _core
from support.inbox import Event, FakeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Opened(Protocol):
    """A store with messages in it: session, chat of each."""

    def __call__(self, *messages: tuple[str, str]) -> Any: ...  # noqa: ANN401  both kinds of store


@pytest.fixture(params=["real", "fake"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    stores: list[Any] = []
    path = tmp_path / "store.db"

    def real(*messages: tuple[str, str]) -> _core.Store:
        _core.Store(str(path)).close()
        # While it is closed: two SQLite libraries in one process undo each other's locks.
        with sqlite3.connect(path) as connection:
            for seq, (session_id, chat) in enumerate(messages, 1):
                connection.execute(
                    "INSERT INTO inbox (seq, session_id, chat, sender, message_id, received_unix_ms, name,"
                    " stanza) VALUES (?, ?, ?, ?, ?, ?, ?, x'00f80102')",
                    (seq, session_id, chat, chat, f"ID{seq}", 1_700_000_000_000 + seq, f"n{seq}".encode()),
                )
                connection.execute("INSERT INTO pending (seq) VALUES (?)", (seq,))
        connection.close()
        stores.append(_core.Store(str(path), group_commit_ms=0))
        return stores[-1]

    def fake(*messages: tuple[str, str]) -> FakeStore:
        store = FakeStore()
        for session_id, chat in messages:
            store.receive(session_id, chat, "oi")
        return store

    make: dict[str, Callable[..., Any]] = {"real": real, "fake": fake}
    yield make[request.param]
    for store in stores:
        store.close()


def event(event_id: str, chat: str = "ana", *webhooks: str) -> Event:
    return event_id, "message", "desk", chat, event_id.encode(), 7, list(webhooks or ("w",))


def test_messages_of_one_chat_are_taken_alone(opened: Opened) -> None:
    store = opened(("desk", "ana"), ("desk", "rui"), ("desk", "ana"), ("shop", "ana"))
    assert [row.seq for row in store.take(0, 9)] == [1, 2, 3, 4]
    assert [row.seq for row in store.take_of_chat("desk", "ana", 0, 9)] == [1, 3]
    assert [row.seq for row in store.take_of_chat("desk", "ana", 1, 9)] == [3]
    assert [row.seq for row in store.take_of_chat("desk", "ana", 0, 1)] == [1]


def test_what_is_posted_is_delivered_once_and_in_order(opened: Opened) -> None:
    store = opened(("desk", "ana"), ("desk", "ana"))
    assert store.post([event("e1"), event("e2", "rui", "w", "x"), event("e3")], [1]) == 3
    assert store.post([event("e1", "ana", "w", "new")], []) == 0
    assert [row.seq for row in store.take(0, 9)] == [2]
    first, second, third = store.deliveries("w", 0, 9)
    assert [it.event_id for it in (first, second, third)] == ["e1", "e2", "e3"]
    assert (first.body, first.name, first.session_id, first.chat, first.at_unix_ms) == (
        b"e1",
        "message",
        "desk",
        "ana",
        7,
    )
    assert (first.attempts, first.not_before_unix_ms) == (0, 0)
    assert [it.event_id for it in store.deliveries("w", first.seq, 1)] == ["e2"]
    assert [it.event_id for it in store.deliveries_of("w", "desk", "ana", first.seq, 9)] == ["e3"]
    assert [it.event_id for it in store.deliveries("x", 0, 9)] == ["e2"]
    assert store.deliveries("new", 0, 9) == []


def test_outcomes_are_kept(opened: Opened) -> None:
    store = opened()
    store.post([event("e1"), event("e2"), event("e3")], [])
    one, two, three = (it.seq for it in store.deliveries("w", 0, 9))
    store.settle([one, 99], [(two, 3, 500), (99, 1, 1)], [(three, 5, "status 400"), (99, 1, "")])
    (left,) = store.deliveries("w", 0, 9)
    assert (left.event_id, left.attempts, left.not_before_unix_ms) == ("e2", 3, 500)
    (dead,) = store.undelivered(0, 9)
    assert (dead.sink, dead.name, dead.id, dead.session_id, dead.chat) == (
        "w",
        "message",
        "e3",
        "desk",
        "ana",
    )
    assert (dead.attempts, dead.why, dead.at_unix_ms) == (5, "status 400", 7)
    assert store.backlog() == [("w", 1, 1)]


def test_messages_are_given_up_put_back_and_let_go(opened: Opened) -> None:
    store = opened(("desk", "ana"), ("desk", "rui"))
    assert store.bury([(1, 4, "ValueError"), (2, 1, "late")]) == 2
    assert store.take(0, 9) == []
    first, second = store.undelivered(0, 9, "app")
    assert (first.sink, first.name, first.id, first.chat, first.attempts) == (
        "app",
        "message",
        "ID1",
        "ana",
        4,
    )
    assert store.undelivered(0, 9, "w") == []
    assert [it.seq for it in store.undelivered(first.seq, 9)] == [second.seq]
    assert store.redrive([first.seq, 99]) == (1, 0)
    assert [row.seq for row in store.take(0, 9)] == [1]
    assert store.discard([second.seq, second.seq]) == 1
    assert store.undelivered(0, 9) == []


def test_an_event_that_is_put_back_keeps_its_id_and_goes_last(opened: Opened) -> None:
    store = opened()
    store.post([event("e1"), event("e2")], [])
    store.settle([], [], [(store.deliveries("w", 0, 1)[0].seq, 9, "x")])
    (dead,) = store.undelivered(0, 9)
    assert store.redrive([dead.seq]) == (0, 1)
    assert [(it.event_id, it.attempts) for it in store.deliveries("w", 0, 9)] == [("e2", 0), ("e1", 0)]


def test_a_webhook_that_goes_leaves_dead_letters(opened: Opened) -> None:
    store = opened()
    store.put_webhook("w", '{"a":1}')
    store.put_webhook("w", '{"a":2}')
    assert store.webhooks() == [("w", '{"a":2}')]
    store.post([event("e1", "ana", "w", "x")], [])
    assert store.remove_webhook("w", "removed") == 1
    assert store.webhooks() == []
    assert store.give_up_unknown(["w"], "not set") == 1
    assert [(it.sink, it.why) for it in store.undelivered(0, 9)] == [("w", "removed"), ("x", "not set")]
