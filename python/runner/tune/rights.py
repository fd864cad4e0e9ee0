"""Who may make a change, and where it can be made instead. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runner.tune.finding import OpenFiles, Sysctl, Verdict

if TYPE_CHECKING:
    from runner.tune.facts import Facts
    from runner.tune.finding import Change

_IN_NAMESPACE: Final = frozenset(
    {
        "net.core.somaxconn",
        "net.ipv4.ip_local_port_range",
        "net.netfilter.nf_conntrack_tcp_timeout_established",
    }
)
"""What a container has of its own, so that whoever starts it can set it; tcp_mem is none of them."""
_NOT_ROOT: Final = "only root may change it"
_SUDO: Final = "sudo python -m runner tune --sessions {} --apply"


def why_not(change: Change, facts: Facts) -> str:
    """Why this user cannot make the change here, and where to make it; empty when nothing is in the way."""
    if isinstance(change, OpenFiles):
        return _why_no_files(change, facts)
    if change.name in facts.writable:
        return "" if facts.etc_writable else "/etc cannot be written: it would be gone at the next boot"
    if facts.container:
        return _outside(change, facts.container)
    if not facts.is_root:
        return _NOT_ROOT
    return f"the kernel refuses: {change.name} is read-only here, even for root"


def how(verdict: Verdict, facts: Facts, sessions: int) -> str:
    """What to type, for a finding that is advised. With the number, since sudo drops the environment."""
    if verdict.change is None:
        return verdict.elsewhere
    refused = why_not(verdict.change, facts)
    if not refused:
        return f"{_SUDO.format(sessions)}, or by hand: {by_hand(verdict.change)}"
    if refused == _NOT_ROOT:
        return _SUDO.format(sessions)
    return verdict.elsewhere or refused


def by_hand(change: Change) -> str:
    """The same without us."""
    if isinstance(change, Sysctl):
        return f"sysctl -w '{change.name}={change.value}'"
    return f"LimitNOFILE={change.limit} in the service, nofile {change.limit} in limits.conf"


def _why_no_files(change: OpenFiles, facts: Facts) -> str:
    if facts.container and not facts.systemd:
        limit = change.limit
        return f"in this container ({facts.container}) start it with --ulimit nofile={limit}:{limit}"
    if not facts.is_root:
        return _NOT_ROOT
    return "" if facts.etc_writable else "/etc cannot be written"


def _outside(change: Sysctl, container: str) -> str:
    setting = f"{change.name}={change.value}"
    if change.name in _IN_NAMESPACE:
        if container == "kubernetes":
            return f"in this container (kubernetes): securityContext.sysctls of the pod, {setting}"
        return f"in this container ({container}): start it with --sysctl '{setting}'"
    return f"in this container ({container}) it cannot be changed: on the host, sysctl -w '{setting}'"
