"""One call of the user's handler: what it raises, or that it does not end, touches its message only."""

from __future__ import annotations

import sysconfig
import traceback
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from runner.application import Handler
    from runner.message import Message, Session


_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


async def call(handler: Handler, session: Session, message: Message) -> str | None:
    """None when it returned, else what went wrong: kinds of errors and places, no message text.

    Errors: Cancelled only, when we are.
    """
    try:
        await handler(session, message)
    except (Exception, SystemExit) as error:  # the user's code, whatever it does
        return described(error)
    except BaseExceptionGroup as group:
        ours, theirs = group.split((trio.Cancelled, KeyboardInterrupt))
        if ours is not None:
            raise ours from None  # alone: the user's errors are not for whoever cancels us
        return described(theirs or group)
    return None


def described(error: BaseException) -> str:
    """Kind and place of an error. What it says stays out: it may quote the message."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [it for it in frames if not it.filename.startswith(_LIBRARIES)]
    at = theirs[-1] if theirs else None
    place = f" at {at.filename.rpartition('/')[2]}:{at.lineno} in {at.name}" if at else ""
    return f"{type(error).__name__}{place}"
