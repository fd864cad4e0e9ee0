"""What the scenarios make of what they read: nothing is measured here."""

from __future__ import annotations

import base64
import threading
from os import getpid
from pathlib import Path

import pytest
from bench.scenarios import idle_memory, receive, tap, wake
from bench.scenarios.measure import (
    ThreadUse,
    quantile,
    slope,
    spread,
    tail,
    thread_name,
    thread_use,
    threads,
)
from bench.scenarios.smoke import SMALL
from bench.scenarios.wake import Seen

STATUS = """\
Name:\trunner-io
State:\tS (sleeping)
voluntary_ctxt_switches:\t25508
nonvoluntary_ctxt_switches:\t530
"""


@pytest.mark.parametrize(
    ("q", "expected"), [(0.0, 1.0), (0.5, 3.0), (0.75, 4.0), (0.99, 4.96), (1.0, 5.0)], ids=str
)
def test_quantile_interpolates_between_ranks(q: float, expected: float) -> None:
    assert quantile([5.0, 1.0, 4.0, 2.0, 3.0], q) == pytest.approx(expected)


def test_quantile_of_one_value_is_that_value() -> None:
    assert tail([7.0], "ms_") == {"ms_p50": 7.0, "ms_p99": 7.0, "ms_max": 7.0}


def test_slope_and_spread() -> None:
    assert slope([(100, 1_000), (200, 2_000), (300, 3_000)]) == pytest.approx(10.0)
    assert spread([3.0, 1.0, 2.0]).median == 2.0


def test_thread_use_is_read_from_proc() -> None:
    assert thread_use("740000000 99 25508\n", STATUS) == ThreadUse(0.74, 25_508, 530)


@pytest.mark.parametrize(
    ("comm", "name"),
    [
        ("runner-io\n", "runner-io"),
        ("Trio thread 12", "Trio thread"),
        ("None from runne", "Trio thread"),
        ("7", "7"),
    ],
    ids=str,
)
def test_thread_name_loses_its_number(comm: str, name: str) -> None:
    assert thread_name(comm) == name


def test_threads_of_one_process_are_told_apart() -> None:
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    try:
        found = threads(getpid())
    finally:
        end.set()
        other.join()
    assert found["main"].cpu_s > 0
    assert len(found) > 1


def test_idle_cpu_is_told_for_each_ping() -> None:
    told = idle_memory.per_thread({"runner-io": ThreadUse(0.5, 2_000, 10)}, 50.0, 1_000)
    assert told["runner-io"]["cpu_of_one_core"] == pytest.approx(0.01)
    assert told["runner-io"]["cpu_us_per_ping"] == pytest.approx(500.0)
    assert told["runner-io"]["sleeps_per_ping"] == 2.0


def test_the_overhead_of_monitoring_is_the_difference_of_medians() -> None:
    key = "trio_thread_cpu_of_one_core"
    rows = [
        {"monitoring": is_on, key: cpu, "process_cpu_of_one_core": 2 * cpu}
        for is_on, cpu in ((True, 0.5), (False, 0.1), (True, 0.7), (False, 0.2), (True, 0.6), (False, 0.3))
    ]
    told = idle_memory.overhead(rows)
    assert (told[key]["on"]["median"], told[key]["off"]["median"]) == (0.6, 0.2)
    assert told[key]["difference"] == pytest.approx(0.4)
    assert told["process_cpu_of_one_core"]["difference"] == pytest.approx(0.8)


def test_idle_cpu_without_a_ping_is_no_error() -> None:
    told = idle_memory.per_thread({"main": ThreadUse(0.5, 1, 0)}, 50.0, 0)
    assert told["main"]["cpu_us_per_ping"] == 0.0


@pytest.mark.parametrize(
    ("io", "simulator", "who"),
    [(0.97, 0.4, "io_thread"), (0.5, 0.99, "simulator"), (0.6, 0.7, "neither"), (0.9, 0.9, "io_thread")],
    ids=str,
)
def test_receive_names_the_bottleneck(io: float, simulator: float, who: str) -> None:
    assert receive.bottleneck(io, simulator) == who


def test_receive_tells_wall_and_cpu_rates_apart() -> None:
    used = receive.Used(
        wall_s=2.0,
        process_cpu_s=1.0,
        ours={"runner-io": ThreadUse(0.5, 1, 1), "main": ThreadUse(0.25, 1, 1)},
        simulator={"runner-sim": ThreadUse(1.9, 1, 1)},
    )
    row = receive.figures(100_000, used)
    assert (row["wall_per_s"], row["per_io_cpu_s"], row["per_process_cpu_s"]) == (50_000, 200_000, 100_000)
    assert row["cpu_us_by_thread"] == {"main": pytest.approx(2.5), "runner-io": pytest.approx(5.0)}
    assert row["bottleneck"] == "simulator"
    told = receive.summarise([{"kind": "counters", "template": "ib", "coalesce": 1, "sessions": 50, **row}])
    assert told["counters ib sessions=50 coalesce=1"]["wall_per_s"] == 50_000


def test_wake_counts_from_the_first_write_after_the_order() -> None:
    writes = wake.parse_writes(["a 1000000 80", "b 1500000 80", "a 4000000 120", "a 9000000 40"])
    samples = [Seen("a", 2_000_000, 5_500_000), Seen("b", 1_000_000, 1_750_000)]
    assert wake.delays_ms(writes, samples) == [1.5, 0.25]


@pytest.mark.parametrize(
    "sample", [Seen("a", 2, 5), Seen("a", 12, 20), Seen("nobody", 2, 5)], ids=["before", "after", "unknown"]
)
def test_wake_refuses_what_no_write_explains(sample: Seen) -> None:
    with pytest.raises(LookupError, match="nothing was written"):
        wake.delays_ms({"a": [1, 10]}, [sample])


def test_tap_reads_a_connect_request() -> None:
    login = base64.b64encode(b"sim-00001:x").decode()
    head = f"CONNECT 127.0.0.1:4321 HTTP/1.1\r\nProxy-Authorization: Basic {login}\r\n\r\n".encode()
    assert (tap.name_of(head), tap.address_of(head)) == ("sim-00001", ("127.0.0.1", 4321))
    assert tap.name_of(b"CONNECT [::1]:80 HTTP/1.1\r\n\r\n") == ""
    assert tap.address_of(b"CONNECT [::1]:80 HTTP/1.1\r\n\r\n") == ("::1", 80)


def test_every_scenario_has_a_small_size() -> None:
    folder = Path(idle_memory.__file__).parent
    runnable = {path.stem for path in folder.glob("*.py") if "save(" in path.read_text()}
    assert runnable - {"measure", "soak"} == set(SMALL)
