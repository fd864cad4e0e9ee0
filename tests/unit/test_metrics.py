"""The numbers an operator sees: what each counts, over which window, and what it does when there is none."""

from __future__ import annotations

import pytest
import trio

from runner.metric_definitions import HISTORY, SESSION_METRICS
from runner.windows import SAMPLE_S
from support.columns import Counted
from support.numbers import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_uptime_is_what_the_supervisor_says_and_not_what_a_reading_remembers(bench: Bench) -> None:
    bench.facts.counting.put("a", Counted(online_age_s=5.0))
    bench.samples()
    bench.uptimes_s["a"] = 7.5
    assert bench.metrics.session("a")["connectionUptime"] == 7.5
    bench.uptimes_s["a"] = 0.0  # lost a moment ago: the reading is from before
    assert bench.metrics.session("a")["connectionUptime"] == 0.0


def test_the_live_numbers_are_made_anew_when_a_session_changed(bench: Bench) -> None:
    bench.states = {"online": 2}
    bench.samples()
    assert bench.metrics.live()["states"] == {"online": 2}
    bench.states = {"online": 1, "backoff": 1}
    bench.revision += 1
    shown = bench.metrics.live()
    assert (shown["states"], shown["revision"]) == ({"online": 1, "backoff": 1}, 1)
    assert bench.metrics.live() is shown


def test_answers_say_which_reading_they_are_of_and_how_old_it_is(bench: Bench) -> None:
    bench.samples(3)
    bench.now += 0.25
    engine = bench.metrics.details()["engine"]
    assert (engine["readings"], engine["readingAge"]) == (3, 0.25)  # type: ignore[index]


def test_messages_per_minute_is_the_last_minute_only(bench: Bench) -> None:
    bench.facts.add("a", messages_received=100)
    bench.samples(8)
    assert bench.metrics.session("a")["messagesPerMinute"] == 0
    bench.facts.add("a", messages_received=30)
    bench.samples()
    assert bench.metrics.session("a")["messagesPerMinute"] == 30
    bench.samples(5)
    assert bench.metrics.session("a")["messagesPerMinute"] == 30
    bench.samples(2)
    assert bench.metrics.session("a")["messagesPerMinute"] == 0
    assert bench.metrics.session("a")["messagesProcessed"] == 130


def test_the_first_minute_is_a_count_and_no_guess(bench: Bench) -> None:
    bench.samples()
    bench.facts.add("a", messages_received=7)
    bench.samples()
    assert bench.metrics.session("a")["messagesPerMinute"] == 7


def test_response_time_is_the_mean_of_five_minutes(bench: Bench) -> None:
    assert bench.metrics.session("a")["averageResponseTime"] is None
    bench.facts.answer("a", 0, 0, 0, 2, seconds=10.0)
    bench.samples(31)
    assert bench.metrics.session("a")["averageResponseTime"] is None
    assert bench.metrics.average_response_time_ms() is None
    bench.facts.answer("a", 1, 3, 0, 0, seconds=0.1)
    bench.samples()
    shown = bench.metrics.session("a")
    assert shown["averageResponseTime"] == bench.metrics.average_response_time_ms() == 25.0
    assert (shown["responseTimeP50"], shown["responseTimeP95"]) == (40.0, 94.0)
    assert bench.metrics.response_times().p99_ms == shown["responseTimeP99"] == 98.8


def test_percentiles_of_a_session_that_answers_too_often_to_tell_are_null(bench: Bench) -> None:
    bench.facts.answer("a", 70_000, 1, 0, 0, seconds=70.0)
    bench.samples()
    shown = bench.metrics.session("a")
    assert shown["averageResponseTime"] == pytest.approx(1.0, rel=1e-3)
    assert shown["responseTimeP50"] is None
    assert bench.metrics.response_times().p50_ms is not None, "the fleet's buckets are whole"
    bench.samples(31)
    bench.facts.answer("a", 60_000, 0, 0, 0, seconds=60.0)
    bench.samples()
    assert bench.metrics.session("a")["responseTimeP50"] == 5.0, "a difference survives the turn"


def test_a_phone_that_links_a_device_or_does_not_come_is_no_error(bench: Bench) -> None:
    bench.event("closed", "a", reason="pairing_expired", phase="authenticating")
    bench.event("closed", "a", reason="stream_restart_required", phase="closing")
    assert bench.metrics.session("a")["errorCount"] == 0
    bench.event("closed", "a", reason="stream_restart_required", phase="online")
    bench.event("closed", "a", reason="pairing_invalid", phase="authenticating")
    assert bench.metrics.session("a")["errorCount"] == 2


def test_errors_are_lost_connections_failed_requests_and_what_does_not_parse(bench: Bench) -> None:
    bench.event("closed", reason="pong_deadline", phase="online")
    bench.event("closed", reason="tcp_refused", phase="dialling")
    bench.event("closed", reason="stopped", phase="online")
    bench.event("closed", reason="forced", phase="dialling")
    bench.facts.add("a", requests_failed=2, stanzas_malformed=1)
    bench.samples()
    assert bench.metrics.session("a")["errorCount"] == 5


def test_reconnects_are_logins_after_the_first(bench: Bench) -> None:
    bench.event("online")
    assert bench.metrics.session("a")["reconnectCount"] == 0
    bench.event("closed", reason="pong_deadline", phase="online")
    bench.event("online")
    bench.event("online", "b")
    assert bench.metrics.session("a")["reconnectCount"] == 1
    assert bench.metrics.reconnects_total == 1


def test_error_rate_is_silent_below_twenty_operations(bench: Bench) -> None:
    for _ in range(19):
        bench.event("closed", reason="tcp_refused", phase="dialling")
    assert bench.metrics.error_rate() is None
    bench.event("online")
    assert bench.metrics.error_rate() == 0.95


def test_messages_that_could_not_be_read_are_errors_beside_those_that_were(bench: Bench) -> None:
    bench.samples()
    bench.facts.add("a", messages_received=60, messages_undecrypted=20)
    bench.facts.add("b", requests_sent=20)
    bench.samples()
    assert bench.metrics.error_rate() == 0.2
    assert bench.metrics.failing() == 1
    assert bench.metrics.errors_of("a")["decrypt"] == 20
    assert bench.metrics.session("a")["errorCount"] == bench.metrics.error_count("a") == 20


def test_error_rate_forgets_after_five_minutes(bench: Bench) -> None:
    bench.samples()
    bench.facts.add("a", requests_sent=100, requests_failed=50)
    bench.samples()
    assert bench.metrics.error_rate() == 0.5
    bench.samples(31)
    assert bench.metrics.error_rate() is None


def test_a_removed_session_leaves_its_totals_and_no_trace_for_the_next(bench: Bench) -> None:
    bench.facts.add("a", messages_received=10)
    bench.facts.answer("a", 1, 2, 3, 4)
    bench.event("online", "a")
    bench.event("online", "a")
    bench.samples(2)
    bench.metrics.forget("a")
    bench.metrics.forget("a")
    bench.facts.counting.forget("a")
    bench.facts.add("b", messages_received=1)
    bench.facts.answer("b", 1, 0, 0, 0)
    bench.samples()
    shown = bench.metrics.session("b")
    assert (shown["messagesPerMinute"], shown["responseTimeP50"]) == (1, 5.0)
    assert bench.metrics.session("a") == {
        **dict.fromkeys(SESSION_METRICS, 0),
        **dict.fromkeys(
            ("averageResponseTime", "responseTimeP50", "responseTimeP95", "responseTimeP99"), None
        ),
    }
    assert bench.metrics.totals["messages_received"] == 11
    assert bench.metrics.buckets == [2, 2, 3, 4]
    bench.facts.counting.forget("b")
    bench.facts.add("b", messages_received=3)  # the same name in the same row, begun anew
    bench.samples()
    assert bench.metrics.session("b")["messagesPerMinute"] == 3
    assert bench.metrics.totals["messages_received"] == 14, "a total never goes back"


def test_sessions_keep_their_rows_while_others_come_and_go(bench: Bench) -> None:
    for number, name in enumerate("abc"):
        bench.facts.add(name, messages_received=number)
    bench.samples()
    bench.facts.counting.forget("b")
    bench.samples()
    bench.facts.add("d", messages_received=7)
    bench.samples()
    shown = {name: bench.metrics.session(name)["messagesProcessed"] for name in "abcd"}
    assert shown == {"a": 0, "b": 0, "c": 2, "d": 7}


async def test_without_monitoring_nothing_is_kept_and_the_endpoints_answer(
    bench: Bench, autojump_clock: trio.testing.MockClock
) -> None:
    bench.facts.counting.put("a", Counted(messages_received=3, online_age_s=1.0))
    bench.facts.answer("a", 30, 0, 0, 0, seconds=0.3)
    bench.facts.add("a", requests_sent=97, requests_failed=50)
    bench.samples(3)
    assert bench.metrics.error_rate() == 0.5
    bench.metrics.monitor(on=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.metrics.run)
        reads = bench.facts.counting.reads
        await trio.sleep(100)
        assert bench.facts.counting.reads == reads
        bench.now += 100
        await bench.metrics.refresh()
        nursery.cancel_scope.cancel()
    shown = bench.metrics.session("a")
    assert (shown["messagesProcessed"], shown["errorCount"]) == (3, 50)
    assert bench.metrics.active_connections == 1
    for windowed in ("messagesPerMinute", "averageResponseTime", "responseTimeP95"):
        assert shown[windowed] is None, windowed
    assert bench.metrics.error_rate() is None
    assert bench.metrics.details()["messagesPerMinute"] is None
    assert bench.metrics.details()["averageResponseTime"] is None
    assert not bench.metrics.past(["cpuUsage"], 0, None, 100)["cpuUsage"]["values"]  # type: ignore[index]
    assert autojump_clock.current_time() > 0


def test_monitoring_that_is_turned_on_again_begins_its_windows_anew(bench: Bench) -> None:
    bench.facts.add("a", requests_sent=100, requests_failed=50, messages_received=9)
    bench.metrics.monitor(on=False)
    bench.metrics.monitor(on=True)
    assert bench.metrics.error_rate() is None
    assert bench.metrics.session("a")["messagesPerMinute"] == 0
    bench.facts.add("a", requests_sent=100, requests_failed=10)
    bench.samples()
    assert bench.metrics.error_rate() == 0.1


async def test_turning_monitoring_off_wakes_whoever_waits_for_a_sample(bench: Bench) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.metrics.next_sample)
        await trio.testing.wait_all_tasks_blocked()
        bench.metrics.monitor(on=False)


def test_every_history_name_gets_a_value_with_each_sample(bench: Bench) -> None:
    bench.states = {"online": 3, "parked": 1}
    bench.event("online")
    bench.event("closed", reason="pong_deadline", phase="online")
    bench.facts.add("a", messages_received=60)
    bench.facts.answer("a", 0, 20, 0, 0, seconds=1.0)
    bench.facts.add("a", requests_sent=30, requests_failed=3)
    bench.metrics.tally.handled(0.2, "done")
    bench.metrics.tally.handled(0.4, "failed")
    bench.samples(2)
    past = bench.metrics.past(HISTORY, 0, None, 1000)
    latest = {name: series["values"][-1] for name, series in past.items()}  # type: ignore[index]
    assert None not in latest.values()
    assert (latest["sessions.online"], latest["sessions.parked"], latest["sessions.backoff"]) == (3, 1, 0)
    assert (latest["messagesPerMinute"], latest["dialsPerMinute"], latest["closesPerMinute"]) == (60, 1, 1)
    assert (latest["averageResponseTime"], latest["errorsPerMinute"]) == (50, 3)
    assert latest["averageHandlerTime"] == pytest.approx(300)
    assert latest["errorRate"] == pytest.approx(3 / 91, abs=1e-6)


def test_rates_are_those_of_the_last_minute(bench: Bench) -> None:
    bench.facts.add("a", messages_received=600)
    bench.samples(8)
    assert bench.metrics.details()["messagesPerMinute"] == 0
    bench.facts.add("a", messages_received=5)
    bench.samples()
    assert bench.metrics.details()["messagesPerMinute"] == 5
    bench.samples(7)
    assert bench.metrics.details()["messagesPerMinute"] == 0


def test_the_live_event_has_what_the_dashboard_draws(bench: Bench) -> None:
    bench.samples(2)
    assert {
        "totalMemory",
        "usedMemory",
        "cpuUsage",
        "activeConnections",
        "errorRate",
        "memoryScope",
        "cpuScope",
        "averageResponseTime",
        "responseTime",
        "states",
        "messagesPerMinute",
        "reconnectsPerMinute",
        "process",
    } <= bench.metrics.live().keys()
    assert {"rss", "openFds", "cpu"} == bench.metrics.live()["process"].keys()  # type: ignore[attr-defined]


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


def test_a_session_that_is_thrown_out_again_and_again_is_one_session(bench: Bench) -> None:
    for _ in range(5):
        bench.now += 2
        bench.event("closed", "a", reason="websocket_closed", phase="online")
        bench.event("closed", "a", reason="login_timeout", phase="authenticating")
    bench.event("closed", "b", reason="pong_deadline", phase="online")
    bench.event("online", "b")
    assert bench.metrics.dropped_within(60.0) == (2, 1)
    assert bench.metrics.failing() == 1
    bench.now += 59
    assert bench.metrics.dropped_within(60.0) == (2, 1)
    bench.now += 1
    assert bench.metrics.dropped_within(60.0) == (0, 0)
    assert bench.metrics.failing() == 1
    bench.metrics.forget("a")
    assert bench.metrics.failing() == 0


def test_a_drop_counts_once_somebody_came_back_or_no_outage_can_be_its_beginning(bench: Bench) -> None:
    bench.event("online", "a")
    bench.now += 1
    bench.event("closed", "a", reason="connection_reset", phase="online")
    bench.now += 39
    assert bench.metrics.dropped_within(60.0) == (0, 0)
    bench.now += 1
    assert bench.metrics.dropped_within(60.0) == (1, 0), "nobody can log in, and it is no outage of the path"
    bench.event("closed", "b", reason="connection_reset", phase="online")
    assert bench.metrics.dropped_within(60.0) == (1, 0)
    bench.event("online", "a")
    assert bench.metrics.dropped_within(60.0) == (2, 0)


def test_a_session_whose_requests_fail_is_one_session_that_fails(bench: Bench) -> None:
    bench.samples()
    bench.facts.add("a", requests_failed=5)
    bench.facts.add("b", requests_sent=5)
    bench.facts.add("c", requests_failed=1)
    bench.samples()
    assert bench.metrics.failing() == 2
    bench.event("closed", "a", reason="login_timeout", phase="authenticating")
    bench.event("closed", "d", reason="login_timeout", phase="authenticating")
    assert bench.metrics.failing() == 3
    bench.now += 301
    bench.samples(31)
    assert bench.metrics.failing() == 0
