"""The engine and its store in this process, without a supervisor; the simulator is a process of its own.

For what only a consumer inside can see: events as the pump hands them over, messages as `take` gives them,
counters without an API between.
"""

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from bench.scenarios.fleet import raise_fd_limit
from runner import _core
from runner.engine import EngineEvent, open_engine, open_store, pump
from support.control import Control
from support.pair import simulated, store_path, users_of

VERSION = (2, 3000, 1_040_000_000)
ONLINE_WITHIN_S = 60.0
SETTLE_S = 2.0
"""After the last login: the queries and the backlog that follow it."""

Route = Callable[[EngineEvent], None]


@dataclass(slots=True)
class Bare:
    """What runs here, and the simulator's control port."""

    engine: _core.Engine
    store: _core.Store
    control: Control
    simulator_pid: int
    users: dict[str, str]
    """Session id -> user, as the simulator names it."""
    online: set[str]
    route: Route
    """Who gets the events; a scenario puts its own here."""
    proxies: Mapping[str, str]
    changed: trio.Event

    def dial(self, session_id: str, connection: int) -> None:
        """Open a connection, through the session's proxy if it has one."""
        self.engine.open(session_id, connection, version=VERSION, proxy=self.proxies.get(session_id))

    async def wait_online(self, n: int) -> None:
        """Until so many sessions are online."""
        with trio.fail_after(ONLINE_WITHIN_S):
            while len(self.online) < n:
                await self.changed.wait()

    def handle(self, event: EngineEvent) -> None:
        """Keep count of who is online, then pass it on."""
        if event.kind in ("online", "closed"):
            (self.online.add if event.kind == "online" else self.online.discard)(event.session_id)
            self.changed.set()
            self.changed = trio.Event()
        self.route(event)


@asynccontextmanager
async def bare(n: int, proxies: Mapping[str, str] | None = None) -> AsyncIterator[Bare]:
    """N sessions online over TLS, default keep-alive. `proxies`: session id -> proxy, for some."""
    raise_fd_limit(n)
    with (
        tempfile.TemporaryDirectory(prefix="runner-bench-") as name,
        simulated(Path(name), n, tls=True) as simulator,
    ):
        assert simulator.ca_file is not None
        store = open_store(store_path(Path(name)), 3600.0)
        engine = open_engine(
            store,
            endpoint=simulator.url,
            root_key=bytes.fromhex(simulator.root_key_hex),
            tls_ca_pem=simulator.ca_file.read_bytes(),
        )
        control, users = Control(simulator.control), users_of(simulator.credentials)
        it = Bare(
            engine,
            store,
            control,
            simulator.pid,
            users,
            online=set(),
            route=lambda _event: None,
            proxies=proxies or {},
            changed=trio.Event(),
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pump, engine, it.handle, lambda: None, lambda: True)
                for session_id in users:
                    it.dial(session_id, 1)
                await it.wait_online(n)
                await trio.sleep(SETTLE_S)
                yield it
                engine.shutdown()
        finally:
            engine.shutdown()
            store.close()
