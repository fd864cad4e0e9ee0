"""The eleven numbers: what each counts, over which window, and what it does when there is nothing to say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio

from runner.machine import Machine
from runner.metrics import SAMPLE_S, Metrics
from runner.prometheus import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BOUNDS = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Counted:
    """`_core.SessionCounters`, as far as metrics look."""

    session_id: str
    frames_received: int = 0
    frames_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    stanzas_malformed: int = 0
    messages_received: int = 0
    requests_sent: int = 0
    requests_failed: int = 0
    oldest_unanswered_age_s: float | None = None
    online_age_s: float | None = None
    response_count: int = 0
    response_sum_s: float = 0.0
    response_buckets: Sequence[int] = (0, 0, 0, 0)


@dataclass
class Facts:
    """An engine and a store that say what they are told."""

    rows: dict[str, Counted] = field(default_factory=dict)

    def counters(self) -> list[Counted]:
        return list(self.rows.values())

    def stats(self) -> Any:  # noqa: ANN401 - a namespace
        zero = dict.fromkeys(("sessions", "dialling", "online", "outbox_depth", "outbox_dropped_total"), 0)
        more = dict.fromkeys(("dials_total", "tls_resumed_total", "panics_total", "turns_total"), 0)
        return SimpleNamespace(loop_lag_s=0.0, heartbeat_age_s=0.0, held_input_bytes=4096, **zero, **more)

    def store_health(self) -> Any:  # noqa: ANN401 - a namespace
        names = ("queued", "commits_total", "batches_total", "failed_total", "wal_bytes", "inbox_pending")
        names += ("dead_letters", "dead_letters_dropped_total")
        return SimpleNamespace(oldest_age_s=0.0, disk_full=False, **dict.fromkeys(names, 0))

    def add(self, session_id: str, **more: float) -> None:
        """Count further; a frame comes with whatever comes."""
        row = self.rows.get(session_id, Counted(session_id))
        changed = {name: getattr(row, name) + value for name, value in more.items()}
        self.rows[session_id] = replace(row, frames_received=row.frames_received + 1, **changed)  # type: ignore[arg-type]


class Bench:
    """Metrics over facts, with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.now = 1000.0
        self.states = {"online": 0}
        self.metrics = Metrics(
            self.facts, lambda: self.states, bucket_bounds_s=BOUNDS, clock=lambda: self.now
        )

    async def samples(self, number: int = 1) -> None:
        for _ in range(number):
            self.now += SAMPLE_S
            await self.metrics.sample()

    def event(
        self, kind: str, session_id: str = "a", reason: str | None = None, phase: str | None = None
    ) -> None:
        event: Any = SimpleNamespace(kind=kind, session_id=session_id, reason=reason, phase=phase)
        self.metrics.observe(event)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_uptime_is_that_of_the_current_connection(bench: Bench) -> None:
    bench.facts.rows["a"] = Counted("a", online_age_s=5.0)
    await bench.samples()
    bench.now += 2.5
    assert bench.metrics.session("a")["connectionUptime"] == 7.5
    bench.facts.rows["a"] = Counted("a", frames_received=1)
    await bench.samples()
    assert bench.metrics.session("a")["connectionUptime"] == 0.0


async def test_messages_per_minute_is_the_last_minute_only(bench: Bench) -> None:
    bench.facts.add("a", messages_received=100)
    await bench.samples(8)
    assert bench.metrics.session("a")["messagesPerMinute"] == 0
    bench.facts.add("a", messages_received=30)
    await bench.samples()
    assert bench.metrics.session("a")["messagesPerMinute"] == 30
    await bench.samples(5)
    assert bench.metrics.session("a")["messagesPerMinute"] == 30
    await bench.samples(2)
    assert bench.metrics.session("a")["messagesPerMinute"] == 0
    assert bench.metrics.session("a")["messagesProcessed"] == 130


async def test_the_first_minute_is_a_count_and_no_guess(bench: Bench) -> None:
    await bench.samples()
    bench.facts.add("a", messages_received=7)
    await bench.samples()
    assert bench.metrics.session("a")["messagesPerMinute"] == 7


async def test_response_time_is_the_mean_of_five_minutes(bench: Bench) -> None:
    assert bench.metrics.session("a")["averageResponseTime"] is None
    bench.facts.add("a", response_count=2, response_sum_s=10.0)
    await bench.samples(31)
    assert bench.metrics.session("a")["averageResponseTime"] is None
    bench.facts.add("a", response_count=4, response_sum_s=0.1)
    await bench.samples()
    assert bench.metrics.session("a")["averageResponseTime"] == 25.0
    assert bench.metrics.average_response_time_ms() == 25.0


async def test_errors_are_lost_connections_failed_requests_and_what_does_not_parse(bench: Bench) -> None:
    bench.event("closed", reason="pong_deadline", phase="online")
    bench.event("closed", reason="tcp_refused", phase="dialling")
    bench.event("closed", reason="stopped", phase="online")
    bench.event("closed", reason="forced", phase="dialling")
    bench.facts.add("a", requests_failed=2, stanzas_malformed=1)
    await bench.samples()
    assert bench.metrics.session("a")["errorCount"] == 5


async def test_reconnects_are_logins_after_the_first(bench: Bench) -> None:
    bench.event("online")
    assert bench.metrics.session("a")["reconnectCount"] == 0
    bench.event("closed", reason="pong_deadline", phase="online")
    bench.event("online")
    bench.event("online", "b")
    assert bench.metrics.session("a")["reconnectCount"] == 1
    assert bench.metrics.reconnects_total == 1


async def test_error_rate_is_silent_below_twenty_operations(bench: Bench) -> None:
    for _ in range(19):
        bench.event("closed", reason="tcp_refused", phase="dialling")
    assert bench.metrics.error_rate() is None
    bench.event("online")
    assert bench.metrics.error_rate() == 0.95


async def test_error_rate_forgets_after_five_minutes(bench: Bench) -> None:
    await bench.samples()
    bench.facts.add("a", requests_sent=100, requests_failed=50)
    await bench.samples()
    assert bench.metrics.error_rate() == 0.5
    await bench.samples(31)
    assert bench.metrics.error_rate() is None


async def test_a_removed_session_leaves_its_totals_and_no_trace_for_the_next(bench: Bench) -> None:
    bench.facts.add("a", messages_received=10)
    bench.facts.rows["a"] = replace(bench.facts.rows["a"], response_buckets=(1, 2, 3, 4))
    await bench.samples(2)
    bench.metrics.forget("a")  # and a copy of the counters still lists it
    bench.metrics.forget("a")
    bench.facts.rows["b"] = Counted(
        "b", frames_received=1, messages_received=1, response_buckets=(1, 0, 0, 0)
    )
    await bench.samples()
    assert bench.metrics.session("b")["messagesPerMinute"] == 1
    assert bench.metrics.session("a")["messagesProcessed"] == 0
    assert bench.metrics.totals[5] == 11
    assert bench.metrics.buckets == [2, 2, 3, 4]
    del bench.facts.rows["a"]
    await bench.samples()
    bench.facts.rows["a"] = Counted(
        "a", frames_received=2, messages_received=2, response_buckets=(1, 0, 0, 0)
    )
    bench.event("online", "a")
    await bench.samples()
    assert bench.metrics.session("a")["messagesPerMinute"] == 2
    assert bench.metrics.totals[5] == 13, "a total never goes back"
    assert bench.metrics.buckets == [3, 2, 3, 4]


async def test_a_large_fleet_is_sampled_in_steps(bench: Bench) -> None:
    bench.facts.rows = {f"s{number}": Counted(f"s{number}", frames_received=1) for number in range(2000)}
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        await bench.metrics.sample()
        nursery.cancel_scope.cancel()
    assert turns >= 9


async def test_without_monitoring_nothing_is_kept_and_the_endpoints_answer(
    bench: Bench, autojump_clock: trio.testing.MockClock
) -> None:
    bench.metrics.monitoring = False
    bench.facts.rows["a"] = Counted("a", frames_received=1, messages_received=3, online_age_s=1.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.metrics.run)
        await trio.sleep(100)
        assert bench.metrics.session("a")["messagesProcessed"] == 0
        bench.now += 100
        await bench.metrics.refresh()
        nursery.cancel_scope.cancel()
    assert bench.metrics.session("a")["messagesProcessed"] == 3
    assert bench.metrics.active_connections == 1
    assert autojump_clock.current_time() > 0


async def test_sampling_goes_on_and_measures_its_own_lag(
    bench: Bench, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.metrics.run)
        await bench.metrics.next_sample()
        before = trio.current_time()
        autojump_clock.jump(SAMPLE_S + 3.0)  # the thread was blocked
        await bench.metrics.next_sample()
        nursery.cancel_scope.cancel()
    assert bench.metrics.loop_lag_s == pytest.approx(3.0)
    assert trio.current_time() - before == pytest.approx(SAMPLE_S + 3.0)


async def test_prometheus_labels_are_bounded_and_never_sessions(bench: Bench) -> None:
    bench.states = {"online": 2, "backoff": 1}
    bench.event("closed", "15550001111", "pong_deadline", "online")
    bench.facts.rows["15550001111"] = Counted(
        "15550001111", frames_received=1, response_count=3, response_sum_s=0.6, response_buckets=(1, 0, 2, 0)
    )
    await bench.samples()
    shown = text(bench.metrics).decode()
    assert "15550001111" not in shown
    for line in (
        'runner_sessions{state="backoff"} 1',
        'runner_sessions{state="online"} 2',
        'runner_closes_total{reason="pong_deadline"} 1',
        'runner_response_seconds_bucket{le="0.01"} 1',
        'runner_response_seconds_bucket{le="0.1"} 1',
        'runner_response_seconds_bucket{le="1"} 3',
        'runner_response_seconds_bucket{le="+Inf"} 3',
        "runner_response_seconds_sum 0.6",
        "runner_response_seconds_count 3",
    ):
        assert line in shown.splitlines(), line
    assert shown.endswith("\n")
    names = [line.split()[2] for line in shown.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert all(name.startswith("runner_") for name in names)


def test_memory_and_cpu_are_those_of_the_cgroup_with_a_limit(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup/service"
    inner = group / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/service/inner\n")
    (inner / "memory.max").write_text("max\n")
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("700000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 200000\n")
    (group / "cpu.max").write_text("150000 100000\n")
    (group / "cpu.stat").write_text("usage_usec 1000000\n")
    machine = Machine(tmp_path)
    memory = machine.memory()
    assert (memory.total, memory.used, memory.scope) == (1_000_000, 500_000, "cgroup")
    assert machine.cpu_ratio(now=0.0) == (0.0, "cgroup")
    (group / "cpu.stat").write_text("usage_usec 2500000\n")
    assert machine.cpu_ratio(now=2.0) == (0.5, "cgroup")


def test_memory_is_the_hosts_without_a_limit(tmp_path: Path) -> None:
    memory = Machine(tmp_path).memory()
    assert memory.scope == "host"
    assert 0 < memory.used < memory.total


def test_the_old_cgroup_interface_is_read_too(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup/memory"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("1000000\n")
    (group / "memory.usage_in_bytes").write_text("400000\n")
    (group / "memory.stat").write_text("total_inactive_file 100000\n")
    memory = Machine(tmp_path).memory()
    assert (memory.total, memory.used, memory.scope) == (1_000_000, 300_000, "cgroup")


def test_the_process_knows_itself() -> None:
    use = Machine().process()
    assert use.rss_bytes >= use.rss_anon_bytes > 0
    assert use.open_fds >= 3
    assert use.threads >= 1
