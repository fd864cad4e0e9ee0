"""The process: threads, CPU, Python's collector, and the clock it goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runner.tune import measured
from runner.tune.finding import Check, Need, Status, Verdict, round_up, unknown

if TYPE_CHECKING:
    from runner.tune.facts import Facts


def _threads(facts: Facts, need: Need) -> Verdict:
    limits = [limit for limit in (facts.cgroup.pids, facts.processes) if limit is not None]
    effect = f"{need.threads} threads at most, however many sessions"
    if not limits:
        return Verdict(Status.FINE, "no limit", effect)
    least = min(limits)
    wanted = round_up(2 * need.threads, 64)
    if least >= wanted:
        return Verdict(Status.FINE, f"{least:,}", effect)
    where = "systemd: TasksMax=; limits.conf: nproc"
    if facts.container:
        where = "docker run --pids-limit; Kubernetes: podPidsLimit of the kubelet"
    status = Status.ADVISED if least >= need.threads else Status.TOO_SMALL
    return Verdict(status, f"{least:,}", effect, f"{wanted}", elsewhere=where)


def _cores(facts: Facts, need: Need) -> Verdict:
    quota = facts.cgroup.cpus
    have = facts.cpus if quota is None else min(quota, facts.cpus)
    now = f"{have:g} ({'host' if quota is None else 'cgroup'})"
    effect = (
        f"{need.cores:.2f} of a core: {need.sessions * measured.IDLE_CORES_PER_SESSION:.2f} for keep-alives, "
        f"the rest while {need.dials_per_s:g} a second log in"
    )
    wanted = max(2 * need.cores, 0.5)
    if have >= wanted:
        return Verdict(Status.FINE, now, effect)
    where = "docker run --cpus; systemd: CPUQuota=; Kubernetes: resources.limits.cpu"
    status = Status.ADVISED if have >= need.cores else Status.TOO_SMALL
    return Verdict(status, now, effect, f"{wanted:.1f}", elsewhere=where)


def _io_thread(_facts: Facts, need: Need) -> Verdict:
    share = need.sessions * measured.IDLE_CORES_PER_SESSION
    effect = f"{need.sessions:,} idle sessions keep it busy for {100 * share:.1f} % of its time"
    if share < 0.5:
        return Verdict(Status.FINE, "1, fixed", effect)
    return Verdict(Status.ADVISED, "1, fixed", effect, "a second runner", elsewhere="share out the sessions")


def _worker_threads(_facts: Facts, need: Need) -> Verdict:
    return Verdict(Status.FINE, f"{need.worker_threads} (runner)", measured.WORKER_THREADS)


def _thresholds(_facts: Facts, _need: Need) -> Verdict:
    return Verdict(Status.NOT_ADVISED, "Python's own", measured.GC_THRESHOLDS)


def _freeze(_facts: Facts, _need: Need) -> Verdict:
    return Verdict(Status.FINE, "by the runner", measured.GC_FREEZE)


def _clock(facts: Facts, _need: Need) -> Verdict:
    kept = facts.clock_synchronized
    keeper = f" ({facts.clock_keeper})" if facts.clock_keeper else ""
    effect = "a clock that is off makes good certificates look expired, and every login fail"
    if kept is None:
        return unknown(effect)
    if kept:
        return Verdict(Status.FINE, f"synchronized{keeper}", effect)
    where = "apt install systemd-timesyncd (or chrony), then timedatectl set-ntp true"
    if facts.container:
        where = f"the clock is the host's; there: {where}"
    return Verdict(Status.ADVISED, "not synchronized", effect, "synchronized", elsewhere=where)


CHECKS: Final = (
    Check(
        "threads",
        "pids.max, RLIMIT_NPROC",
        "A cgroup counts threads as processes. The runner has no thread a session.",
        "kernel: Documentation/admin-guide/cgroup-v1/pids.rst; getrlimit(2)",
        _threads,
    ),
    Check(
        "cpu",
        "cpu.max",
        "A quota is a pause: when it is used up, every session waits for the next period, pings too.",
        "measured: bench/results/idle_memory.json, connect_storm.json; "
        "kernel: Documentation/scheduler/sched-bwc.rst",
        _cores,
    ),
    Check(
        "io-thread",
        "I/O threads",
        "One thread serves all sockets and one writes the store; more would wait for each other.",
        "measured: bench/results/idle_memory.json; docs/decisions/0004-io-loop.md",
        _io_thread,
    ),
    Check(
        "worker-threads",
        "WHATSAPP_WORKER_THREADS",
        "Trio hands what blocks (imports, archiving, reading the version, this advice) to threads, 40 "
        "at a time if "
        "nobody says otherwise.",
        "measured: bench/results/tuning.json, threads; trio: to_thread.current_default_thread_limiter",
        _worker_threads,
    ),
    Check(
        "gc-thresholds",
        "gc.set_threshold",
        "Python looks for cycles after 700 new objects. Recommended is to make it look less often.",
        "measured: bench/results/tuning.json, gc",
        _thresholds,
    ),
    Check(
        "gc-freeze",
        "gc.freeze",
        "What is there after the start stays; a full collection need not look at it again.",
        "measured: bench/results/tuning.json, gc",
        _freeze,
    ),
    Check(
        "clock",
        "adjtimex, NTP",
        "TLS and WhatsApp's own certificates have windows of validity, and a ban has an end on the "
        "wall clock.",
        "adjtimex(2), STA_UNSYNC; timedatectl(1)",
        _clock,
    ),
)
