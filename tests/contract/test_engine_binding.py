"""The engine as Python sees it: what raises, what arrives as an event, what never blocks."""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING

import pytest

from runner import _core
from runner.counters import PHASE_CLOSED, TOTALS, CounterTable, known
from support.devices import import_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VERSION = (2, 3000, 1_035_194_821)
PATIENCE_S = 20.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[_core.Store]:
    store = _core.Store(str(tmp_path / "store.db"))
    yield store
    store.close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts (in its backlog) and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def engine(store: _core.Store, silent_port: int) -> Iterator[_core.Engine]:
    import_device(store, "a")
    engine = _core.Engine(store, _core.EngineConfig(endpoint=f"ws://127.0.0.1:{silent_port}/"))
    yield engine
    engine.shutdown()
    wait_for(engine, lambda event: event.kind == "stopped")


def is_readable(engine: _core.Engine, timeout_s: float = 0.0) -> bool:
    return bool(select.select([engine.fileno()], [], [], timeout_s)[0])


def wait_for(engine: _core.Engine, wanted: Callable[[_core.Event], bool]) -> list[_core.Event]:
    """Everything up to the first event that is wanted, that one included."""
    seen: list[_core.Event] = []
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        is_readable(engine, 0.5)
        for event in engine.drain(1):
            seen.append(event)
            if wanted(event):
                return seen
    raise AssertionError(f"not seen, instead {seen}")


def test_fileno_is_readable_exactly_while_drain_has_something_to_give(engine: _core.Engine) -> None:
    assert not is_readable(engine)
    assert engine.drain(10) == []
    engine.open("a", 1, version=VERSION)
    wait_for(engine, lambda event: event.phase == "upgrading")
    engine.close("a", 1, "stopped")
    wait_for(engine, lambda event: event.kind == "closed")
    assert not is_readable(engine)


def test_close_ends_in_exactly_one_closed_event_that_names_its_connection(engine: _core.Engine) -> None:
    engine.open("a", 7, version=VERSION)
    wait_for(engine, lambda event: event.phase == "upgrading")
    engine.close("a", 6, "forced")  # of an older connection: left alone
    engine.close("a", 7, "stopped")
    engine.close("a", 7, "stopped")
    closed = wait_for(engine, lambda event: event.kind == "closed")[-1]
    assert (closed.session_id, closed.connection, closed.reason, closed.phase) == (
        "a",
        7,
        "stopped",
        "upgrading",
    )
    assert abs(closed.at_unix_ms / 1000 - time.time()) < 60
    engine.open("a", 8, version=VERSION)
    wait_for(engine, lambda event: event.kind == "phase" and event.connection == 8)


def test_a_session_has_one_open_connection(engine: _core.Engine) -> None:
    engine.open("a", 1, version=VERSION)
    with pytest.raises(RuntimeError, match="already has an open connection"):
        engine.open("a", 2, version=VERSION)


def test_what_the_network_does_is_an_event_and_no_exception(store: _core.Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    import_device(store, "a")
    engine = _core.Engine(store, _core.EngineConfig(endpoint=f"ws://127.0.0.1:{port}/"))
    engine.open("a", 1, version=VERSION)
    closed = wait_for(engine, lambda event: event.kind == "closed")[-1]
    assert (closed.reason, closed.phase, closed.code) == ("tcp_refused", "dialling", None)
    assert closed.detail


def test_a_session_without_a_device_is_told_so(engine: _core.Engine) -> None:
    engine.open("nobody", 1, version=VERSION)
    assert wait_for(engine, lambda event: event.kind == "closed")[-1].reason == "device_missing"


@pytest.mark.parametrize("proxy", ["https://h:1", "socks4://h", "h:1", "http://h:0", "http://"])
def test_a_proxy_url_that_is_none_raises(engine: _core.Engine, proxy: str) -> None:
    with pytest.raises(ValueError, match="proxy"):
        engine.open("a", 1, version=VERSION, proxy=proxy)
    engine.open("a", 1, version=VERSION)  # the refused call left nothing behind


def test_misuse_of_close_and_send_raises(engine: _core.Engine) -> None:
    with pytest.raises(ValueError, match="not one of the request reasons"):
        engine.close("a", 1, "pong_deadline")
    with pytest.raises(ValueError, match="node"):
        engine.send("a", 1, b"\x00\xff\xff")
    with pytest.raises(ValueError, match="and a frame holds"):
        engine.send("a", 1, b"\x00" * (8 << 20))


def test_after_shutdown_open_raises_and_close_is_harmless(store: _core.Store, silent_port: int) -> None:
    engine = _core.Engine(store, _core.EngineConfig(endpoint=f"ws://127.0.0.1:{silent_port}/"))
    engine.shutdown()
    assert wait_for(engine, lambda event: event.kind == "stopped")[-1].session_id == ""
    engine.shutdown()
    engine.close("a", 1, "stopped")
    with pytest.raises(_core.EngineClosedError):
        engine.open("a", 1, version=VERSION)
    with pytest.raises(_core.EngineClosedError):
        engine.logout("a", 1)


def test_counters_and_stats_describe_a_connection(engine: _core.Engine) -> None:
    assert engine.counters() == []
    engine.open("a", 3, version=VERSION)
    wait_for(engine, lambda event: event.phase == "upgrading")
    (row,) = engine.counters()
    assert (row.session_id, row.connection, row.phase) == ("a", 3, "upgrading")
    assert row.bytes_sent > 0
    assert row.last_pong_age_s is None
    assert 0.0 <= row.copy_age_s < PATIENCE_S
    assert len(row.response_buckets) == len(_core.RESPONSE_BUCKETS_S) + 1
    stats = engine.stats()
    assert (stats.sessions, stats.online, stats.dials_total, stats.panics_total) == (1, 0, 1, 0)
    assert stats.heartbeat_age_s < PATIENCE_S
    engine.close("a", 3, "stopped")
    wait_for(engine, lambda event: event.kind == "closed")
    (row,) = engine.counters()
    assert row.phase == "closed"
    engine.forget("a")
    assert engine.counters() == []


def test_columns_say_what_the_counters_say(engine: _core.Engine) -> None:
    table = CounterTable(engine.columns)
    assert (table.refresh().totals.keys(), table.rows) == (set(TOTALS), {})
    engine.open("a", 3, version=VERSION)
    wait_for(engine, lambda event: event.phase == "upgrading")
    engine.open("nobody", 1, version=VERSION)
    wait_for(engine, lambda event: event.kind == "closed")
    reading = table.refresh()
    by_id = {row.session_id: row for row in engine.counters()}
    assert table.rows.keys() == by_id.keys() == {"a", "nobody"}
    for session_id, row in table.rows.items():
        counted = by_id[session_id]
        assert reading.connections[row] == counted.connection
        assert _core.phases()[reading.phases[row]] == counted.phase
        assert reading.messages_received[row] == counted.messages_received
        assert reading.requests_failed[row] == counted.requests_failed
        assert reading.stanzas_malformed[row] == counted.stanzas_malformed
        assert reading.responses[row] == counted.response_count
        assert reading.pings_unanswered[row] == counted.pings_sent - counted.pongs_received
        for column in ("online_ages_s", "last_pong_ages_s", "pong_rtts_s"):
            assert known(getattr(reading, column)[row]) is None
    assert reading.totals["bytes_sent"] == sum(row.bytes_sent for row in by_id.values()) > 0
    width = len(_core.RESPONSE_BUCKETS_S) + 1
    assert len(reading.response_buckets) == width * len(reading.births)
    assert reading.response_totals == [0] * width
    assert (reading.online, reading.oldest_unanswered_s) == (0, 0.0)
    assert _core.phases()[PHASE_CLOSED] == "closed"


def test_a_forgotten_session_leaves_its_totals_and_its_row(engine: _core.Engine) -> None:
    table = CounterTable(engine.columns)
    engine.open("a", 1, version=VERSION)
    wait_for(engine, lambda event: event.phase == "upgrading")
    engine.close("a", 1, "stopped")
    wait_for(engine, lambda event: event.kind == "closed")
    before = table.refresh()
    sent = before.totals["bytes_sent"]
    assert sent > 0
    engine.forget("a")
    assert table.refresh().totals["bytes_sent"] == sent
    assert (table.rows, table.now.births[0]) == ({}, 0)
    engine.open("b", 1, version=VERSION)
    wait_for(engine, lambda event: event.kind == "closed")
    assert (table.refresh().births[0] > before.births[0], table.rows) == (True, {"b": 0})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("endpoint", "https://h/"),
        ("endpoint", "ws://10.0.0.1/"),
        ("root_key", b"short"),
        ("connect_timeout_s", 0.0),
        ("keepalive_max_s", 1.0),
        ("dead_socket_s", 1.0),
        ("query_timeout_s", float("nan")),
        ("outbox_capacity", 0),
        ("held_input_limit_bytes", 16 * 1024 * 1024 - 1),
    ],
)
def test_a_wrong_setting_is_named(field: str, value: object) -> None:
    settings: dict[str, object] = {"endpoint": "wss://localhost/", field: value}
    with pytest.raises(ValueError, match=f"^{field}: "):
        _core.EngineConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["root_key", "tls_ca_pem"])
def test_nothing_weakens_the_verification_of_the_real_host(field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must not be set for the real host"):
        _core.EngineConfig(endpoint="wss://web.whatsapp.com/ws/chat", **{field: bytes(32)})  # type: ignore[arg-type]


def test_a_broken_ca_is_refused_at_the_start(store: _core.Store) -> None:
    config = _core.EngineConfig(endpoint="wss://localhost/", tls_ca_pem=b"no certificate")
    with pytest.raises(ValueError, match="CA"):
        _core.Engine(store, config)


def test_every_reason_and_phase_has_its_words() -> None:
    reasons = _core.close_reasons()
    assert len({reason.slug for reason in reasons}) == len(reasons)
    assert all(reason.summary and reason.source for reason in reasons)
    assert _core.phases()[0] == "dialling"
    assert _core.phases()[-1] == "closed"
