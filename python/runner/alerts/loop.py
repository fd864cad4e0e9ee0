"""The loop around the engine: looks once a second, tells the channels, and does what operators ask.

Nothing here waits for a channel: each has a queue and a task, or a thread, of its own. A look reads counters,
the open incidents and the sessions that changed since the last one, whatever the size of the fleet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
import trio

from runner.alerts import saved
from runner.alerts.census import GROUP_ABOVE, Census
from runner.alerts.engine import Engine, Observation, Silence, State, Transition, What, counts
from runner.alerts.facts import Windows
from runner.alerts.rules import INCIDENT_RULES, RULES, threshold_of
from runner.alerts.sessions import OFFLINE, Condition, condition_of
from runner.config_kinds import did_you_mean
from runner.envelope import new_id
from runner.errors import AdminError
from runner.supervisor.feed import StatusEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runner.alerts.channels import Channels
    from runner.alerts.readings import Readings
    from runner.config import Settings
    from runner.reconnect.incidents import Incident
    from runner.supervisor.machine import Machine

log = structlog.get_logger()

LOOK_S: Final = 1.0
ROWS_A_STEP: Final = 200


class Alerts:
    """All alerts of this process. Use it from the Trio thread that runs `run`."""

    def __init__(self, machine: Machine, readings: Readings, channels: Channels, settings: Settings) -> None:
        self._machine = machine
        self._readings = readings
        self._channels = channels
        self._census = Census(RULES, settings.alert_patience)
        self._windows = Windows(settings.alert_patience)
        self._state = State()
        self._grouped: set[str] = set()
        self._unknown: set[str] = set()
        self._looked_at_ms = machine.unix_ms()
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Other thresholds from now on."""
        self._engine = Engine(
            RULES,
            {slug: threshold_of(rule, settings) for slug, rule in RULES.items()},
            settings.alert_patience,
            lambda unix_ms: new_id("al", unix_ms),
        )

    def restore(self, meta: Mapping[str, str]) -> None:
        """Take over what the last run knew. What is damaged is reported and dropped."""
        settle_ms = round(1000 * saved.SETTLE_S * self._engine.patience)
        self._state, problems = saved.restored(meta, RULES, self._machine.unix_ms(), settle_ms)
        for problem in problems:
            log.warning("alert state damaged", problem=problem)

    async def run(self) -> None:
        """Look, tell and save until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._readings.watch_disk)
            nursery.start_soon(self._channels.run)
            while True:
                await trio.sleep(LOOK_S)
                if self._machine.is_stopping:  # what ends now was asked to
                    continue
                try:
                    await self.look()
                except Exception:  # a bug here must not cost ten thousand connections
                    log.exception("alerts: a look failed")

    async def look(self) -> None:
        """One look at everything, and what follows from it."""
        machine = self._machine
        now_ms = machine.unix_ms()
        changed, machine.touched = machine.touched, set()
        for number, session_id in enumerate(changed, 1):
            self._census.put(session_id, self._condition(session_id), now_ms)
            if number % ROWS_A_STEP == 0:
                await trio.lowlevel.checkpoint()
        observations = [
            *self._incidents(),
            *self._census.observations(self._recheck, now_ms),
            *self._windows.observations(self._readings.read(), machine.now()),
        ]
        self._looked_at_ms = now_ms
        self._state, told = self._engine.step(self._state, observations, now_ms)
        self._tell(told)

    def _condition(self, session_id: str) -> Condition | None:
        row = self._machine.rows.get(session_id)
        return None if row is None else condition_of(row, self._machine)

    def _recheck(self, session_id: str) -> tuple[Condition | None, bool]:
        condition = self._condition(session_id)
        is_free = condition is not None and condition.slug == OFFLINE and condition.explained_by is None
        return condition, is_free and self._machine.dials.is_waiting(session_id)

    def _incidents(self) -> Iterator[Observation]:
        """The incidents of supervisor and health; above a few of one kind, as one."""
        by_kind: dict[str, list[Observation]] = {}
        for it in (*self._machine.incidents.open(), *self._short_ones()):
            if it.kind in INCIDENT_RULES:
                by_kind.setdefault(it.kind, []).append(
                    Observation(it.kind, it.key, it.text, since_ms=it.opened_at)
                )
            elif it.kind not in self._unknown:
                self._unknown.add(it.kind)
                log.error("no alert for an incident", incident=it.kind)
        self._grouped &= by_kind.keys()
        for kind, found in by_kind.items():
            if len(found) > GROUP_ABOVE:
                self._grouped.add(kind)
            if kind in self._grouped:
                first = found[0]
                yield Observation(
                    kind, "", f"{len(found)} times: {first.text}", float(len(found)), first.since_ms
                )
            else:
                yield from found

    def _short_ones(self) -> Iterator[Incident]:
        """What began and ended between two looks: told as well, and over at the next look."""
        incidents = self._machine.incidents
        for it in reversed(incidents.closed()):
            if it.closed_at is None or it.closed_at < self._looked_at_ms:
                return
            if it.opened_at >= self._looked_at_ms and not incidents.is_open(it.kind, it.key):
                yield it

    def _tell(self, told: list[Transition]) -> None:
        for it in told:
            alert = it.alert
            # `text` would be redacted as if it were somebody's message.
            line = {
                "alert": alert.alert,
                "about": alert.about or None,
                "class": alert.kind,
                "severity": alert.severity,
                "detail": alert.text,
                "id": alert.id,
            }
            if it.what is What.FIRING:
                level = log.error if alert.severity == "critical" else log.warning
                level("alert firing", remedy=alert.remedy, **line)
            elif it.what is What.RESOLVED:
                log.info("alert resolved", **line)
            else:
                log.info("alert acknowledged", by=alert.acknowledged_by, **line)
            about = alert.about if alert.about in self._machine.rows else ""
            self._machine.feed.publish(StatusEvent(it.what.value, about, it.at_ms, None, alert.to_json()))
            self._channels.tell(it, about or None)
        self._save(told)

    def _save(self, told: list[Transition]) -> None:
        if told:
            self._machine.store.put_meta(saved.ACTIVE_KEY, saved.active_json(self._state))
        if any(it.what is What.RESOLVED for it in told):
            self._machine.store.put_meta(saved.HISTORY_KEY, saved.history_json(self._state))

    # -- what operators see and do ---------------------------------------------------------------------------

    def active(self) -> dict[str, object]:
        """What is wrong now, the worst first."""
        shown = sorted(
            self._state.shown(), key=lambda it: (it.suppressed_by is not None, it.severity, it.since)
        )
        return {
            "active": [it.to_json() for it in shown],
            "counts": counts(shown),
            "silences": self.silences(),
        }

    def history(self, limit: int, before: str | None) -> dict[str, object]:
        """The resolved ones, newest first, from before the alert of that id on."""
        newest_first = list(reversed(self._state.history))
        start = 0
        if before is not None:
            start = next((place + 1 for place, it in enumerate(newest_first) if it.id == before), 0)
            if start == 0:
                raise AdminError(404, "unknown_alert", f"no alert {before!r} in the history")
        page = newest_first[start : start + limit]
        has_more = bool(page) and start + limit < len(newest_first)
        return {"alerts": [it.to_json() for it in page], "next": page[-1].id if has_more else None}

    def definitions(self) -> dict[str, object]:
        """The rules with the thresholds in force."""
        engine = self._engine
        return {
            "definitions": [
                {
                    "alert": rule.slug,
                    "class": rule.kind.value,
                    "severity": rule.severity.value,
                    "setting": rule.variable,
                    "threshold": engine.thresholds.get(rule.slug),
                    "unit": rule.unit or None,
                    "forS": rule.for_s * engine.patience,
                    "clearS": rule.clear_s * engine.patience,
                    "meaning": rule.meaning,
                    "firstLook": rule.first_look,
                    "action": rule.action,
                    "dependsOn": list(rule.depends_on),
                }
                for rule in engine.rules.values()
            ]
        }

    def acknowledge(self, alert_id: str, by: str, note: str | None) -> dict[str, object]:
        """Somebody looks after it. Errors: AdminError 404."""
        return self._change(
            alert_id, lambda now: self._engine.acknowledge(self._state, alert_id, by, note, now)
        )

    def resolve(self, alert_id: str) -> dict[str, object]:
        """Resolve it until the condition becomes true anew. Errors: AdminError 404."""
        return self._change(alert_id, lambda now: self._engine.dismiss(self._state, alert_id, now))

    def _change(
        self, alert_id: str, change: Callable[[int], tuple[State, list[Transition]]]
    ) -> dict[str, object]:
        try:
            self._state, told = change(self._machine.unix_ms())
        except KeyError:
            raise AdminError(
                404,
                "unknown_alert",
                f"no alert {alert_id!r} is active",
                "list them with: python -m runner alerts",
            ) from None
        self._tell(told)
        alert = told[0].alert if told else self._state.find(alert_id)
        return alert.to_json() if alert is not None else {}

    def silences(self) -> list[dict[str, object]]:
        """Those in force."""
        now_ms = self._machine.unix_ms()
        return [it.to_json() for it in self._state.silences if it.until > now_ms]

    def silence(self, alert: str, about: str | None, minutes: float, note: str) -> dict[str, object]:
        """Do not tell these for a while. Errors: AdminError."""
        if alert != "*" and alert not in RULES:
            raise AdminError(
                422,
                "unknown_alert",
                f"there is no alert {alert!r}{did_you_mean(alert, RULES)}",
                "see docs/operating.md or GET /api/alerts/definitions, or use *",
            )
        now_ms = self._machine.unix_ms()
        made = Silence(new_id("sil", now_ms), alert, about, now_ms + round(minutes * 60_000), note)
        try:
            self._state = self._engine.silence(self._state, made)
        except OverflowError:
            raise AdminError(409, "too_many", "there are too many silences", "end some first") from None
        self._after_silence("alert silenced", made)
        return made.to_json()

    def unsilence(self, silence_id: str) -> dict[str, object]:
        """End a silence. Errors: AdminError 404."""
        made = next((it for it in self._state.silences if it.id == silence_id), None)
        if made is None:
            raise AdminError(404, "unknown_silence", f"there is no silence {silence_id!r}")
        self._state = self._engine.unsilence(self._state, silence_id)
        self._after_silence("alert silence ended", made)
        return made.to_json()

    def _after_silence(self, event: str, made: Silence) -> None:
        log.info(event, alert=made.alert, about=made.about, id=made.id, until=made.until, note=made.note)
        self._machine.store.put_meta(saved.ACTIVE_KEY, saved.active_json(self._state))
