"""What goes from one process to the next: locks that are never let go, listeners that never refuse."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runner.admin.sockets import SocketLock
from runner.cli.exits import Exit
from runner.config import Settings
from runner.errors import LeaseHeldError, StartError
from runner.handover import (
    EXIT_NOT_REPLACED,
    VARIABLE,
    Door,
    Inherited,
    Restart,
    inherited,
    opened_by,
    replace_process,
)
from support.processes import free_port

if TYPE_CHECKING:
    from pathlib import Path

RESTART = Restart("memory", "too much", 1_700_000_000_000, count=3, streak=2)


def executed(door: Door) -> Inherited:
    """What the next process finds; the objects of this one end without a word, as in an exec."""
    environ = door.pass_on(RESTART)
    for listener in door._listeners.values():
        listener.detach()
    return inherited(environ)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return replace(Settings(), data_dir=str(tmp_path), admin_port=free_port())


def test_a_first_start_inherits_nothing() -> None:
    assert inherited({}) == Inherited()


def test_the_reason_and_the_descriptors_survive_and_the_variable_is_taken(settings: Settings) -> None:
    door = Door(settings, Inherited())
    environ = door.pass_on(RESTART)
    before = inherited(environ)
    assert VARIABLE not in environ
    assert before.restart == RESTART
    locks, listeners = opened_by(settings)
    assert set(before.locks) == {str(path) for path in locks}
    assert set(before.listeners) == set(listeners)
    for descriptor in (*before.locks.values(), *before.listeners.values()):
        assert os.get_inheritable(descriptor)
    door.close()


def test_the_next_process_takes_everything_over_and_nothing_is_inheritable_any_more(
    settings: Settings,
) -> None:
    first = Door(settings, Inherited())
    before = executed(first)
    second = Door(settings, before)  # the same process stands for the next: the descriptors are what matters
    for descriptor in (*before.locks.values(), *before.listeners.values()):
        assert not os.get_inheritable(descriptor)
    with socket.create_connection(("127.0.0.1", settings.admin_port), 1):
        pass
    with pytest.raises(LeaseHeldError):
        SocketLock(settings.socket_path)
    second.close()
    assert not settings.socket_path.exists()


def test_a_caller_between_two_processes_waits_in_the_queue(settings: Settings) -> None:
    """Nobody accepts here: the old process has stopped to, the new one has not begun."""
    door = Door(settings, Inherited())
    for copy in door.accepting():
        copy.close()  # as the server does when it ends
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(settings.socket_path))
    with socket.create_connection(("127.0.0.1", settings.admin_port), 1):
        pass
    door.close()


def test_what_the_new_settings_do_not_want_is_closed(settings: Settings, tmp_path: Path) -> None:
    first = Door(settings, Inherited())
    before = executed(first)
    moved = replace(settings, admin_socket=str(tmp_path / "moved.sock"), admin_port=0)
    second = Door(moved, before)
    assert (tmp_path / "moved.sock").exists()
    assert not settings.socket_path.exists()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", settings.admin_port), 1)
    SocketLock(settings.socket_path).close()
    second.close()


def test_another_address_may_have_the_port_of_the_old_one(settings: Settings) -> None:
    wider = replace(settings, admin_host="0.0.0.0")
    first = Door(settings, Inherited())
    locks, listeners = opened_by(wider)
    first.try_to_open([str(path) for path in locks], listeners)
    second = Door(wider, executed(first))
    with socket.create_connection(("127.0.0.1", settings.admin_port), 1):
        pass
    second.close()


def test_a_socket_whose_name_was_removed_is_bound_anew(settings: Settings) -> None:
    first = Door(settings, Inherited())
    settings.socket_path.unlink()
    second = Door(settings, executed(first))
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(settings.socket_path))
    second.close()


def test_a_second_runner_on_the_same_data_is_refused_whatever_its_socket(
    settings: Settings, tmp_path: Path
) -> None:
    door = Door(settings, Inherited())
    other = replace(settings, admin_socket=str(tmp_path / "other.sock"), admin_port=0)
    with pytest.raises(LeaseHeldError, match=f"pid {os.getpid()}"):
        Door(other, Inherited())
    assert not (tmp_path / "other.sock").exists()
    door.close()
    Door(other, Inherited()).close()


def test_a_lock_passes_through_an_exec_and_is_never_free(settings: Settings) -> None:
    door = Door(settings, Inherited())
    environ = door.pass_on(RESTART)
    descriptors = [*inherited(dict(environ)).locks.values(), *inherited(dict(environ)).listeners.values()]
    code = (
        "import os, sys\n"
        "from runner import config, handover\n"
        "from runner.errors import LeaseHeldError\n"
        "settings = config.Settings(data_dir=sys.argv[1], admin_port=int(sys.argv[2]))\n"
        "door = handover.Door(settings, handover.inherited(os.environ))\n"
        "try: handover.Door(settings, handover.Inherited())\n"
        "except LeaseHeldError: print('held')\n"
    )
    door_of_child = subprocess.run(
        [sys.executable, "-c", code, settings.data_dir, str(settings.admin_port)],
        env=environ,
        pass_fds=descriptors,
        capture_output=True,
        text=True,
        check=True,
    )
    assert door_of_child.stdout == "held\n"
    door.close()


def test_a_port_that_the_next_process_could_not_have_is_told_before(settings: Settings) -> None:
    door = Door(settings, Inherited())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=str(port)):
            door.try_to_open([], [f"tcp:127.0.0.1:{port}"])
    locks, listeners = opened_by(settings)
    door.try_to_open([str(path) for path in locks], listeners)  # its own are no obstacle
    door.close()


def test_an_exec_that_fails_ends_with_its_own_code_and_leaves_nothing_held(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(*_args: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "execve", gone)
    assert replace_process(Door(settings, Inherited()), RESTART) == EXIT_NOT_REPLACED == Exit.NOT_REPLACED
    assert "cannot execute" in capsys.readouterr().err
    Door(settings, Inherited()).close()


def test_the_next_process_is_the_same_command_by_the_same_interpreter(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execve", lambda path, args, _environ: executed.append((path, args)))
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "runner", "run", "--simulator", "5"])
    door = Door(settings, Inherited())
    replace_process(door, RESTART)
    assert executed == [(sys.executable, [sys.executable, "-m", "runner", "run", "--simulator", "5"])]
    door.close()


def test_the_lock_file_names_the_holder(settings: Settings) -> None:
    door = Door(settings, Inherited())
    locks, _ = opened_by(settings)
    for path in locks:
        assert path.with_name(f"{path.name}.lock").read_text() == f"{os.getpid()}\n"
    said = json.loads(door.pass_on(RESTART)[VARIABLE])
    assert said["restart"]["reason"] == "memory"
    door.close()
