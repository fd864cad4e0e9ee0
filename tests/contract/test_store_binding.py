"""`_core.Store` does what `_core.pyi` says, on a real file."""

from __future__ import annotations

import sqlite3
import stat
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from runner import _core, baileys
from runner.engine import back_up
from runner.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def record(n: int = 1, **changes: Any) -> _core.DeviceRecord:  # noqa: ANN401  # any field, also wrong ones
    fields: dict[str, Any] = {
        "jid": f"1555000{n:04}:3@s.whatsapp.net",
        "lid": f"10000000{n:04}:3@lid",
        "push_name": None,
        "platform": None,
        "registration_id": n,
        "noise_secret": bytes([n]) * 32,
        "identity_secret": bytes(32),
        "signed_pre_key_id": 1,
        "signed_pre_key_secret": bytes(32),
        "signed_pre_key_signature": bytes(64),
        "adv_secret": bytes(32),
        "account": None,
        "routing_info": None,
        "source": b"{}",
    }
    return _core.DeviceRecord(**(fields | changes))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[_core.Store]:
    store = _core.Store(str(path), group_commit_ms=0)
    yield store
    store.close()


def slug(raised: pytest.ExceptionInfo[_core.StoreError]) -> str:
    found, message = raised.value.args
    assert isinstance(message, str)
    return str(found)


def put_message(path: Path, seq: int, session_id: str, sender: str = "sender") -> None:
    """What the engine would have committed; Python has no way to write the inbox.

    Only while the store is closed: two SQLite libraries in one process undo each other's file locks.
    """
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO inbox (seq, session_id, chat, sender, message_id, received_unix_ms, name, stanza)"
            " VALUES (?, ?, 'chat', ?, ?, 7, ?, x'00f80102')",
            (seq, session_id, sender, f"id{seq}", f"name{seq}".encode()),
        )
        connection.execute("INSERT INTO pending (seq) VALUES (?)", (seq,))
    connection.close()


def test_new_store_is_empty_private_and_has_nothing_to_report(store: _core.Store, path: Path) -> None:
    assert (store.report, store.sessions(), store.meta(), store.quarantined()) == ([], [], {}, [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_imported_device_is_listed_with_its_keys(store: _core.Store) -> None:
    keys = [("pre-key", "1", b"\x00\xff"), ("session", "x", b"")]
    store.import_device("shop", record(), keys)
    (row,) = store.sessions()
    assert (row.session_id, row.jid, row.lid) == (
        "shop",
        "15550000001:3@s.whatsapp.net",
        "100000000001:3@lid",
    )
    assert (row.policy, row.archived, row.quarantined) == (None, False, None)
    assert row.imported_at_unix_ms > 1_600_000_000_000
    assert store.signal_keys("shop") == keys


@pytest.mark.parametrize("directory", ["one", "two"])
def test_directory_made_by_baileys_is_stored_losslessly(
    store: _core.Store, request: pytest.FixtureRequest, directory: str
) -> None:
    source = request.config.rootpath / "tests" / "vectors" / "baileys_auth" / directory
    device = baileys.read_device(source)
    store.import_device("shop", _core.DeviceRecord(**device.fields), device.keys)
    assert sorted(store.signal_keys("shop")) == sorted(device.keys)


def test_taken_id_is_refused(store: _core.Store) -> None:
    store.import_device("shop", record(1), [])
    with pytest.raises(_core.StoreError) as raised:
        store.import_device("shop", record(2), [])
    assert slug(raised) == "exists"
    assert [row.jid for row in store.sessions()] == ["15550000001:3@s.whatsapp.net"]


def test_many_are_imported_in_one_commit_with_an_outcome_for_each(store: _core.Store) -> None:
    keys = [("pre-key", "1", b"\x00\xff")]
    before = store.health().commits_total
    outcomes = store.import_devices(
        [
            ("shop", record(1), keys),
            ("shop", record(2), keys),
            ("torn", record(3), keys * 2),
            ("desk", record(4), []),
        ]
    )
    assert outcomes == [
        None,
        ("exists", "session shop exists; choose another id"),
        ("exists", "the Signal key pre-key 1 comes twice"),
        None,
    ]
    assert store.health().commits_total == before + 1
    assert [row.session_id for row in store.sessions()] == ["desk", "shop"]
    assert store.signal_keys("shop") == keys
    store.close()
    with pytest.raises(_core.StoreError) as raised:
        store.import_devices([("late", record(5), [])])
    assert slug(raised) == "closed"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("noise_secret", bytes(31)),
        ("identity_secret", bytes(33)),
        ("signed_pre_key_secret", b""),
        ("signed_pre_key_signature", bytes(32)),
        ("adv_secret", bytes(1)),
        ("jid", ""),
    ],
)
def test_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        record(**{field: value})


def test_second_opener_is_refused(store: _core.Store, path: Path) -> None:
    with pytest.raises(_core.StoreError, match="process") as raised:
        _core.Store(str(path))
    assert slug(raised) == "locked"


def test_policy_and_meta_survive_a_restart(store: _core.Store, path: Path) -> None:
    store.import_device("shop", record(), [])
    store.put_policy("shop", "{}")
    store.put_policy("shop", '{"desired": "stopped"}')
    store.put_meta("boot", "1")
    assert store.flush(10.0)
    store.close()
    again = _core.Store(str(path))
    assert [row.policy for row in again.sessions()] == ['{"desired": "stopped"}']
    assert again.meta() == {"boot": "1"}
    again.close()


def test_confirmed_messages_are_kept_as_long_as_the_setting_says(store: _core.Store, path: Path) -> None:
    store.close()
    put_message(path, 1, "shop")
    again = _core.Store(str(path))
    assert again.done([1]) == 1
    again.close()
    for keep_s, left in ((86400.0, 1), (1800.0, 0)):
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("UPDATE confirmed SET done_unix_ms = ?", [round((time.time() - 3600) * 1000)])
        again = _core.Store(str(path), keep_done_s=keep_s)
        assert again.flush(10.0)
        again.close()
        with closing(sqlite3.connect(path)) as file:
            assert file.execute("SELECT count(*) FROM inbox").fetchone() == (left,)
    with pytest.raises(ValueError, match="keep_done_s"):
        _core.Store(str(path), keep_done_s=-1.0)


def test_dead_letters_stay_until_they_are_removed(store: _core.Store, path: Path) -> None:
    store.close()
    with closing(sqlite3.connect(path)) as file, file:
        row = ("shop", "sender", "id1", 7, b"\x00\xf8")
        file.execute("INSERT INTO dead_letter VALUES (3, ?, ?, ?, ?, ?)", row)
    again = _core.Store(str(path))
    assert (again.health().dead_letters, again.health().dead_letters_dropped_total) == (1, 0)
    (letter,) = again.take_dead_letters(0, 10)
    assert (letter.seq, letter.session_id, letter.sender, letter.message_id) == (3, "shop", "sender", "id1")
    assert (letter.received_unix_ms, letter.frame) == (7, b"\x00\xf8")
    assert again.take_dead_letters(3, 10) == []
    assert again.remove_dead_letters([3, 4]) == 1
    assert (again.take_dead_letters(0, 10), again.health().dead_letters) == ([], 0)
    again.close()


def test_messages_are_taken_in_order_and_confirmed(store: _core.Store, path: Path) -> None:
    store.close()
    for seq in (1, 2, 3):
        put_message(path, seq, "shop")
    again = _core.Store(str(path))
    assert again.health().inbox_pending == 3
    first, second = again.take(0, 2)
    assert (first.seq, first.session_id, first.chat, first.sender) == (1, "shop", "chat", "sender")
    assert (first.message_id, first.stanza, first.received_unix_ms) == ("id1", b"\x00\xf8\x01\x02", 7)
    assert again.done([first.seq, second.seq, 99]) == 2
    assert [message.seq for message in again.take(0, 10)] == [3]
    assert again.health().inbox_pending == 1
    again.close()


def test_a_message_says_whether_the_sessions_own_account_wrote_it(store: _core.Store, path: Path) -> None:
    store.import_device("shop", record(0), [])
    store.close()
    put_message(path, 1, "shop", "15550000000:7@s.whatsapp.net")
    put_message(path, 2, "shop", "15550001111@s.whatsapp.net")
    put_message(path, 3, "removed", "15550000000:7@s.whatsapp.net")
    again = _core.Store(str(path))
    assert [message.is_own for message in again.take(0, 10)] == [True, False, False]
    again.close()


def test_archived_and_deleted(store: _core.Store) -> None:
    store.import_device("shop", record(), [])
    store.archive("shop", "failure_logged_out")
    assert [row.archived for row in store.sessions()] == [True]
    store.unarchive("shop")
    assert [row.archived for row in store.sessions()] == [False]
    store.delete("shop")
    assert store.sessions() == []


@pytest.mark.parametrize("call", ["archive", "unarchive", "delete", "signal_keys"])
def test_unknown_session_is_named(store: _core.Store, call: str) -> None:
    arguments = ("nobody", "why") if call == "archive" else ("nobody",)
    with pytest.raises(_core.StoreError, match="nobody") as raised:
        getattr(store, call)(*arguments)
    assert slug(raised) == "unknown_session"


@pytest.mark.pain(11)
def test_damaged_credentials_are_reported_and_never_replaced(store: _core.Store, path: Path) -> None:
    store.import_device("shop", record(), [])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE device SET noise_secret = zeroblob(32)")
    connection.close()
    again = _core.Store(str(path))
    assert len(again.report) == 1
    (row,) = again.sessions()
    assert row.quarantined is not None
    (aside,) = again.quarantined()
    assert (aside.what, aside.session_id, aside.why) == ("device", "shop", row.quarantined)
    assert aside.at_unix_ms > 1_600_000_000_000
    with pytest.raises(_core.StoreError):
        again.import_device("shop", record(2), [])
    again.close()


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [("PRAGMA user_version = 99", "newer_schema"), (None, "damaged")],
)
def test_file_that_cannot_be_used_is_refused_with_its_slug(
    store: _core.Store, path: Path, prepare: str | None, expected: str
) -> None:
    store.close()
    if prepare is None:
        path.write_bytes(b"not a database" * 1000)
    else:
        connection = sqlite3.connect(path)
        connection.execute(prepare)
        connection.close()
    with pytest.raises(_core.StoreError) as raised:
        _core.Store(str(path))
    assert slug(raised) == expected


def test_health_counts_commits(store: _core.Store) -> None:
    before = store.health()
    store.import_device("shop", record(), [])
    after = store.health()
    assert after.commits_total == before.commits_total + 1
    assert (after.queued, after.oldest_age_s, after.failed_total) == (0, 0.0, 0)
    assert (after.last_error, after.disk_full, after.inbox_pending, after.batches_total) == (
        None,
        False,
        0,
        0,
    )
    assert after.wal_bytes > 0


def test_closed_store_refuses(store: _core.Store) -> None:
    store.close()
    store.close()
    assert store.flush(1.0) is False
    with pytest.raises(_core.StoreError) as raised:
        store.sessions()
    assert slug(raised) == "closed"


@pytest.mark.parametrize("timeout_s", [-1.0, float("nan"), float("inf")])
def test_flush_refuses_what_is_no_duration(store: _core.Store, timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        store.flush(timeout_s)


def test_blocking_calls_let_other_threads_run(path: Path) -> None:
    """While one thread waits for its commit, another gets the interpreter."""
    store = _core.Store(str(path), group_commit_ms=200)
    started, finished = threading.Event(), threading.Event()

    def wait_for_commit() -> None:
        started.set()
        store.flush(10.0)
        finished.set()

    thread = threading.Thread(target=wait_for_commit)
    thread.start()
    assert started.wait(10.0)
    ran_meanwhile = not finished.is_set()
    thread.join()
    store.close()
    assert ran_meanwhile


def test_a_backup_into_no_directory_is_refused_and_the_store_is_not_to_blame(
    store: _core.Store, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match="no directory that the runner may write") as told:
        back_up(store, tmp_path / "nowhere" / "copy.db")
    assert (told.value.reason, told.value.remedy[:7]) == ("no_directory", "make it")
    assert back_up(store, tmp_path / "copy.db").sessions == 0
