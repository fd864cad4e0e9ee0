"""What is said of a machine: every check just before, at and after its limits, and who may change it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import app
from runner.admin import sockets
from runner.config import Settings
from runner.tune import docs, facts, measured, network
from runner.tune.cgroup import Cgroup
from runner.tune.facts import Facts
from runner.tune.files import advised_limit
from runner.tune.finding import Need, OpenFiles, Status, Sysctl
from runner.tune.report import CHECKS, Finding, Report, report
from support.machines import CONNTRACK, bare_host, container

ROOT = Path(__file__).resolve().parents[2]
N = Need(10_000)
MIB = 2**20


def found(it: Facts, name: str, need: Need = N) -> Finding:
    return next(finding for finding in report(it, need, "asked").findings if finding.check.name == name)


def status(it: Facts, name: str, need: Need = N) -> Status:
    return found(it, name, need).verdict.status


def on_host(tmp_path: Path, sysctls: dict[str, str] | None = None) -> Facts:
    return facts.read(bare_host(tmp_path, sysctls), is_synchronized=lambda: True)


def in_container(tmp_path: Path, sysctls: dict[str, str] | None = None) -> Facts:
    return facts.read(container(tmp_path, sysctls, files="4096"), is_synchronized=lambda: True)


def sysctls(**values: str) -> Facts:
    return Facts(pid=1, sysctls={name.replace("__", "."): value for name, value in values.items()})


def test_a_plain_debian_is_fine_for_ten_thousand_sessions(tmp_path: Path) -> None:
    it = report(on_host(tmp_path, CONNTRACK), N, "asked")
    assert it.status is Status.FINE
    assert not list(it.changes())
    assert {finding.verdict.status for finding in it.findings} <= {Status.FINE, Status.NOT_ADVISED}


def test_every_check_says_something_of_a_machine_that_shows_nothing() -> None:
    it = report(Facts(pid=1), N, "asked")
    assert [finding.check.name for finding in it.findings] == [check.name for check in CHECKS]
    assert all(finding.verdict.effect for finding in it.findings)
    assert len({check.name for check in CHECKS}) == len(CHECKS)


def test_open_files_too_few_then_advised_then_fine() -> None:
    need, wanted = N.descriptors, advised_limit(N)
    for limit, expected in (
        (need - 1, Status.TOO_SMALL),
        (need, Status.ADVISED),
        (wanted - 1, Status.ADVISED),
        (wanted, Status.FINE),
        (None, Status.FINE),
    ):
        assert status(Facts(pid=1, open_files=limit), "open-files") is expected, limit
    assert status(Facts(pid=1, limits_seen=False), "open-files") is Status.UNKNOWN
    verdict = found(Facts(pid=1, open_files=1024), "open-files").verdict
    assert verdict.change == OpenFiles(wanted)


def test_ports_are_counted_without_the_reserved_ones() -> None:
    name = "net__ipv4__ip_local_port_range"
    twice = 2 * N.sessions
    assert status(sysctls(**{name: f"10000 {10_000 + twice - 1}"}), "ephemeral-ports") is Status.FINE
    assert status(sysctls(**{name: f"10000 {10_000 + twice - 2}"}), "ephemeral-ports") is Status.ADVISED
    reserved = {
        name: f"10000 {10_000 + twice - 1}",
        "net__ipv4__ip_local_reserved_ports": "4001,10500,60000-60010",
    }
    assert status(sysctls(**reserved), "ephemeral-ports") is Status.ADVISED
    few = found(sysctls(**{name: "32768 40000"}), "ephemeral-ports").verdict
    assert few.status is Status.TOO_SMALL
    assert few.change == Sysctl("net.ipv4.ip_local_port_range", "10240 65535")


def test_a_range_that_cannot_be_wider_is_not_asked_to_be() -> None:
    verdict = found(
        sysctls(net__ipv4__ip_local_port_range="1024 65535"), "ephemeral-ports", Need(100_000)
    ).verdict
    assert (verdict.status, verdict.change) == (Status.TOO_SMALL, None)
    assert "source address" in verdict.elsewhere


def test_conntrack_has_to_hold_every_session_twice() -> None:
    name = "net__netfilter__nf_conntrack_max"
    count = {"net__netfilter__nf_conntrack_count": "100"}
    for most, expected in (
        (20_100, Status.FINE),
        (20_099, Status.ADVISED),
        (10_100, Status.ADVISED),
        (10_099, Status.TOO_SMALL),
    ):
        assert status(sysctls(**{name: str(most)}, **count), "conntrack") is expected, most
    assert status(Facts(pid=1), "conntrack") is Status.FINE
    timeout = "net__netfilter__nf_conntrack_tcp_timeout_established"
    assert status(sysctls(**{timeout: "39"}), "conntrack-timeout") is Status.ADVISED
    assert status(sysctls(**{timeout: "40"}), "conntrack-timeout") is Status.FINE


def test_memory_is_the_least_of_host_and_cgroup() -> None:
    idle = N.memory_bytes + N.kernel_bytes
    for limit, expected in (
        (idle - 1, Status.TOO_SMALL),
        (idle, Status.ADVISED),
        (2 * idle - 1, Status.ADVISED),
        (2 * idle, Status.FINE),
    ):
        host = Facts(pid=1, memory_bytes=limit)
        group = Facts(pid=1, memory_bytes=2**40, cgroup=Cgroup(memory_bytes=limit))
        high = Facts(pid=1, memory_bytes=2**40, cgroup=Cgroup(memory_bytes=2**39, memory_high_bytes=limit))
        for it, scope in ((host, "host"), (group, "cgroup"), (high, "cgroup")):
            verdict = found(it, "memory-limit").verdict
            assert (verdict.status, scope in verdict.now) == (expected, True), limit


def test_threads_and_cores_against_the_cgroup() -> None:
    assert status(Facts(pid=1, cgroup=Cgroup(pids=N.threads - 1)), "threads") is Status.TOO_SMALL
    assert status(Facts(pid=1, cgroup=Cgroup(pids=N.threads)), "threads") is Status.ADVISED
    assert status(Facts(pid=1, cgroup=Cgroup(pids=128)), "threads") is Status.FINE
    assert status(Facts(pid=1, processes=N.threads), "threads") is Status.ADVISED
    assert status(Facts(pid=1, cpus=4, cgroup=Cgroup(cpus=0.05)), "cpu") is Status.TOO_SMALL
    assert status(Facts(pid=1, cpus=4, cgroup=Cgroup(cpus=0.3)), "cpu") is Status.ADVISED
    assert status(Facts(pid=1, cpus=4), "cpu") is Status.FINE


def test_buffers_of_the_kernel_hold_a_page_a_session() -> None:
    assert status(sysctls(net__ipv4__tcp_mem="1 10000 20000"), "socket-memory") is Status.FINE
    verdict = found(sysctls(net__ipv4__tcp_mem="1 9999 20000"), "socket-memory").verdict
    assert verdict.change == Sysctl("net.ipv4.tcp_mem", "15360 20480 30720")
    small = replace(sysctls(net__ipv4__tcp_mem="1 9999 20000"), memory_bytes=256 * MIB)
    assert found(small, "socket-memory").verdict.change is None


def test_overcommit_matters_only_when_it_is_strict() -> None:
    assert status(sysctls(vm__overcommit_memory="0"), "overcommit") is Status.NOT_ADVISED
    strict = sysctls(vm__overcommit_memory="2")
    assert status(replace(strict, commit_left_bytes=2**32), "overcommit") is Status.FINE
    assert status(replace(strict, commit_left_bytes=2**20), "overcommit") is Status.TOO_SMALL


def test_a_backlog_below_ours_is_the_only_one_that_matters() -> None:
    assert status(sysctls(net__core__somaxconn="1024"), "listen-backlog") is Status.NOT_ADVISED
    assert status(sysctls(net__core__somaxconn="1023"), "listen-backlog") is Status.ADVISED
    assert network.ADMIN_BACKLOG == sockets.BACKLOG


def test_a_clock_that_nobody_keeps_is_told_and_one_that_cannot_be_asked_is_not_judged() -> None:
    assert status(Facts(pid=1, clock_synchronized=True), "clock") is Status.FINE
    assert status(Facts(pid=1, clock_synchronized=False), "clock") is Status.ADVISED
    assert status(Facts(pid=1, clock_synchronized=None), "clock") is Status.UNKNOWN
    there = found(Facts(pid=1, clock_synchronized=False, container="docker"), "clock")
    assert there.how.startswith("the clock is the host's")


# Who may change what


def test_root_on_a_host_may_change_all_that_is_advised(tmp_path: Path) -> None:
    narrow = {"net/ipv4/ip_local_port_range": "32768 40000", "fs/file-max": "5000"}
    it = report(replace(on_host(tmp_path, narrow), open_files=4096, is_root=True), N, "asked")
    assert [change for _, change in it.changes()] == [
        OpenFiles(13_312),
        Sysctl("fs.file-max", "29696"),
        Sysctl("net.ipv4.ip_local_port_range", "10240 65535"),
    ]


def test_a_container_is_told_where_each_thing_is_changed(tmp_path: Path) -> None:
    narrow = {"net/ipv4/ip_local_port_range": "32768 40000", "fs/file-max": "5000"}
    it = in_container(tmp_path, narrow)
    assert not list(report(it, N, "asked").changes())
    assert "--sysctl 'net.ipv4.ip_local_port_range=10240 65535'" in found(it, "ephemeral-ports").how
    assert "on the host, sysctl -w 'fs.file-max=" in found(it, "file-max").how
    assert "--ulimit nofile=" in found(it, "open-files").how
    buffers = replace(it, sysctls={**it.sysctls, "net.ipv4.tcp_mem": "1 2 3"})
    assert "on the host" in found(buffers, "socket-memory").how  # one for all containers
    pod = replace(it, container="kubernetes")
    assert "securityContext.sysctls" in found(pod, "ephemeral-ports").how


def test_a_plain_user_is_told_to_use_sudo(tmp_path: Path) -> None:
    narrow = {"net/ipv4/ip_local_port_range": "32768 40000"}
    it = replace(on_host(tmp_path, narrow), writable=frozenset(), is_root=False, open_files=4096)
    for name in ("ephemeral-ports", "open-files"):
        assert "sudo" in found(it, name).how
        assert found(it, name).to_json()["canChange"] is False


def test_an_etc_that_cannot_be_written_is_no_place_for_a_change(tmp_path: Path) -> None:
    it = on_host(tmp_path, {"net/ipv4/ip_local_port_range": "32768 40000"})
    it = replace(it, is_root=True, etc_writable=False, open_files=4096)
    assert not list(report(it, N, "asked").changes())


@settings(deadline=None)
@given(
    sessions=st.integers(1, 1_000_000),
    more=st.integers(0, 1_000_000),
    open_files=st.integers(1, 2_000_000),
    ports=st.integers(1, 60_000),
    memory=st.integers(1, 2**40),
)
def test_more_sessions_never_make_a_machine_better(
    sessions: int, more: int, open_files: int, ports: int, memory: int
) -> None:
    order = [Status.FINE, Status.NOT_ADVISED, Status.UNKNOWN, Status.ADVISED, Status.TOO_SMALL]
    it = Facts(
        pid=1,
        sysctls={
            "net.ipv4.ip_local_port_range": f"1024 {1024 + ports}",
            "net.ipv4.tcp_mem": "100 9000 20000",
        },
        open_files=open_files,
        memory_bytes=memory,
        writable=frozenset({"net.ipv4.ip_local_port_range"}),
        etc_writable=True,
        is_root=True,
    )
    few, many = report(it, Need(sessions), "asked"), report(it, Need(sessions + more), "asked")
    for before, after in zip(few.findings, many.findings, strict=True):
        assert order.index(before.verdict.status) <= order.index(after.verdict.status), before.check.name


@settings(deadline=None)
@given(
    sessions=st.integers(1, 200_000), open_files=st.integers(64, 300_000), high=st.integers(33_000, 65_535)
)
def test_what_is_advised_is_fine_once_it_is_done(sessions: int, open_files: int, high: int) -> None:
    """Advice that leads to more advice would never end."""
    it = Facts(
        pid=1,
        sysctls={
            "fs.file-max": "3000",
            "fs.file-nr": "1200 0 3000",
            "fs.nr_open": "4096",
            "net.core.somaxconn": "16",
            "net.ipv4.ip_local_port_range": f"32768 {high}",
            "net.ipv4.tcp_mem": "100 200 300",
            "net.netfilter.nf_conntrack_max": "1000",
            "net.netfilter.nf_conntrack_tcp_timeout_established": "30",
        },
        open_files=open_files,
        is_root=True,
        etc_writable=True,
    )
    it = replace(it, writable=frozenset(it.sysctls))
    for _, change in report(it, Need(sessions), "asked").changes():
        if isinstance(change, OpenFiles):
            it = replace(it, open_files=change.limit)
        else:
            it = replace(it, sysctls={**it.sysctls, change.name: change.value})
    assert not list(report(it, Need(sessions), "asked").changes())


# What is said elsewhere


def test_the_needs_are_those_of_the_settings() -> None:
    defaults, need = Settings(), Need(1)
    assert (need.admin_connections, need.dials, need.dials_per_s, need.worker_threads) == (
        defaults.admin_connections,
        defaults.connect_concurrency,
        defaults.connect_rate,
        defaults.worker_threads,
    )
    assert app.sessions_that_fit(N.descriptors, need.admin_connections) >= N.sessions


def test_the_figures_are_those_of_the_benches() -> None:
    def rows(name: str) -> list[dict[str, float]]:
        return list(json.loads((ROOT / f"bench/results/{name}.json").read_text())["rows"])

    idle = rows("idle_memory")
    slope = (idle[-1]["rss_bytes"] - idle[0]["rss_bytes"]) / (idle[-1]["n"] - idle[0]["n"])
    assert pytest.approx(slope, rel=0.05) == measured.SESSION_BYTES
    assert pytest.approx(idle[0]["rss_bytes"] - idle[0]["n"] * slope, rel=0.05) == measured.BASE_BYTES
    assert (
        pytest.approx(idle[-1]["cpu_of_one_core"] / idle[-1]["n"], rel=0.1) == measured.IDLE_CORES_PER_SESSION
    )
    tuned = json.loads((ROOT / "bench/results/tuning.json").read_text())["summary"]
    kernel = tuned["sockets"]["idle"]["kernel_bytes_per_socket"]
    assert kernel["least"] <= measured.KERNEL_SOCKET_BYTES <= kernel["greatest"]


def test_the_page_has_every_check_with_its_source() -> None:
    page = (ROOT / "docs/tuning.md").read_text()
    assert page == docs.document()
    for check in CHECKS:
        assert f"### {check.name}\n" in page
        assert check.source in page


def test_every_bench_that_a_source_names_has_a_result_with_that_part() -> None:
    tuned = json.loads((ROOT / "bench/results/tuning.json").read_text())["summary"]
    for check in CHECKS:
        if "bench/results/tuning.json, " in check.source:
            part = check.source.split("bench/results/tuning.json, ")[1].split(";")[0]
            assert part in tuned, check.name


def test_json_has_all_that_the_table_shows(tmp_path: Path) -> None:
    it: Report = report(in_container(tmp_path), N, "store")
    answer = json.loads(json.dumps(it.to_json()))
    assert (answer["sessions"], answer["sessionsFrom"], answer["container"]) == (10_000, "store", "docker")
    assert {
        "name", "setting", "status", "now", "advised", "why", "effect", "how", "source",
        "canChange", "whyNot",
    } == set(answer["findings"][0])  # fmt: skip
