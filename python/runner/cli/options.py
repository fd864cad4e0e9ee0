"""What the commands share: settings, the connection to the runner, and how errors end a command."""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from runner import config
from runner.cli import exits
from runner.errors import RunnerError

P = ParamSpec("P")
T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.admin.client import Client
    from runner.config import Settings

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
session_id = click.argument("session_id", metavar="ID")


def settings() -> Settings:
    """The settings of this environment."""
    return config.load(os.environ)


def connect(timeout_s: float = 10.0) -> Client:
    """A client of the runner that these settings mean; `timeout_s` is for one answer."""
    from runner.admin.client import Client

    return Client(settings().socket_path, timeout_s)


def show_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value) + "\n")


def ends_well(command: Callable[P, T]) -> Callable[P, T]:
    """Turn an error of ours into a line on stderr and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except RunnerError as error:
            exits.tell(error, as_json=bool(kwargs.get("as_json")))
            raise SystemExit(exits.exit_code(error)) from None
        except BrokenPipeError:  # `… | head`
            sys.stderr.close()
            raise SystemExit(exits.Exit.DONE) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None

    return wrapped
