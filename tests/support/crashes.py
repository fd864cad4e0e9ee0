"""Leaks, slow starts, `kill -9` and damage: proofs about the process and its store, of any size."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.control import Control
from support.faults import Figures, assert_never_doubled, everybody_back, open_incidents
from support.messages import SENT_CAPACITY, kept_once, opened_store, wait_answered
from support.pair import running, store_path, users_of
from support.processes import ROOT, wait_until

if TYPE_CHECKING:
    from runner import _core
    from support.pair import Pair
    from support.processes import SimulatorProcess

PAGE_BYTES = 4096


def open_fds(pid: int) -> int:
    """Open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise LookupError("VmRSS")


# -- 7: leaks and slow starts --------------------------------------------------------------------------------


def start_stop(p: Pair, cycles: int) -> None:
    """Stop all and start all through the API, `cycles` of them counted over all sessions."""
    for _ in range(-(-cycles // p.n)):
        for session_id in p.ids():
            assert p.runner.request("POST", f"/api/sessions/{session_id}/stop")[0] == 200
        wait_until(lambda: p.control.stats()["open"] == 0, 60.0, "all closed")
        for session_id in p.ids():
            assert p.runner.request("POST", f"/api/sessions/{session_id}/start")[0] == 200
        p.runner.wait_ready(p.n, 60.0)


def reconnects(p: Pair, count: int) -> None:
    """Reconnects, half of them forced and half because the server dropped everybody."""
    for turn in range(-(-count // p.n)):
        before = p.control.stats()["logins"]
        if turn % 2:
            p.control.post("/drop-all")
        else:
            for session_id in p.ids():
                assert p.runner.request("POST", f"/force-reconnection/{session_id}")[0] == 202
        p.control.wait_stats(logins=before + p.n, timeout_s=120.0)
        p.runner.wait_ready(p.n, 120.0)


def settled_fds(p: Pair, wanted: int | None = None) -> int:
    """Descriptors once what was closed is closed on both sides."""
    found = 0

    def settled() -> bool:
        nonlocal found
        found = open_fds(p.runner.pid)
        return wanted is None or found <= wanted

    with contextlib.suppress(AssertionError):
        wait_until(settled, 10.0, "descriptors")
    return found


def nothing_leaks(p: Pair, cycles: int, count: int, ratio: float | None) -> Figures:
    """Memory within `ratio` and the same descriptors after start/stop cycles and reconnects.

    The first round is a warm-up: what the allocator and the bounded logs take once is theirs to keep.
    """
    start_stop(p, max(p.n, cycles // 5))
    reconnects(p, max(2 * p.n, count // 5))
    rss, fds = rss_bytes(p.runner.pid), settled_fds(p)
    start_stop(p, cycles)
    reconnects(p, count)
    rss_after, fds_after = rss_bytes(p.runner.pid), settled_fds(p, fds)
    assert fds_after <= fds, f"{fds} descriptors before, {fds_after} after"
    grown = rss_after / rss - 1
    if ratio is not None:
        assert grown <= ratio, f"RSS from {rss} to {rss_after}: {grown:.1%}"
    assert_never_doubled(p)
    return {
        "n": p.n,
        "start_stop_cycles": cycles,
        "reconnects": count,
        "rss_before": rss,
        "rss_after": rss_after,
        "rss_grown": grown,
        "fds_before": fds,
        "fds_after": fds_after,
    }


def slow_start(
    directory: Path, simulator: SimulatorProcess, n: int, rate: float, settings: dict[str, str]
) -> Figures:
    """1 % of the logins hang and 1 % are slow: the others are up in N/rate + 30 s."""
    control = Control(simulator.control)
    users = list(users_of(simulator.credentials).values())
    few = max(1, n // 100)
    control.post("/login-policy", users=users[:few], mode="ignore", count=1_000_000)
    control.post("/login-policy", users=users[few : 2 * few], mode="delay", ms=20_000, count=1_000_000)
    others = set(users[2 * few :])
    with running(directory, simulator, n, settings | {"WHATSAPP_CONNECT_RATE": f"{rate:g}"}) as p:
        wait_until(
            lambda: {e["user"] for e in p.events("login")} >= others,
            n / rate + 60.0,
            "the healthy ones up",
        )
        connects = [e["t"] for e in p.events("connect")]
        logins = [e["t"] for e in p.events("login") if e["user"] in others]
        up_s = (max(logins) - min(connects)) / 1000
        assert up_s <= n / rate + 30.0, f"{up_s:.1f} s"
        assert p.runner.stop() == 0
    control.post("/login-policy", users=users[: 2 * few], mode="success")
    return {"n": n, "hung": few, "slow": few, "rate": rate, "others_up_s": up_s, "bar_s": n / rate + 30.0}


# -- 8: kill -9 ----------------------------------------------------------------------------------------------


def credentials_in(store: _core.Store) -> dict[str, Any]:
    """All that an identity is made of, by session."""
    assert not store.quarantined()
    return {
        s.session_id: (s.jid, s.lid, s.quarantined, store.signal_keys(s.session_id)) for s in store.sessions()
    }


def device_rows(directory: Path) -> dict[str, tuple[object, ...]]:
    """The device rows, read by SQLite itself and not by our store."""
    with contextlib.closing(sqlite3.connect(store_path(directory))) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {row[0]: row for row in db.execute("SELECT * FROM device")}


def kills_under_load(
    directory: Path, simulator: SimulatorProcess, n: int, kills: int, rate: float, settings: dict[str, str]
) -> Figures:
    """`kill -9` while messages arrive, again and again: nothing answered is lost, everybody comes back."""
    control = Control(simulator.control)
    control.post("/config", sentCapacity=SENT_CAPACITY)
    users = users_of(simulator.credentials)
    before = device_rows(directory)
    with opened_store(directory) as store:
        identities = credentials_in(store)
    dice = random.Random(11)
    for kill in range(kills + 1):
        with running(directory, simulator, n, settings) as p:
            p.runner.wait_ready(n, 60.0)
            load = threading.Thread(target=_push, args=(control, rate), daemon=True)
            acks = control.stats()["acks"]
            load.start()
            # A kill at another point of the stream each time.
            control.wait_stats(acks=acks + dice.randrange(1, max(2, int(0.8 * rate))), timeout_s=30.0)
            if kill < kills:
                p.runner.kill()
            else:
                load.join()
                wait_answered(control, 30.0)
                assert p.runner.stop() == 0
            load.join()
            assert "Traceback" not in p.runner.output()
            assert "store opened" not in p.runner.output(), "the store had something to report"
    assert device_rows(directory) == before
    with opened_store(directory) as store:
        assert credentials_in(store) == identities
        assert set(identities) == set(users)
    answered, kept = kept_once(directory, simulator)
    assert len(answered) > kills
    assert control.stats()["duplicates"] == 0
    return {"n": n, "kills": kills, "answered": len(answered), "in_inbox": len(kept), "lost": 0, "twice": 0}


def _push(control: Control, rate: float) -> None:
    """About a second of `rate` messages a second, over all who are connected."""
    each = max(1, int(rate / max(1, control.stats()["open"])))
    control.post("/push", all=True, template="message", n=each, rate=rate, maxSeconds=2)


# -- 8: a store that cannot write ----------------------------------------------------------------------------


class Refusing:
    """A store that cannot write, made by triggers: an I/O error without privileges."""

    tables = ("inbox", "probe")

    def __init__(self, directory: Path) -> None:
        self._store = store_path(directory)

    def begin(self) -> None:
        """From now on nothing can be kept."""
        for table in self.tables:
            self._run(
                f"CREATE TRIGGER no_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'test'); END"
            )

    def end(self) -> None:
        """From now on everything can."""
        for table in self.tables:
            self._run(f"DROP TRIGGER no_{table}")

    def _run(self, sql: str) -> None:
        # In a process of its own: two SQLite libraries in one would undo each other's file locks.
        script = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=30.0).execute(sys.argv[2])"
        subprocess.run([sys.executable, "-c", script, str(self._store), sql], check=True, timeout=60.0)


class FullDisk:
    """A real file system without room: `directory/data` is a small tmpfs. Needs root."""

    def __init__(self, directory: Path, size_bytes: int = 16 * 1024 * 1024) -> None:
        self.mounted = directory / "data"
        self.mounted.mkdir(parents=True)
        self._filler = self.mounted / "filler"
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", "tmpfs", str(self.mounted)]
        self.is_possible = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0

    def begin(self, leave_bytes: int = 0) -> None:
        """Take every byte but these."""
        with self._filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while os.statvfs(self.mounted).f_bavail * PAGE_BYTES > leave_bytes:
                file.write(bytes(PAGE_BYTES))

    def end(self) -> None:
        """Give them back."""
        self._filler.unlink()

    def unmount(self) -> None:
        """Lazily: whoever still has it open keeps it."""
        if self.is_possible:
            subprocess.run(["umount", "-l", str(self.mounted)], check=True)


def store_fails_under_load(
    directory: Path,
    simulator: SimulatorProcess,
    n: int,
    fault: Refusing | FullDisk,
    settings: dict[str, str],
) -> Figures:
    """The store cannot write while messages arrive: nobody is reconnected before it can, everybody after.

    Every message that was pushed is in the inbox in the end, and nothing was answered that is not.
    """
    control = Control(simulator.control)
    control.post("/config", sentCapacity=SENT_CAPACITY)
    with running(directory, simulator, n, settings) as p:
        p.runner.wait_ready(n, 60.0)
        before = control.stats()
        control.post("/push", all=True, template="message", n=2)
        control.wait_stats(acks=before["acks"] + 2 * n)
        fault.begin()

        def everybody_owes() -> bool:
            control.post("/push", all=True, template="message", n=1)
            return sum(row["owed"] > 0 for row in control.sessions()) == n

        wait_until(everybody_owes, 30.0, "every session owes an answer")
        wait_until(lambda: open_kinds(p) & {"store_stalled"}, 10.0, "the incident")
        looks = p.rows()
        assert {row["connection"] for row in looks.values()} == {1}, "nobody is reconnected before"
        mended = p.now_ms()
        fault.end()
        took_s = everybody_back(p, mended, 60.0)
        wait_answered(control, 30.0)
        wait_until(lambda: not open_kinds(p), 15.0, "no incident is left")
        rows = p.rows().values()
        assert {row["state"] for row in rows} == {"online"}
        assert {row["breaker"]["state"] for row in rows} == {"closed"}
        dropped = {line["reason"] for line in p.lines("session dropped: reconnect")}
        assert dropped == {"store_stalled"}
        pushed = control.stats()["nodesPushed"] - before["nodesPushed"]
        assert_never_doubled(p)
        assert p.runner.stop() == 0
        assert "Traceback" not in p.runner.output()
    _answered, kept = kept_once(directory, simulator)
    assert len(kept) == pushed, f"{pushed} pushed, {len(kept)} kept"
    return {"n": n, "pushed": pushed, "kept": len(kept), "lost": 0, "back_s": took_s}


def open_kinds(p: Pair) -> set[str]:
    """Kinds of the open incidents."""
    return {str(incident["kind"]) for incident in open_incidents(p)}


def ban_over_restart(
    directory: Path, simulator: SimulatorProcess, n: int, settings: dict[str, str], expire_s: int = 3600
) -> Figures:
    """A ban with an expiry, then `kill -9`: the next process waits for the same moment."""
    control = Control(simulator.control)
    with running(directory, simulator, n, settings) as p:
        p.runner.wait_ready(n, 60.0)
        banned = p.ids()[0]
        user = p.users[banned]
        control.post(
            "/login-policy", user=user, mode="failure", reason=402, attrs={"expire": str(expire_s)}, count=1
        )
        control.post("/close", user=user)
        first = p.runner.wait_state(banned, "suspended")
        assert first["reason"] == "failure_temporary_ban"
        assert first["nextRetryAt"] >= first["since"] + expire_s * 1000
        p.runner.wait_committed()
        p.runner.kill()
    with running(directory, simulator, n, settings) as p:
        restarted = p.now_ms()
        p.runner.wait_ready(n - 1, 60.0)
        second = p.runner.wait_state(banned, "suspended")
        assert second["reason"] == "failure_temporary_ban"
        assert abs(second["nextRetryAt"] - first["nextRetryAt"]) < 2000
        status, refused = p.runner.request("POST", f"/force-reconnection/{banned}")
        assert (status, refused["reason"]) == (409, "failure_temporary_ban")
        early = [e for e in p.events("login", "failure", since_ms=restarted) if e.get("user") == user]
        assert not early, "dialled before the ban was over"
        assert p.runner.request("POST", f"/reset-circuit-breaker/{banned}?penalty=true")[0] == 200
        p.runner.wait_ready(n, 30.0)
        assert p.runner.stop() == 0
    return {"expire_s": expire_s, "moved_ms": second["nextRetryAt"] - first["nextRetryAt"]}


# -- 8: damage -----------------------------------------------------------------------------------------------


def damage_row(directory: Path, session_id: str) -> None:
    """A secret of one device changes on disk, without its checksum."""
    with contextlib.closing(sqlite3.connect(store_path(directory))) as db, db:
        changed = db.execute(
            "UPDATE device SET noise_secret = zeroblob(32) WHERE session_id = ?", (session_id,)
        ).rowcount
        assert changed == 1


def tear_page(directory: Path, table: str) -> int:
    """Overwrite the last page of a table with garbage; its number."""
    path = store_path(directory)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = int(db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0])
    content = bytearray(path.read_bytes())
    content[(page - 1) * PAGE_BYTES : page * PAGE_BYTES] = b"\xa5" * PAGE_BYTES
    path.write_bytes(content)
    return page


def damaged_row(directory: Path, simulator: SimulatorProcess, n: int, settings: dict[str, str]) -> Figures:
    """One damaged row: that session is parked with its reason, without a new identity; the others run."""
    victim = min(users_of(simulator.credentials))
    damage_row(directory, victim)
    with running(directory, simulator, n, settings) as p:
        began = p.now_ms()
        p.runner.wait_ready(n - 1, 60.0)
        row = p.runner.wait_state(victim, "parked")
        assert row["reason"] == "device_quarantined"
        assert not [e for e in p.events("login", since_ms=began) if e["user"] == p.users[victim]]
        assert p.runner.stop() == 0
        assert "Traceback" not in p.runner.output()
    return {"damaged": 1, "online": n - 1, "parked": row["reason"]}


def torn_page(directory: Path, simulator: SimulatorProcess, n: int, settings: dict[str, str]) -> Figures:
    """A torn page of the devices: the start says so, keeps the damaged file, and runs what is whole."""
    before = device_ids(directory)
    tear_page(directory, "policy")
    with running(directory, simulator, n, settings) as p:
        wait_until(lambda: p.runner.sessions(), 30.0, "the API")
        report = [line["found"] for line in p.lines("store opened")]
        assert report, "a torn page went unreported"
        rows = p.rows()
        assert set(rows) >= before, "a session is gone without a word"
        whole = [row for row in rows.values() if row["reason"] != "device_quarantined"]
        wait_until(lambda: p.census().get("online", 0) == len(whole), 30.0, "the whole ones online")
        assert p.runner.stop() == 0
        assert "Traceback" not in p.runner.output()
    assert list((directory / "data").glob("*damaged*")), "the damaged file was not kept"
    return {"report": report[:3], "online": len(whole), "of": n}


def device_ids(directory: Path) -> set[str]:
    """All sessions of the store."""
    with opened_store(directory) as store:
        return {found.session_id for found in store.sessions()}


def second_runner(p: Pair) -> Figures:
    """Another runner on the same data: refused with the owner's pid, and the first one's connections stay."""
    logins = p.control.stats()["logins"]
    for own_socket in (False, True):  # the admin socket is a lock too, so it is also tried without that one
        env = dict(p.runner.env)
        if own_socket:
            env["WHATSAPP_ADMIN_SOCKET"] = str(p.runner.socket.with_name("second.sock"))
        done = subprocess.run(
            [sys.executable, "-m", "runner"], env=env, cwd=ROOT, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 6, (done.returncode, done.stderr)
        assert "Traceback" not in done.stderr
        assert done.stderr.strip()
    stats = p.control.stats()
    assert (stats["logins"], stats["duplicates"]) == (logins, 0)
    p.runner.wait_ready(p.n)
    return {"exit_code": done.returncode, "said": done.stderr.strip()[:200]}
