"""What systemd hears, on a datagram socket of ours."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import trio

from runner.notify import STATUS_S, Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trio.testing import MockClock


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


def heard(manager: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(manager.recv(4096).decode())
        except BlockingIOError:
            return messages


def notifier(manager: socket.socket, **environ: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.getsockname(), **environ}, pid=7)


def test_each_word_is_one_message(manager: socket.socket) -> None:
    word = notifier(manager)
    word.ready()
    word.reloading()
    word.stopping()
    ready, reloading, stopping = heard(manager)
    assert (ready, stopping) == ("READY=1", "STOPPING=1")
    first, second = reloading.splitlines()
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_a_name_without_a_file_is_spelled_with_an_at_sign() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0runner-test-notify")
        listener.setblocking(False)
        Notifier({"NOTIFY_SOCKET": "@runner-test-notify"}, 7).ready()
        assert heard(listener) == ["READY=1"]


def test_without_a_listener_nothing_happens(tmp_path: Path) -> None:
    Notifier({}, 7).ready()
    assert not Notifier({}, 7).is_heard
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, 7).ready()


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_only_when_it_is_meant_for_us(
    manager: socket.socket, environ: dict[str, str], watchdog_s: float | None
) -> None:
    assert notifier(manager, **environ).watchdog_s == watchdog_s


async def test_the_watchdog_is_fed_three_times_in_its_time_and_only_while_the_engine_turns(
    manager: socket.socket, autojump_clock: MockClock
) -> None:
    healthy = True
    word = notifier(manager, WATCHDOG_USEC="9000000")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(word.run, lambda: healthy, lambda: "3 of 5 sessions online")
        await trio.sleep(8.5)
        assert heard(manager) == ["WATCHDOG=1\nSTATUS=3 of 5 sessions online"] * 3
        healthy = False
        await trio.sleep(9.0)
        assert heard(manager) == ["STATUS=the engine stands still; 3 of 5 sessions online"] * 3
        healthy = True
        await trio.sleep(3.0)
        assert heard(manager) == ["WATCHDOG=1\nSTATUS=3 of 5 sessions online"]
        nursery.cancel_scope.cancel()


async def test_without_a_watchdog_only_the_status_is_said(
    manager: socket.socket, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notifier(manager).run, lambda: True, lambda: "all well")
        await trio.sleep(2.5 * STATUS_S)
        assert heard(manager) == ["STATUS=all well"] * 3
        nursery.cancel_scope.cancel()
