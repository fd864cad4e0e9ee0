"""Where alerts go beside the log and the WebSockets: files, webhooks, apprise. None waits for another."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from runner.alerts import delivery
from runner.alerts.engine import What
from runner.alerts.files import ALERTS, PERFORMANCE, RotatedWriter
from runner.alerts.warnable import Kind
from runner.alerts.webhook import Webhook
from runner.config_kinds import split_list
from runner.delivery.target import allowed_of
from runner.envelope import envelope, new_id
from runner.logs import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runner.alerts.engine import Alert, Transition
    from runner.alerts.mail import Mail
    from runner.config import Settings
    from runner.metrics import Metrics

SAVE_S: Final = 1.0
_MAIL_KINDS: Final = {"critical": "failure", "warning": "warning"}


class Channels:
    """All channels of one process."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        put_meta: Callable[[str, str], None],
        unix_ms: Callable[[], int],
        version: str,
        mails: Sequence[Mail] = (),
    ) -> None:
        """Errors: StartError when a log file cannot be written."""
        self._metrics = metrics
        self._put_meta = put_meta
        self._unix_ms = unix_ms
        self._version = version
        self._mails = mails
        file = partial(_file, settings)
        self._alerts, self._performance = file(ALERTS), file(PERFORMANCE)
        allowed = allowed_of(split_list(settings.alert_webhook_allow))
        self._webhooks = [
            Webhook(
                url,
                settings.alert_webhook_secret,
                allowed,
                settings.alert_webhook_attempts,
                unix_ms=unix_ms,
            )
            for url in dict.fromkeys(split_list(settings.alert_webhook_urls))
        ]

    @property
    def undelivered_total(self) -> int:
        """Notices that were given up."""
        mails = sum(it.undelivered_total for it in self._mails)
        return mails + sum(it.undelivered_total for it in self._webhooks)

    def restore(self, meta: Mapping[str, str]) -> None:
        """What the webhooks of the last run had not taken; of a target that is gone it is dropped."""
        problems: list[str] = []
        notices = delivery.restored(meta, problems)
        for problem in problems:
            logger().warning("alert webhook queue damaged", problem=problem)
        for webhook in self._webhooks:
            webhook.restore(tuple(it for it in notices if it.target == webhook.key))
        lost = len(notices) - sum(len(it.queue) for it in self._webhooks)
        if lost:
            logger().warning(
                "alert webhooks dropped", notices=lost, problem="their target is not set any more"
            )

    def reload(self) -> None:
        """Open the files anew: logrotate may have moved them."""
        self._alerts.reopen()
        self._performance.reopen()

    def close(self) -> None:
        """Write what waits."""
        self._alerts.close()
        self._performance.close()

    async def run(self) -> None:
        """Serve every channel until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_samples)
                for mail in self._mails:
                    nursery.start_soon(mail.run)
                if self._webhooks:
                    # Half a second of imports, on a thread, so that it does not stop the dials.
                    await trio.to_thread.run_sync(__import__, "httpx2")
                    nursery.start_soon(self._save_queues)
                for webhook in self._webhooks:
                    nursery.start_soon(webhook.run)
        finally:
            self._save_queue()

    def tell(self, transition: Transition, session: str | None) -> None:
        """Hand it to every channel; never waits."""
        alert, event = transition.alert, transition.what.value
        payload = alert.to_json()
        line = self._line(event, payload, transition.at_ms)
        is_counted = alert.alert != delivery.UNDELIVERED
        self._alerts.write(line)
        if alert.kind == Kind.PERFORMANCE:
            self._performance.write(line)
        if self._webhooks:
            event_id = new_id("evt", transition.at_ms)
            body = envelope(event, session, payload, self._version, transition.at_ms, event_id)
            for webhook in self._webhooks:
                webhook.put(event, event_id, body, is_counted=is_counted)
            self._save_queue()
        if transition.what is not What.ACKNOWLEDGED:
            for mail in self._mails:
                mail.put(*_letter(alert, transition.what), is_counted=is_counted)

    def _line(self, event: str, values: Mapping[str, object], at_ms: int) -> str:
        ts = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
        return msgspec.json.encode({"ts": ts.replace("+00:00", "Z"), "event": event, **values}).decode()

    async def _write_samples(self) -> None:
        """One line of system metrics for each sample."""
        while True:
            await self._metrics.next_sample()
            use = self._metrics.machine.process()
            states = {name: number for name, number in self._metrics.states().items() if number}
            values = {
                **self._metrics.system(),
                "rss": use.rss_bytes,
                "openFds": use.open_fds,
                "cpuSeconds": round(use.cpu_s, 3),
                "loopLag": round(self._metrics.loop_lag_s, 6),
                "states": states,
            }
            self._performance.write(self._line("system.metrics", values, self._unix_ms()))

    async def _save_queues(self) -> None:
        while True:
            await trio.sleep(SAVE_S)
            self._save_queue()

    def _save_queue(self) -> None:
        if any(it.is_dirty for it in self._webhooks):
            self._put_meta(delivery.QUEUE_KEY, delivery.saved_json(it.queue for it in self._webhooks))
            for webhook in self._webhooks:
                webhook.is_dirty = False


def _file(settings: Settings, name: str) -> RotatedWriter:
    return RotatedWriter(settings.log_path / name, settings.log_max_bytes, settings.log_keep)


def _letter(alert: Alert, what: What) -> tuple[str, str, str]:
    """Title, body and type of a notice for people."""
    is_over = what is What.RESOLVED
    title = f"runner: {alert.alert} {'resolved' if is_over else alert.severity}"
    about = f"about: {alert.about}\n" if alert.about else ""
    body = f"{about}{alert.text}" + ("" if is_over else f"\n\n{alert.remedy}")
    return title, body, "success" if is_over else _MAIL_KINDS[alert.severity]
