"""Log lines: their keys, their limits, and that nothing waits for them."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from runner import logs as logs_module
from runner.config import load
from runner.errors import StartError
from runner.logs import LineWriter, LogBuffer, Logs, SessionLimit, logger

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def logs(stream: io.StringIO) -> Iterator[Callable[..., Logs]]:
    made: list[Logs] = []

    def make(**environ: str) -> Logs:
        settings = load({f"WHATSAPP_{name}": value for name, value in environ.items()})
        made.append(Logs(settings, stream))
        return made[-1]

    yield make
    for each in made:
        each.close()
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_its_keys_in_order(logs: Callable[..., Logs], stream: io.StringIO) -> None:
    ours = logs()
    logger().info(
        "reconnect scheduled", delayMs=2000, reason="pong_deadline", attempt=2, session="desk-1", more=1
    )
    ours.close()
    (line,) = lines(stream)
    assert list(line) == ["ts", "level", "event", "session", "attempt", "reason", "delayMs", "more"]
    assert line["session"] == "desk-1"
    assert line["ts"].endswith("Z")


@pytest.mark.pain(25)
def test_an_exception_is_one_redacted_line(logs: Callable[..., Logs], stream: io.StringIO) -> None:
    ours = logs()
    try:
        raise ValueError("15550001111@s.whatsapp.net")
    except ValueError:
        logger().exception("failed")
    ours.close()
    (line,) = lines(stream)
    assert "ValueError" in line["exception"]
    assert "15550001111" not in stream.getvalue()


def test_the_level_can_change_while_running(logs: Callable[..., Logs], stream: io.StringIO) -> None:
    ours = logs(LOG_LEVEL="error")
    logger().info("before")
    ours.apply(load({"WHATSAPP_LOG_LEVEL": "debug"}))
    logger().debug("after")
    ours.close()
    assert [line["event"] for line in lines(stream)] == ["after"]


def test_what_libraries_log_becomes_a_line(logs: Callable[..., Logs], stream: io.StringIO) -> None:
    ours = logs()
    logging.getLogger("some.library").warning("number %s", "15550001111")
    ours.close()
    (line,) = lines(stream)
    assert (line["event"], line["library"], line["level"]) == ("number …11", "some.library", "warning")


def test_console_lines_are_for_people(logs: Callable[..., Logs], stream: io.StringIO) -> None:
    ours = logs(LOG_FORMAT="console")
    logger().info("reconnect scheduled", session="desk-1")
    ours.close()
    assert "reconnect scheduled" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
    (_, kept) = ours.buffer.tail(1)[0]
    assert json.loads(kept)["session"] == "desk-1"


@pytest.mark.pain(25)
def test_a_flooding_session_is_counted_instead() -> None:
    now = 0.0
    limit = SessionLimit(rate=2, clock=lambda: now)

    def passes(session: str, level: str = "info") -> dict[str, Any] | None:
        try:
            return dict(limit(None, "info", {"session": session, "level": level}))
        except structlog.DropEvent:
            return None

    flood = [passes("loud") for _ in range(10)]
    assert [line is not None for line in flood] == [True] * 4 + [False] * 6
    assert passes("quiet") is not None
    assert passes("loud", "error") is not None
    now = 0.5
    line = passes("loud")
    assert line is not None
    assert line["suppressed"] == 6


def test_what_was_suppressed_is_told_when_the_session_falls_silent(
    logs: Callable[..., Logs], stream: io.StringIO
) -> None:
    ours = logs(LOG_SESSION_RATE="1")
    for _ in range(5):
        logger().info("again", session="loud")
    ours.report_suppressed()
    ours.report_suppressed()
    ours.close()
    told = [line for line in lines(stream) if line["event"] == "log lines suppressed"]
    assert [(line["of"], line["suppressed"]) for line in told] == [("loud", 3)]


def test_the_limit_forgets_sessions_that_were_quiet() -> None:
    now = 0.0
    limit = SessionLimit(rate=10, clock=lambda: now)
    for number in range(3000):
        now = float(number)
        limit(None, "info", {"session": str(number), "level": "info"})
    assert len(limit._spent) <= 1026


def test_the_buffer_keeps_the_newest_and_numbers_them() -> None:
    buffer = LogBuffer(3)
    assert (buffer.newest, buffer.after(0), buffer.tail(5)) == (0, [], [])
    for number in range(5):
        buffer.append(str(number).encode())
    assert buffer.tail(2) == [(4, b"3"), (5, b"4")]
    assert buffer.after(3) == [(4, b"3"), (5, b"4")]
    assert buffer.after(0) == [(3, b"2"), (4, b"3"), (5, b"4")]
    assert buffer.tail(0) == []


def test_a_log_file_that_cannot_be_written_is_named_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="log file") as caught:
        LineWriter(path=tmp_path / "file" / "run.log")
    assert "WHATSAPP_LOG_FILE" in caught.value.remedy


class WaitableWriter(LineWriter):
    """Tells when its thread has written something."""

    def __init__(self, path: Path) -> None:
        self.written = threading.Event()
        super().__init__(path=path)

    def _write(self, batch: deque[str]) -> None:
        super()._write(batch)
        self.written.set()


def test_the_log_file_is_reopened_after_rotation(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "runner.log"
    writer = WaitableWriter(path=path)
    writer.write("one")
    assert writer.written.wait(10.0)
    path.rename(tmp_path / "runner.log.1")
    writer.reopen()
    writer.write("two")
    writer.close()
    assert path.read_text() == "two\n"
    assert (tmp_path / "runner.log.1").read_text() == "one\n"


class Disk(io.FileIO):
    """A file whose disk has room for so many bytes."""

    room = 0

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - a buffer
        part = bytes(data)[: self.room]
        if not part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(part)
        return super().write(part)


class OnDisk(WaitableWriter):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.disk = self._file = Disk(path, "a")  # which its thread closes in the end

    def _target(self, _path: Path) -> io.FileIO:
        return self.disk


def test_lines_that_a_full_disk_refuses_come_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs_module, "AGAIN_S", 0.01)
    writer = OnDisk(tmp_path / "alerts.log")
    writer.disk.room = 5
    for number in range(3):
        writer.written.clear()
        writer.write(f"line {number}")
        assert writer.written.wait(10.0)
    assert (tmp_path / "alerts.log").read_text() == "line "
    writer.disk.room = 1_000_000
    writer.written.clear()
    while (tmp_path / "alerts.log").read_text() != "line 0\nline 1\nline 2\n":
        assert writer.written.wait(10.0), "it is tried again without a further line"
        writer.written.clear()
    writer.close()


def test_a_disk_that_stays_full_costs_bounded_memory_and_what_was_lost_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs_module, "AGAIN_S", 0.01)
    monkeypatch.setattr(logs_module, "MOST_UNWRITTEN_BYTES", 20)
    writer = OnDisk(tmp_path / "alerts.log")
    for number in range(10):
        writer.written.clear()
        writer.write(f"line {number}")
        assert writer.written.wait(10.0)
    assert len(writer._unwritten) < 30
    writer.disk.room = 1_000_000
    writer.written.clear()
    assert writer.written.wait(10.0)
    writer.write("the last")
    writer.close()
    assert (tmp_path / "alerts.log").read_text().splitlines() == [
        *(f"line {number}" for number in range(3)),
        "the last",
        '{"level":"warning","event":"log lines lost","lines":7}',
    ]


def test_a_stuck_target_never_stops_the_writer(tmp_path: Path) -> None:
    """Nobody reads the pipe: writing goes on, memory stays bounded, what was lost is counted."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        writer = LineWriter(stream)
        for _ in range(20_000):
            writer.write("x" * 100)
        writer.close(timeout_s=0.01)
        assert len(writer._lines) <= 10_000
        said: list[bytes] = []
        reader = threading.Thread(
            target=lambda: said.extend(iter(lambda: os.read(reading, 65536), b"")), daemon=True
        )
        reader.start()
        writer.close(timeout_s=5.0)
        assert not writer._thread.is_alive()
    reader.join(5.0)
    os.close(reading)
    assert b"log lines lost" in b"".join(said)
