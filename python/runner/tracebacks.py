"""Tracebacks that no log line tells: of the process, of a thread, of what is collected; redacted like lines.

An exception may carry what it failed on: a URL with its password, a key, a number. Python itself would write
all of it to stderr.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


def redact_tracebacks(redact: Callable[[str], str]) -> None:
    """From now on, in the whole process."""

    def write(
        heading: str,
        kind: type[BaseException],
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import traceback

        if sys.stderr is None:
            return
        told = heading + "".join(traceback.format_exception(kind, error, trace))
        try:
            sys.stderr.write(redact(told))
            sys.stderr.flush()
        except (OSError, ValueError):
            pass  # stderr is gone: there is nobody to tell

    def of_thread(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread is not None else "unknown"
        if args.exc_type is not SystemExit:
            write(f"Exception in thread {name}:\n", args.exc_type, args.exc_value, args.exc_traceback)

    def of_what_is_collected(args: sys.UnraisableHookArgs) -> None:
        what = args.err_msg or "Exception ignored"
        write(f"{what} in {args.object!r}:\n", args.exc_type, args.exc_value, args.exc_traceback)

    sys.excepthook = lambda kind, error, trace: write("", kind, error, trace)
    threading.excepthook = of_thread
    sys.unraisablehook = of_what_is_collected
