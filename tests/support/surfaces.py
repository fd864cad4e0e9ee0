"""Everything that says how sessions are doing, read ten times a second, each on a thread of its own."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import wsproto
from wsproto.events import AcceptConnection, Message, Ping, Request

from support.processes import ROOT, UnixHTTPConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from support.control import Control

EVERY_S = 0.1
TIMEOUT_S = 30.0


class Row(NamedTuple):
    """What a surface says of one session. `revision` is None where it does not say."""

    id: str
    state: str
    connection: int
    since_ms: int
    revision: int | None = None


@dataclass(slots=True)
class Sample:
    """One reading of a surface. Times are those of `time.monotonic`."""

    surface: str
    began: float = 0.0
    ended: float = 0.0
    revision: int | None = None
    """The number of the newest change that it knows of."""
    counts: dict[str, int] | None = None
    """Sessions by state, those of which there are some."""
    rows: list[Row] = field(default_factory=list)
    live: dict[str, float] = field(default_factory=dict)
    """Counters of the moment of the answer."""
    read: dict[str, float] = field(default_factory=dict)
    """Counters of a reading of the engine's, of the time before the answer that `reading_age_s` says."""
    reading: int | None = None
    reading_age_s: float = 0.0


READ = {
    "frames_received": "framesReceived",
    "pings_sent": "pingsSent",
    "pongs_received": "pongsReceived",
}
"""Counters of a reading: Prometheus' name without prefix and ending, and the name under `engine` in JSON."""
_LINE = re.compile(r"^runner_(\w+?)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def asked(socket_path: Path, path: str) -> tuple[bytes, float, float]:
    """The answer to a GET, and when it was asked for and complete."""
    link = UnixHTTPConnection(socket_path, TIMEOUT_S)
    began = time.monotonic()
    try:
        link.request("GET", path)
        answer = link.getresponse()
        body = answer.read()
    finally:
        link.close()
    assert answer.status == 200, (path, answer.status, body[:500])
    return body, began, time.monotonic()


def listed(socket_path: Path, path: str) -> Sample:
    """A list of the JSON API."""
    body, began, ended = asked(socket_path, f"{path}?limit=100000")
    told: dict[str, Any] = json.loads(body)
    sample = Sample(path, began, ended, told["revision"], rows=rows_of(told["sessions"]))
    if "states" in told:
        sample.counts = {state: number for state, number in told["states"].items() if number}
    if engine := told.get("engine"):
        sample.live = {"dials": engine["dials"]}
        sample.read = {name: engine[known] for name, known in READ.items()}
        sample.read["active_connections"] = told["system"]["activeConnections"]
        sample.reading, sample.reading_age_s = engine["readings"], engine["readingAge"]
    return sample


def prometheus(socket_path: Path) -> Sample:
    """`GET /metrics`, with the series of single sessions."""
    body, began, ended = asked(socket_path, "/metrics")
    one: dict[str, float] = {}
    by: dict[str, dict[str, float]] = {"sessions": {}, "dials_total": {}}
    of: dict[str, dict[str, Any]] = {}
    for name, labels, value in series(body.decode()):
        if name in ("session_state", "session_connection", "session_state_since_seconds"):
            of.setdefault(labels["session"], {})[name] = labels.get("state", value)
        elif name in by:
            by[name][next(iter(labels.values()))] = value
        elif not labels:
            one[name] = value
    rows = [
        Row(
            session,
            it["session_state"],
            int(it["session_connection"]),
            round(1000 * it["session_state_since_seconds"]),
        )
        for session, it in of.items()
    ]
    return Sample(
        "/metrics",
        began,
        ended,
        int(one["session_changes_total"]),
        {state: int(number) for state, number in by["sessions"].items() if number},
        rows,
        {
            "dials": one["engine_dials_total"],
            "logins": by["dials_total"].get("online", 0),
            "reconnects": one["reconnects_total"],
        },
        {name: one[f"{name}_total"] for name in (*READ, "messages_received")}
        | {"active_connections": one["active_connections"]},
        int(one["engine_readings_total"]),
        one["engine_reading_age_seconds"],
    )


def command(env: Mapping[str, str]) -> Sample:
    """`python -m runner sessions --json`."""
    args = [sys.executable, "-m", "runner", "sessions", "--json"]
    done = subprocess.run(args, env=env, cwd=ROOT, capture_output=True, timeout=TIMEOUT_S, check=True)
    return Sample("sessions --json", rows=rows_of(json.loads(done.stdout)))


def rows_of(told: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Sessions as the JSON API has them."""
    return [Row(it["id"], it["state"], it["connection"], it["since"], it["revision"]) for it in told]


def series(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name without the prefix, labels and value of each line that has one."""
    for line in text.splitlines():
        if found := _LINE.match(line):
            yield found[1], dict(_LABEL.findall(found[2] or "")), float(found[3])


def simulated(control: Control) -> Sample:
    """What the simulator has counted."""
    began = time.monotonic()
    told = control.stats()
    live = {
        "connections": told["connections"],
        "logins": told["logins"],
        "pings": told["pings"],
        "answers": told["ackByClass"].get("message", 0),
        "deliveries": told["nodesPushed"] + told["deliveredOffline"],
    }
    return Sample("simulator", began, time.monotonic(), live=live)


class Sampler:
    """Takes samples with `look` until its block ends. What `look` raises is raised there."""

    def __init__(self, look: Callable[[], Sample]) -> None:
        self.samples: list[Sample] = []
        self._look = look
        self._over = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                sample = self._look()
                self.samples.append(sample)
                self._over.wait(max(0.0, sample.began + EVERY_S - time.monotonic()))
        except Exception as error:  # told where the block ends
            self._error = error


class Account:
    """The runner's own account of every change: `/ws?events=*`, from the moment that it was connected."""

    def __init__(self, socket_path: Path) -> None:
        self.changes: list[Row] = []
        self.delays_s: list[float] = []
        """From each change until it was heard of here, both by the wall clock."""
        self.lost = 0
        self._link = socket.socket(socket.AF_UNIX)
        self._link.connect(str(socket_path))
        self._protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._thread = threading.Thread(target=self._run)
        self._text = ""

    def __enter__(self) -> Self:
        self._link.sendall(self._protocol.send(Request(host="localhost", target="/ws?events=*")))
        while not any(isinstance(event, AcceptConnection) for event in self._events()):
            pass
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._link.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._link.close()

    @property
    def revision(self) -> int:
        """The number of the last change."""
        return (self.changes[-1].revision if self.changes else 0) or 0

    def _events(self) -> Iterator[object]:
        self._protocol.receive_data(self._link.recv(1 << 20) or None)
        yield from self._protocol.events()

    def _run(self) -> None:
        while self._protocol.state is wsproto.ConnectionState.OPEN:
            for event in self._events():
                if isinstance(event, Ping):  # without an answer the runner takes us for dead
                    self._link.sendall(self._protocol.send(event.response()))
                elif isinstance(event, Message):
                    self._text += event.data
                    if event.message_finished:
                        self._take(json.loads(self._text))
                        self._text = ""

    def _take(self, told: dict[str, Any]) -> None:
        it = told["payload"]
        if told["event"] == "stream.lost":
            self.lost += it["events"]
        elif told["event"].startswith("session."):
            self.delays_s.append(time.time() - told["timestamp"] / 1000)
            self.changes.append(Row(it["id"], it["state"], it["connection"], it["since"], it["revision"]))
