"""TCP: N connections outwards, to one service, mostly idle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runner.tune import measured
from runner.tune.finding import Check, Need, Status, Sysctl, Verdict, mib, round_up, unknown

if TYPE_CHECKING:
    from runner.tune.facts import Facts

WIDE_PORTS: Final = (10_240, 65_535)
"""As far as it goes without reaching into the ports where services listen, ours on 4001 among them."""
ADMIN_BACKLOG: Final = 1024
"""What the admin API asks of listen(2): `runner.admin.sockets.BACKLOG`."""
LONGEST_PING_S: Final = 20
"""The default `WHATSAPP_KEEPALIVE_MAX`."""


def _ports(facts: Facts, need: Need) -> Verdict:
    name = "net.ipv4.ip_local_port_range"
    words = facts.words(name)
    if words is None or len(words) != 2:
        return unknown("ports for outgoing connections")
    low, high = words
    have = high - low + 1 - _reserved(facts.sysctls.get("net.ipv4.ip_local_reserved_ports", ""), low, high)
    now = f"{low} {high}"
    twice = 2 * need.sessions
    effect = f"{have:,} ports; {need.sessions:,} in use, up to {twice:,} within a minute of a restart"
    if have >= twice:
        return Verdict(Status.FINE, now, effect)
    fits = have >= need.sessions + need.dials
    status = Status.ADVISED if fits else Status.TOO_SMALL
    if low <= WIDE_PORTS[0] and high >= WIDE_PORTS[1]:
        remedy = "give the machine another source address, or spread the sessions over proxies"
        return Verdict(status, now, f"{effect}; one source address has no more", elsewhere=remedy)
    value = f"{min(low, WIDE_PORTS[0])} {WIDE_PORTS[1]}"
    return Verdict(status, now, effect, value, Sysctl(name, value))


def _reserved(text: str, low: int, high: int) -> int:
    """How many of the ports from `low` to `high` are in a list like `4001,8080-8090`."""
    count = 0
    for part in filter(None, text.replace(" ", "").split(",")):
        first, _, last = part.partition("-")
        if first.isdigit():
            end = int(last) if last.isdigit() else int(first)
            count += max(min(end, high) - max(int(first), low) + 1, 0)
    return count


def _keepalive(facts: Facts, _need: Need) -> Verdict:
    time_s = facts.number("net.ipv4.tcp_keepalive_time")
    return Verdict(
        Status.NOT_ADVISED,
        "-" if time_s is None else f"{time_s} s",
        "none: the runner pings each session every 15 to 20 s and ends a silent one after 12 s; "
        "unacknowledged "
        "bytes end it after 30 s (TCP_USER_TIMEOUT, set on every socket)",
    )


def _socket_memory(facts: Facts, need: Need) -> Verdict:
    words = facts.words("net.ipv4.tcp_mem")
    if words is None or len(words) != 3:
        return unknown("memory for TCP buffers")
    now = f"{mib(words[1] * facts.page_bytes)} (pressure)"
    effect = (
        f"idle: {mib(need.kernel_bytes)} of kernel memory, no buffer; all receiving at once: a page each, "
        f"{mib(need.sessions * facts.page_bytes)}"
    )
    if words[1] >= need.sessions:
        return Verdict(Status.FINE, now, effect)
    pressure = round_up(2 * need.sessions, 1024)
    value = f"{pressure * 3 // 4} {pressure} {pressure * 3 // 2}"
    if facts.memory_bytes is not None and pressure * facts.page_bytes > facts.memory_bytes // 4:
        return Verdict(
            Status.TOO_SMALL, now, effect, elsewhere="more memory: buffers would take a quarter of it"
        )
    advised = f"{mib(pressure * facts.page_bytes)} ({value})"
    return Verdict(Status.ADVISED, now, effect, advised, Sysctl("net.ipv4.tcp_mem", value))


def _buffer_sizes(facts: Facts, _need: Need) -> Verdict:
    read, write = facts.words("net.ipv4.tcp_rmem"), facts.words("net.ipv4.tcp_wmem")
    now = f"{_bytes(read)} / {_bytes(write)}" if read and write else "-"
    effect = (
        "none: an idle socket holds no buffer, measured, and costs "
        f"{measured.KERNEL_SOCKET_BYTES:,} B of kernel memory beside"
    )
    return Verdict(Status.NOT_ADVISED, now, effect)


def _bytes(words: tuple[int, ...]) -> str:
    return mib(words[-1])


def _backlog(facts: Facts, _need: Need) -> Verdict:
    most = facts.number("net.core.somaxconn")
    if most is None:
        return unknown("callers of the admin API that wait to be accepted")
    if most < ADMIN_BACKLOG:
        change = Sysctl("net.core.somaxconn", "4096")
        effect = f"sessions dial out and never listen; the admin API wants a queue of {ADMIN_BACKLOG}"
        return Verdict(Status.ADVISED, str(most), effect, "4096", change)
    effect = (
        f"none: sessions dial out and never listen; only the admin API does, with a queue of {ADMIN_BACKLOG}"
    )
    return Verdict(Status.NOT_ADVISED, str(most), effect)


def _conntrack(facts: Facts, need: Need) -> Verdict:
    most = facts.number("net.netfilter.nf_conntrack_max")
    if most is None:
        where = "; the host's own table counts for a container behind NAT" if facts.container else ""
        return Verdict(Status.FINE, "not loaded", f"nothing is tracked here{where}")
    taken = facts.number("net.netfilter.nf_conntrack_count") or 0
    wanted = taken + 2 * need.sessions
    effect = f"{need.sessions:,} entries, up to twice that for two minutes after a restart"
    if most >= wanted:
        return Verdict(Status.FINE, f"{most:,}", effect)
    fits = most >= taken + need.sessions
    advised = max(round_up(2 * wanted, 65_536), 262_144)
    return Verdict(
        Status.ADVISED if fits else Status.TOO_SMALL,
        f"{most:,}",
        effect if fits else f"{effect}: new connections would be dropped in silence",
        f"{advised:,}",
        Sysctl("net.netfilter.nf_conntrack_max", str(advised)),
    )


def _conntrack_timeout(facts: Facts, _need: Need) -> Verdict:
    name = "net.netfilter.nf_conntrack_tcp_timeout_established"
    timeout_s = facts.number(name)
    if timeout_s is None:
        return Verdict(Status.FINE, "not loaded", "nothing is tracked here")
    effect = f"must outlast the longest ping interval, {LONGEST_PING_S} s"
    if timeout_s >= 2 * LONGEST_PING_S:
        return Verdict(Status.FINE, f"{timeout_s} s", effect)
    return Verdict(
        Status.ADVISED, f"{timeout_s} s", f"{effect}: idle sessions are cut", "3600 s", Sysctl(name, "3600")
    )


def _time_wait(facts: Facts, _need: Need) -> Verdict:
    now = facts.sysctls.get("net.ipv4.tcp_tw_reuse", "-")
    effect = "none while the range above holds every session twice"
    return Verdict(Status.NOT_ADVISED, now, effect)


def _slow_start(facts: Facts, _need: Need) -> Verdict:
    now = facts.sysctls.get("net.ipv4.tcp_slow_start_after_idle", "-")
    effect = "none: a ping or a receipt fits into the first of the ten segments that slow start begins with"
    return Verdict(Status.NOT_ADVISED, now, effect)


_IP_SYSCTL: Final = "kernel: Documentation/networking/ip-sysctl.rst"
_CONNTRACK: Final = "kernel: Documentation/networking/nf_conntrack-sysctl.rst"

CHECKS: Final = (
    Check(
        "ephemeral-ports",
        "net.ipv4.ip_local_port_range",
        "All sessions go to one service, or through one proxy: each needs a local port of its own for "
        "one and the "
        "same destination. Ports that were closed from here stay taken for 60 s.",
        f"{_IP_SYSCTL}, ip_local_port_range; ip(7)",
        _ports,
    ),
    Check(
        "tcp-keepalive",
        "net.ipv4.tcp_keepalive_*",
        "TCP's own keep-alive proves that a kernel answers, not that WhatsApp does. The runner never "
        "switches it "
        "on, so its times change nothing.",
        "tcp(7), SO_KEEPALIVE and TCP_USER_TIMEOUT; measured: bench/results/soak.json, zombies",
        _keepalive,
    ),
    Check(
        "socket-memory",
        "net.ipv4.tcp_mem",
        "The kernel's limit for the TCP buffers of the whole machine. Above the middle one it makes "
        "every window "
        "small, and sessions crawl.",
        f"measured: bench/results/tuning.json, sockets; {_IP_SYSCTL}, tcp_mem",
        _socket_memory,
    ),
    Check(
        "socket-buffers",
        "net.ipv4.tcp_rmem / tcp_wmem",
        "Lists of tuning tips raise them for bulk transfers over long lines. A session sends a few "
        "hundred bytes.",
        f"measured: bench/results/tuning.json, sockets; {_IP_SYSCTL}, tcp_rmem",
        _buffer_sizes,
    ),
    Check(
        "listen-backlog",
        "net.core.somaxconn",
        "The queue of connections that come in and wait for accept(2). Outgoing ones never pass it, nor "
        "tcp_max_syn_backlog.",
        f"listen(2); {_IP_SYSCTL}, somaxconn",
        _backlog,
    ),
    Check(
        "conntrack",
        "net.netfilter.nf_conntrack_max",
        "A firewall or NAT on this machine tracks every connection. A full table drops new ones "
        "without a word to "
        "the runner.",
        f"{_CONNTRACK}, nf_conntrack_max",
        _conntrack,
    ),
    Check(
        "conntrack-timeout",
        "net.netfilter.nf_conntrack_tcp_timeout_established",
        "A tracked connection that is silent for longer is forgotten, and its next packet goes nowhere.",
        f"{_CONNTRACK}, nf_conntrack_tcp_timeout_established",
        _conntrack_timeout,
    ),
    Check(
        "time-wait",
        "net.ipv4.tcp_tw_reuse",
        "Recommended against TIME_WAIT. What helps when ports are short is a wider range, above.",
        f"{_IP_SYSCTL}, tcp_tw_reuse",
        _time_wait,
    ),
    Check(
        "slow-start",
        "net.ipv4.tcp_slow_start_after_idle",
        "Recommended for connections that idle. It matters to those that then send more than ten "
        "segments at once.",
        f"{_IP_SYSCTL}, tcp_slow_start_after_idle; RFC 6928",
        _slow_start,
    ),
)
