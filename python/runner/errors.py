"""Every error of the Python side, split by whose fault it is and by what the operator does about it.

What the network does is never an exception: it arrives as an event with a close reason (docs/boundary.md).
Messages are lower case and name the culprit; `slug` is stable and is what scripts and dashboards match on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class RunnerError(Exception):
    """Root of what a caller may handle. `EngineFailedError` stands outside on purpose."""

    slug: ClassVar[str] = "runner_error"
    remedy: str = ""
    """What the operator can do, or nothing when the message says it all."""


class ConfigError(RunnerError):
    """Settings that cannot be used: all that is wrong, at once. Exit code 2, no traceback."""

    slug = "settings_wrong"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class StartError(RunnerError):
    """Something on this machine keeps the runner from starting; the operator can change it. Exit code 1."""

    slug = "cannot_start"

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class LeaseError(RunnerError):
    """Two owners want the same thing."""

    slug = "lease"


class LeaseHeldError(LeaseError):
    """Another process holds the store or the admin socket. Exit code 6."""

    slug = "held_by_another_runner"

    def __init__(self, what: str, holder: str = "another runner") -> None:
        super().__init__(f"{what} is held by {holder}")
        self.remedy = "stop the other runner, or give this one its own WHATSAPP_DATA_DIR"


class LeaseLostError(LeaseError):
    """What was held is held no longer; whoever notices stops at once."""

    slug = "lease_lost"


class MisuseError(RunnerError):
    """The caller broke the contract: our bug from inside, a 404 or 409 from the admin API."""

    slug = "misuse"


class UnknownSessionError(MisuseError):
    """No session has this id."""

    slug = "unknown_session"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"no session is called {session_id!r}")
        self.session_id = session_id
        self.remedy = "list the ids with: python -m runner sessions"


class IllegalTransitionError(MisuseError):
    """A session cannot do this from the state it is in."""

    slug = "illegal_transition"

    def __init__(self, state: object, event: object) -> None:
        super().__init__(f"{event!r} is not possible in state {state!r}")
        self.state = state
        self.event = event


class RefusedError(RunnerError):
    """A request that is understood and not carried out, because it could cost a number. Becomes a 409.

    `reason` is the close reason or state that stands in the way (`failure_logged_out`, `stream_replaced` …).
    """

    slug = "refused"

    def __init__(self, reason: str, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.remedy = remedy


class RateLimitedError(RunnerError):
    """A request that may come again, later. Nothing was done. Becomes a 429 with `Retry-After`."""

    slug = "rate_limited"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = max(1, round(retry_after_s))
        self.remedy = f"try again in {self.retry_after_s} s"


class SendError(RunnerError):
    """A message that is not known to be sent.

    `reason` is why: `not_online`, `busy`, `not_a_user`, `empty`, `too_long`, `unknown_user`, `unknown_group`,
    `not_a_member`, `admins_only`, `group_too_large`, `no_answer`, `store_failed`, `unconfirmed`,
    `restricted`, `refused` (`code` is the server's number), `id_taken`. docs/app.md lists what to do about
    each.
    """

    slug = "not_sent"

    def __init__(
        self,
        reason: str,
        message: str,
        remedy: str = "",
        *,
        code: int | None = None,
        may_have_arrived: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.remedy = remedy
        self.code = code
        self.may_have_arrived = may_have_arrived
        """Whether it left, so that sending it again under another id could double it."""


class ImportRefusedError(RunnerError):
    """Credentials that cannot be taken over: damaged, incomplete, or the id is taken. Nothing was changed."""

    slug = "import_refused"

    def __init__(self, kind: str, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.remedy = remedy


class WebhookWrongError(RunnerError):
    """A webhook that cannot be used; the message names the field. Nothing was changed. Becomes a 422."""

    slug = "webhook_wrong"

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class StoreFailedError(RunnerError):
    """The store could not do what was asked: a full or failing disk. Nothing was changed. Becomes a 503."""

    slug = "store_failed"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.remedy = "free some space or mend the disk, then try again; GET /health shows the store"


class AdminError(RunnerError):
    """An answer of the admin API that is not a success: becomes the JSON body `{error, message, remedy}`."""

    def __init__(
        self,
        status: int,
        slug: str,
        message: str,
        remedy: str = "",
        reason: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = slug
        self.message = message
        self.remedy = remedy
        self.reason = reason
        self.headers = headers or {}


class NotRunningError(RunnerError):
    """No runner answers on the admin socket. Exit code 3 of the commands that need one."""

    slug = "not_running"

    def __init__(self, socket_path: object, why: str) -> None:
        super().__init__(f"no runner answers on {socket_path}: {why}")
        self.remedy = "start one with: python -m runner"


class EngineFailedError(Exception):
    """The engine died. Outside `RunnerError`, so that no handler catches it by accident: exit code 70."""
