"""The words of the advice: what N sessions need, what a check says, what a change would be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from runner.limits import OWN_FDS
from runner.tune import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.tune.facts import Facts

FIXED_THREADS: Final = 9
"""Main, runner-io, four resolvers, the store's writer, the log's writer, and one to spare."""


class Status(StrEnum):
    """How a setting stands."""

    FINE = "fine"
    ADVISED = "advised"
    TOO_SMALL = "too_small"
    NOT_ADVISED = "not_advised"
    UNKNOWN = "unknown"


MEANING: Final = {
    Status.FINE: "as it should be for this many sessions",
    Status.ADVISED: "works now; the change makes room, or takes a risk away",
    Status.TOO_SMALL: "this many sessions do not fit",
    Status.NOT_ADVISED: "often recommended; here measured or known to change nothing",
    Status.UNKNOWN: "cannot be seen from here",
}


@dataclass(frozen=True, slots=True)
class Need:
    """What is to be served. The defaults are those of the settings."""

    sessions: int
    admin_connections: int = 256
    dials: int = 50
    dials_per_s: float = 10.0
    worker_threads: int = 40

    @property
    def descriptors(self) -> int:
        """One a session; a dial races two addresses; the admin API; our own."""
        return self.sessions + self.dials + self.admin_connections + OWN_FDS

    @property
    def memory_bytes(self) -> int:
        """Resident memory with all sessions idle and online, by the measured slope."""
        return measured.BASE_BYTES + self.sessions * measured.SESSION_BYTES

    @property
    def kernel_bytes(self) -> int:
        """What the kernel keeps for the sockets; it counts against a cgroup's limit."""
        return self.sessions * measured.KERNEL_SOCKET_BYTES

    @property
    def threads(self) -> int:
        """Most threads at a time."""
        return FIXED_THREADS + self.worker_threads

    @property
    def cores(self) -> float:
        """Idle keep-alives, and the dial limiter at work."""
        return self.sessions * measured.IDLE_CORES_PER_SESSION + self.dials_per_s * measured.CPU_PER_LOGIN_S


@dataclass(frozen=True, slots=True)
class Sysctl:
    """Write a kernel setting, now and for the next boot."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """Raise the hard limit of open files for logins and for the service; counts from the next start on."""

    limit: int


Change = Sysctl | OpenFiles


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found. `effect` says what it means for the sessions wanted."""

    status: Status
    now: str
    effect: str
    advised: str | None = None
    change: Change | None = None
    elsewhere: str = ""
    """How to change it where it can be changed, when it is nothing that `--apply` does."""


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table."""

    name: str
    setting: str
    why: str
    source: str
    judge: Callable[[Facts, Need], Verdict]


def unknown(effect: str) -> Verdict:
    """The value cannot be read."""
    return Verdict(Status.UNKNOWN, "-", effect)


def round_up(number: float, step: int) -> int:
    """The next multiple of `step`."""
    return int(-(-number // step) * step)


def mib(count: float) -> str:
    """Bytes as whole MiB, or GiB with one digit."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
