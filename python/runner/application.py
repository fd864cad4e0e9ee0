"""The user's side: an `App` holds the handler, and `python -m runner run MODULE:NAME` finds it.

    from runner import App, Message, Session

    app = App()

    @app.on_message
    async def print_it(session: Session, message: Message) -> None:
        print(session.id, message.text)

Nothing of the runner is loaded by this; it runs only under `python -m runner`.
"""

from __future__ import annotations

import sys
import sysconfig
import traceback
from importlib import import_module
from inspect import iscoroutinefunction, signature
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner.config_kinds import did_you_mean
from runner.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runner.message import Message, Session

    Handler = Callable[[Session, Message], Awaitable[None]]

_NOT_THEIRS: Final = (
    "<frozen",
    str(Path(__file__).parent),
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)
"""Where files begin that are not the user's code: Python's, ours, what was installed."""


class App:
    """What is done with the messages of all sessions."""

    def __init__(self) -> None:
        self.handler: Handler | None = None
        self.reference: str | None = None
        """What it was found by on the command line, `MODULE:NAME`; None: by the settings."""

    def on_message(self, handler: Handler) -> Handler:
        """Decorator: call this for every message, on Trio.

        Messages of one chat come one after the other, chats side by side. A message counts as handled when
        the handler returns; when it raises or takes too long it is given again, a few times, and then kept
        as a dead letter. The same message may come twice: after a crash between the end of a handler and
        the note that it ended.

        Errors: TypeError for what is no `async def` with two parameters, or for a second handler.
        """
        if not iscoroutinefunction(handler):
            raise TypeError(f"on_message needs an async function, and {_name(handler)} is none")
        try:
            signature(handler).bind(None, None)
        except TypeError:
            raise TypeError(
                f"on_message needs a function of two, (session, message), and {_name(handler)} takes"
                f" {signature(handler)}"
            ) from None
        if self.handler is not None:
            raise TypeError(f"on_message is taken by {_name(self.handler)}; an app has one handler")
        self.handler = handler
        return handler


def _name(it: object) -> str:
    return getattr(it, "__qualname__", repr(it))


def load_app(reference: str) -> App:
    """The `App` that `MODULE:NAME` means; the current directory is looked in first. Runs the module.

    Errors: ConfigError that says what is wrong with it.
    """
    module_name, colon, attribute = reference.partition(":")
    if not (module_name and colon and attribute):
        raise ConfigError([f"the app {reference!r} is not MODULE:NAME, such as my_app:app"])
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError([f"{module_name} does not import: {error}"]) from error
        hint = f"; did you mean {named}:{attribute}?" if (named := _as_a_module(module_name)) else ""
        raise ConfigError(
            [f"there is no module {module_name!r} in {here} or on the Python path{hint}"]
        ) from error
    except (Exception, SystemExit) as error:  # the user's code, whatever it does
        raise ConfigError(
            [f"{module_name} does not import: {type(error).__name__}: {error}{_where(error)}"]
        ) from error
    app = getattr(module, attribute, None)
    if app is None:
        names = [name for name, it in vars(module).items() if isinstance(it, App)]
        hint = f"; did you mean {names[0]}?" if names else did_you_mean(attribute, vars(module))
        raise ConfigError([f"{module_name} has no {attribute!r}{hint}"])
    if not isinstance(app, App):
        raise ConfigError([f"{reference} is no App but {type(app).__name__}; make one with runner.App()"])
    if app.handler is None:
        raise ConfigError(
            [f"{reference} has no handler: put @{attribute}.on_message before an async function"]
        )
    return app


def _as_a_module(path: str) -> str | None:
    """`bots.shop` for `bots/shop.py`, where that file is."""
    return (
        path.removesuffix(".py").replace("/", ".") if path.endswith(".py") and Path(path).is_file() else None
    )


def _where(error: BaseException) -> str:
    """The line of the user's code that it came from; for a syntax error it is in the message already."""
    at = None if isinstance(error, SyntaxError) else users_line(error)
    return f" ({at.filename}, line {at.lineno})" if at else ""


def users_line(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost line of the user's own code that an error went through, if there is one."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((it for it in reversed(frames) if not it.filename.startswith(_NOT_THEIRS)), None)
