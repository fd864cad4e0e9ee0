"""How this process ends: told to stop, replaced by a new one, or over its memory; and what systemd hears of
it.

A restart is refused, and changes nothing, when the new process could not start: a child with the same command
and environment first loads everything that a start loads (`config check --start`), with the code and the
settings that are there now.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import trio

from runner import memory_limit
from runner.errors import RefusedError, RunnerError
from runner.handover import BY_MEMORY, Restart
from runner.logs import logger
from runner.memory_limit import Look, Verdict, judge, least_uptime_s
from runner.notify import Notifier

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping

    from runner.config import Settings
    from runner.handover import Door
    from runner.supervisor import Supervisor

REHEARSAL_S: Final = 60.0
AGAIN_S: Final = 60.0
"""Until a restart for memory that was refused is tried again."""
MEMORY_LIMIT: Final = "memory_limit"
_MIB: Final = 1024 * 1024


class Lifetime:
    """The end of one process. Use it from the Trio thread."""

    def __init__(
        self,
        door: Door,
        before: Restart | None,
        environ: Mapping[str, str],
        pid: int,
        *,
        settings: Callable[[], Settings],
        begin_end: Callable[[], None],
        reference: str | None = None,
    ) -> None:
        """`begin_end` starts the orderly end of the process, which asks `restart_wanted` what comes then.
        `reference` is the app (`MODULE:NAME`) that the next process has to load as well."""
        self.before = before
        self.notifier = Notifier(environ, pid)
        self.restart_wanted: Restart | None = None
        self._reference = reference
        self._door = door
        self._environ = environ
        self._pid = pid
        self._settings = settings
        self._begin_end = begin_end
        self._started = time.monotonic()
        self._started_at = round(time.time() * 1000)
        self._is_rehearsing = False
        self._is_stopping = False

    @property
    def uptime_s(self) -> float:
        """Since this process, or the one that took over its id, began."""
        return time.monotonic() - self._started

    def report(self) -> dict[str, object]:
        """The process, for `/health`."""
        last = self.before
        return {
            "pid": self._pid,
            "startedAt": self._started_at,
            "uptime": round(self.uptime_s, 3),
            "restarts": last.count if last else 0,
            "lastRestart": last and {"reason": last.reason, "detail": last.detail, "at": last.at_unix_ms},
        }

    def stop(self) -> None:
        """Told to stop: no restart follows, not even one that has begun; from now on callers are refused."""
        self._is_stopping = True
        self.restart_wanted = None
        self._door.stop_listening()
        self.notifier.stopping()

    async def restart(self, reason: str, detail: str) -> None:
        """Begin a restart once it is clear that the new process can start.

        Errors: RefusedError with what stands in the way; this process goes on as if nothing had been asked.
        """
        if self._is_stopping or self._is_rehearsing or self.restart_wanted is not None:
            raise RefusedError("ending", "the runner is restarting or stopping already", "wait a few seconds")
        self._is_rehearsing = True
        try:
            await self._check_that_it_can_start()
        finally:
            self._is_rehearsing = False
        if self._is_stopping:
            raise RefusedError("ending", "the runner was told to stop in the meantime")
        before = self.before
        streak = before.streak if before else 0
        self.restart_wanted = Restart(
            reason,
            detail,
            round(time.time() * 1000),
            count=1 + (before.count if before else 0),
            streak=memory_limit.next_streak(streak, self.uptime_s) if reason == BY_MEMORY else 0,
        )
        logger().warning("runner restarting", reason=reason, detail=detail, uptime=round(self.uptime_s))
        self.notifier.reloading()
        self._begin_end()

    async def _check_that_it_can_start(self) -> None:
        command = [sys.executable, "-m", "runner", "config", "check", "--start", "--json"]
        if self._reference is not None:
            command += ["--app", self._reference]
        done: subprocess.CompletedProcess[bytes] | None = None
        problem = ""
        try:
            with trio.move_on_after(REHEARSAL_S):
                done = await trio.run_process(
                    command, capture_stdout=True, capture_stderr=True, check=False, env=dict(self._environ)
                )
        except* OSError as group:  # no descriptor, no memory, no process is to be had
            problem = str(group.exceptions[0])
        if problem:
            raise RefusedError("rehearsal", f"the new process could not be made: {problem}")
        if done is None:
            raise RefusedError("rehearsal", f"the new process did not load within {REHEARSAL_S:g} s")
        said = _said(done.stdout)
        if done.returncode != 0:
            problems = said.get("problems") or _last_line(done.stderr)
            raise RefusedError(
                "cannot_start",
                f"the new process could not start: {'; '.join(problems)}",
                "this one goes on; look with: python -m runner config check --start",
            )
        try:
            self._door.try_to_open(said.get("locks", []), said.get("listeners", []))
        except RunnerError as error:
            raise RefusedError(
                "cannot_start", f"the new process could not start: {error}", error.remedy
            ) from error

    async def watch_memory(self, supervisor: Supervisor) -> None:
        """Restart when the limit asks for it, until cancelled."""
        looks_over = 0
        while True:
            await trio.sleep(memory_limit.LOOK_S)
            limit = self._settings().max_memory_restart
            try:
                rss = memory_limit.rss_bytes()
            except OSError:  # no file descriptor is free: that is no reason to end, and the next look may see
                continue
            looks_over = looks_over + 1 if limit and rss > limit else 0
            streak = self.before.streak if self.before else 0
            verdict = judge(
                Look(
                    rss_bytes=rss,
                    limit_bytes=limit,
                    uptime_s=self.uptime_s,
                    streak=streak,
                    looks_over=looks_over,
                )
            )
            over = f"the process holds {rss // _MIB} MiB, WHATSAPP_MAX_MEMORY_RESTART is {limit // _MIB} MiB"
            if verdict is Verdict.FINE:
                supervisor.machine.end_incident(MEMORY_LIMIT, "")
            elif verdict is Verdict.TOO_YOUNG:
                text = (
                    f"{over}; after {self.uptime_s:.0f} s already, so a restart would not help for long: none"
                    f" before {least_uptime_s(streak):.0f} s. Raise the limit, or run fewer sessions"
                )
                supervisor.machine.raise_incident(MEMORY_LIMIT, "", "critical", text)
            elif verdict is Verdict.RESTART:
                await self._restart_for_memory(supervisor, over)

    async def _restart_for_memory(self, supervisor: Supervisor, over: str) -> None:
        try:
            await self.restart(BY_MEMORY, over)
        except RefusedError as error:
            if self._is_stopping or self.restart_wanted is not None:
                return
            supervisor.machine.raise_incident(
                MEMORY_LIMIT, "", "critical", f"{over}; a restart is refused: {error}"
            )
            await trio.sleep(AGAIN_S)


def _said(stdout: bytes) -> dict[str, Any]:
    try:
        said = json.loads(stdout)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _last_line(stderr: bytes) -> list[str]:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return [lines[-1][:500]] if lines else ["it ended without a word"]
