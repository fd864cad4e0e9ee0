"""One call of the user's handler: what it raises, or that it does not end, touches its message only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from runner.application import users_line

if TYPE_CHECKING:
    from runner.application import Handler
    from runner.message import Message, Session


async def call(handler: Handler, session: Session, message: Message) -> str | None:
    """None when it returned, else what went wrong: kinds of errors and places, no message text.

    Errors: Cancelled only, when we are.
    """
    try:
        await handler(session, message)
    except (trio.Cancelled, GeneratorExit):
        raise
    except BaseExceptionGroup as group:
        ours, theirs = group.split(trio.Cancelled)
        if ours is not None:
            raise ours from None  # alone: the user's errors are not for whoever cancels us
        return described(theirs or group)
    except BaseException as error:  # the user's code, whatever it does; Ctrl-C comes as a signal, not as this
        return described(error)
    return None


def described(error: BaseException) -> str:
    """Kind and place of an error. What it says stays out: it may quote the message."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    at = users_line(error)
    place = f" at {at.filename.rpartition('/')[2]}:{at.lineno} in {at.name}" if at else ""
    return f"{type(error).__name__}{place}"
