"""The exit codes of `python -m runner`, and how an error becomes one."""

from __future__ import annotations

import json
import sys
from enum import IntEnum

from runner.errors import (
    AdminError,
    ConfigError,
    ImportRefusedError,
    LeaseError,
    NotRunningError,
    RefusedError,
    RunnerError,
    UnknownSessionError,
)


class Exit(IntEnum):
    """What a script can go by. The comments are the help text."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    UNKNOWN_SESSION = 4
    REFUSED = 5
    HELD = 6
    NOT_READY = 7
    TOO_SMALL = 8
    NOT_ALLOWED = 9
    ENGINE_FAILED = 70
    NOT_REPLACED = 75


MEANING = {
    Exit.DONE: "done",
    Exit.FAILED: "the command failed, the message says why; `tune --check`: something is advised",
    Exit.USAGE: "wrong usage or wrong settings",
    Exit.NOT_RUNNING: "no runner answers on the admin socket",
    Exit.UNKNOWN_SESSION: "no session has that id",
    Exit.REFUSED: "refused, with the reason (`reconnect --override` goes on)",
    Exit.HELD: "the store or the socket is held by another runner",
    Exit.NOT_READY: "`status --check`: the runner is not ready",
    Exit.TOO_SMALL: "`tune --check`: so many sessions do not fit",
    Exit.NOT_ALLOWED: "`tune --apply`, `--undo`: nothing could be changed here; it says where it can",
    Exit.ENGINE_FAILED: "the engine died; restart the process",
    Exit.NOT_REPLACED: "a restart stopped everything and could not execute the new process; start it again",
}


def exit_code(error: RunnerError) -> Exit:
    """The exit code of an error."""
    if isinstance(error, AdminError):
        return _of_status(error.status)
    for kind, code in (
        (ConfigError, Exit.USAGE),
        (NotRunningError, Exit.NOT_RUNNING),
        (UnknownSessionError, Exit.UNKNOWN_SESSION),
        (RefusedError, Exit.REFUSED),
        (LeaseError, Exit.HELD),
        (ImportRefusedError, Exit.FAILED),
    ):
        if isinstance(error, kind):
            return code
    return Exit.FAILED


def _of_status(status: int) -> Exit:
    return {404: Exit.UNKNOWN_SESSION, 409: Exit.REFUSED, 422: Exit.USAGE}.get(status, Exit.FAILED)


def tell(error: RunnerError, *, as_json: bool = False) -> None:
    """Write an error to stderr: a line for each problem, never a traceback."""
    if as_json:
        reason = getattr(error, "reason", None)
        said = {
            "error": error.error if isinstance(error, AdminError) else error.slug,
            "message": str(error),
            **({"reason": reason} if reason else {}),
            **({"remedy": error.remedy} if error.remedy else {}),
        }
        print(json.dumps(said), file=sys.stderr)
        return
    for problem in error.problems if isinstance(error, ConfigError) else (str(error),):
        print(f"error: {problem}", file=sys.stderr)
    if error.remedy:
        print(f"remedy: {error.remedy}", file=sys.stderr)
