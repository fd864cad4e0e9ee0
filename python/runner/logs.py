"""Structured logs: one line an event, JSON or console, session id in each, nothing secret.

Keys: `ts level event session attempt reason delayMs breaker` first, the rest after them. Lines go to stderr
or to `WHATSAPP_LOG_FILE` through a thread of their own, so that a stuck terminal or disk never stops the Trio
thread, and to a ring in memory that `logs -f` reads. A session that writes too much is counted instead.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import msgspec
import structlog

from runner.errors import StartError
from runner.own_secrets import own_secrets
from runner.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from io import FileIO

    from runner.config import Settings

    Event = MutableMapping[str, object]

ORDER: Final = ("ts", "level", "event", "session", "attempt", "reason", "delayMs", "breaker")
_ALWAYS: Final = frozenset({"error", "critical"})
"""Levels that the rate limit of a session lets through."""
_QUEUE_LINES: Final = 10_000
"""Lines that wait for a slow disk or terminal before further ones are counted as lost."""
MOST_UNWRITTEN_BYTES: Final = 1024 * 1024
"""The same for a disk that is full."""
AGAIN_S: Final = 1.0
"""How long a file that refused lines is left alone."""


class LogBuffer:
    """The last lines as JSON, numbered, for `logs` and `logs -f`. Safe to append to from any thread."""

    def __init__(self, lines: int) -> None:
        self._lines: deque[tuple[int, bytes]] = deque(maxlen=lines)
        self._lock = threading.Lock()
        self._next = 1

    def append(self, line: bytes) -> None:
        with self._lock:
            self._lines.append((self._next, line))
            self._next += 1

    @property
    def newest(self) -> int:
        """Number of the last line, 0 before the first."""
        return self._next - 1

    def after(self, number: int) -> list[tuple[int, bytes]]:
        """Lines with a greater number than `number`, oldest first."""
        with self._lock:
            if not self._lines or self._lines[-1][0] <= number:
                return []
            return [entry for entry in self._lines if entry[0] > number]

    def tail(self, lines: int) -> list[tuple[int, bytes]]:
        """The newest `lines` lines, oldest first."""
        with self._lock:
            return list(self._lines)[-lines:] if lines > 0 else []


class SessionLimit:
    """Lets each session write `rate` lines a second; counts the rest and says so in the next line."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._clock = clock
        self._spent: dict[str, tuple[float, float]] = {}  # session -> (tokens left, at)
        self._suppressed: dict[str, int] = {}
        self._lock = threading.Lock()

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        session = event.get("session")
        if not isinstance(session, str) or event.get("level") in _ALWAYS:
            return event
        with self._lock:
            if not self._allows(session):
                self._suppressed[session] = self._suppressed.get(session, 0) + 1
                raise structlog.DropEvent
            if lost := self._suppressed.pop(session, 0):
                event["suppressed"] = lost
        return event

    def _allows(self, session: str) -> bool:
        now = self._clock()
        burst = 2.0 * self.rate
        if len(self._spent) > 1024:  # forget the quiet ones; the dict stays as small as the noise
            self._spent = {
                key: (left, at)
                for key, (left, at) in self._spent.items()
                if left + (now - at) * self.rate < burst
            }
        left, at = self._spent.get(session, (burst, now))
        left = min(burst, left + (now - at) * self.rate)
        allowed = left >= 1.0
        self._spent[session] = (left - 1.0 if allowed else left, now)
        return allowed

    def take_suppressed(self) -> dict[str, int]:
        """Counts not yet told, by session; told now."""
        with self._lock:
            told, self._suppressed = self._suppressed, {}
            return told


class ExceptionCount:
    """Counts the lines that carry a traceback of ours: something was raised that should not have been."""

    def __init__(self) -> None:
        self.total = 0

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        if event.get("exc_info") and event.get("level") in _ALWAYS:
            self.total += 1
        return event


class LineWriter:
    """Writes lines on a thread of its own; what does not fit its queue is counted, never waited for.

    What a file refuses, because its disk is full, waits for room: those lines say when that began.
    """

    def __init__(self, stream: TextIO | None = None, path: Path | None = None) -> None:
        self._stream = stream
        self._path = path
        self._file: FileIO | None = None
        self._unwritten = b""
        self._lines: deque[str] = deque()
        self._wake = threading.Condition()
        self._lost = 0
        self._closing = False
        self._reopen = False
        if path is not None:
            try:  # fails here, at start, and not on the thread
                path.parent.mkdir(parents=True, exist_ok=True)
                path.open("a", encoding="utf-8").close()
            except OSError as error:
                raise StartError(
                    f"the log file {path} cannot be written: {error.strerror}",
                    "set WHATSAPP_LOG_FILE to one you may write, or leave it out for stderr",
                ) from error
        self._thread = threading.Thread(target=self._run, name="runner-log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Never blocks."""
        with self._wake:
            if len(self._lines) >= _QUEUE_LINES:
                self._lost += 1
                return
            self._lines.append(line)
            self._wake.notify()

    def reopen(self) -> None:
        """Open the file anew before the next line: logrotate moved it."""
        with self._wake:
            self._reopen = True

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what waits; gives up on a stuck target after `timeout_s`."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._lines and not self._closing:
                    if not self._wake.wait(AGAIN_S if self._unwritten else None):
                        break
                batch, self._lines = self._lines, deque()
                closing = self._closing
                if len(self._unwritten) >= MOST_UNWRITTEN_BYTES:
                    self._lost += len(batch)
                    batch.clear()
                elif self._lost:
                    batch.append(f'{{"level":"warning","event":"log lines lost","lines":{self._lost}}}')
                    self._lost = 0
            self._write(batch)
            if closing and not self._lines:
                if self._file is not None:
                    self._file.close()
                return

    def _write(self, batch: deque[str]) -> None:
        text = "".join(f"{line}\n" for line in batch)
        try:
            if self._path is None:
                stream = self._stream or sys.stderr
                stream.write(text)
                stream.flush()
                return
            self._unwritten += text.encode("utf-8", "backslashreplace")
            file = self._target(self._path)
            while self._unwritten:
                self._unwritten = self._unwritten[file.write(self._unwritten) :]
        except (OSError, ValueError):
            pass  # nowhere to say it: the disk is full or stderr gone; the ring in memory has the lines

    def _target(self, path: Path) -> FileIO:
        if self._reopen and self._file is not None:
            self._file.close()
            self._file = None
        self._reopen = False
        if self._file is None:
            self._file = path.open("ab", buffering=0)
        return self._file


class _Foreign(logging.Handler):
    """Carries what libraries log into our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        log.log(record.levelno, record.getMessage(), library=record.name, exc_info=record.exc_info)


class Logs:
    """The logging of this process; one at a time."""

    def __init__(self, settings: Settings, stream: TextIO | None = None) -> None:
        path = Path(settings.log_file).expanduser() if settings.log_file else None
        self.buffer = LogBuffer(settings.log_buffer)
        self.limit = SessionLimit(settings.log_session_rate)
        self.exceptions = ExceptionCount()
        self._writer = LineWriter(stream, path)
        target = stream or sys.stderr
        is_console = settings.log_format == "console" or (
            settings.log_format == "auto" and path is None and target.isatty()
        )
        self._console = (
            structlog.dev.ConsoleRenderer(timestamp_key="ts", colors=target.isatty()) if is_console else None
        )
        self._foreign = _Foreign()
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Take over what SIGHUP may change: level and rate. Reopens the log file."""
        self.limit.rate = settings.log_session_rate
        self.redactor = Redactor(own_secrets(settings))
        level = logging.getLevelNamesMapping()[settings.log_level.upper()]
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                self.exceptions,
                self.limit,
                structlog.processors.format_exc_info,
                self.redactor,
                _stamp,
                self._render,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=lambda *_args: _Sink(self._writer.write),
            cache_logger_on_first_use=False,
        )
        root = logging.getLogger()
        root.handlers = [self._foreign]
        root.setLevel(max(level, logging.WARNING))
        self._writer.reopen()

    def report_suppressed(self) -> None:
        """One line for each session whose lines were held back and that has since been quiet."""
        log = structlog.get_logger()
        for session, lines in self.limit.take_suppressed().items():
            log.warning("log lines suppressed", of=session, suppressed=lines)

    def close(self) -> None:
        """Write what waits."""
        logging.getLogger().handlers = []
        self._writer.close()

    def _render(self, logger: object, method: str, event: Event) -> str:
        ordered = {key: event.pop(key) for key in ORDER if key in event} | dict(event)
        line = msgspec.json.encode(ordered)
        self.buffer.append(line)
        if self._console is not None:
            return str(self._console(logger, method, ordered))
        return line.decode()


class _Sink:
    """What structlog calls with a finished line, whatever its level."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.msg = self.debug = self.info = self.warning = self.error = self.critical = write
        self.warn = self.exception = self.fatal = self.log = write


def _stamp(_logger: object, _method: str, event: Event) -> Event:
    event["ts"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


def logger() -> structlog.typing.FilteringBoundLogger:
    """A logger; bind `session=` and the rest at the call."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return bound
