"""Posts notices to one address, in order, until each is taken or given up. One task a target."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import trio

from runner.alerts.delivery import Notice, Queue, delay_s, headers, is_tried_again, target_key
from runner.alerts.target import Allowed, TargetRefusedError, chosen
from runner.envelope import new_id
from runner.logs import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

ATTEMPT_S: Final = 10.0


class Webhook:
    """One target. `put` never waits; `run` delivers."""

    def __init__(
        self,
        url: str,
        secret: str,
        allowed: Allowed,
        attempts: int,
        *,
        unix_ms: Callable[[], int],
        rng: Random | None = None,
    ) -> None:
        self.key = target_key(url)
        self.queue = Queue()
        self.undelivered_total = 0
        self.is_dirty = False
        """The queue changed since it was last saved."""
        self._url, self._secret, self._allowed, self._attempts = url, secret, allowed, attempts
        self._host = urlsplit(url).hostname or ""
        self._unix_ms = unix_ms
        self._rng = rng or Random()  # jitter is no secret
        self._news = trio.Event()

    def put(self, event: str, event_id: str, body: bytes, *, is_counted: bool = True) -> None:
        """Deliver this, after what waits already."""
        lost = self.queue.put(Notice(self.key, event_id, event, body.decode(), is_counted=is_counted))
        self.is_dirty = True
        if lost is not None:
            self._give_up(lost, "too many wait")
        self._news.set()

    def restore(self, notices: tuple[Notice, ...]) -> None:
        """What waited when the last run ended."""
        self.queue = Queue(notices)

    async def run(self) -> None:
        """Deliver until cancelled."""
        import httpx2

        # No keep-alive: an alert comes once an hour, and a connection that idles may be dead by then.
        limits = httpx2.Limits(max_keepalive_connections=0)
        async with httpx2.AsyncClient(
            trust_env=False, follow_redirects=False, timeout=ATTEMPT_S, limits=limits
        ) as client:
            while True:
                notice = self.queue.first
                if notice is None:
                    self._news = trio.Event()
                    await self._news.wait()
                    continue
                wait_s = (notice.not_before_ms - self._unix_ms()) / 1000
                if wait_s > 0:
                    await trio.sleep(min(wait_s, 3600.0))  # the wall clock may be set meanwhile
                    continue
                await self._attempt(client, notice)

    async def _attempt(self, client: httpx2.AsyncClient, notice: Notice) -> None:
        status, retry_after, problem = await self._post(client, notice)
        self.is_dirty = True
        if status is not None and 200 <= status < 300:
            self.queue.done(notice)
            return
        said = problem or f"status {status}"
        is_over = status is not None and not is_tried_again(status)
        if is_over or notice.attempts + 1 >= self._attempts:
            self.queue.done(notice)
            self._give_up(replace(notice, attempts=notice.attempts + 1), said)
            return
        wait_s = delay_s(notice.attempts + 1, retry_after, self._unix_ms(), self._rng)
        self.queue.failed(notice, self._unix_ms() + round(1000 * wait_s))
        logger().warning(
            "alert webhook failed",
            host=self._host,
            problem=said,
            attempt=notice.attempts + 1,
            delayMs=round(1000 * wait_s),
        )

    def _give_up(self, notice: Notice, why: str) -> None:
        self.undelivered_total += notice.is_counted
        logger().error(
            "alert not delivered",
            channel="webhook",
            host=self._host,
            problem=why,
            notice=notice.event,
            attempts=notice.attempts,
        )

    async def _post(
        self, client: httpx2.AsyncClient, notice: Notice
    ) -> tuple[int | None, str | None, str | None]:
        """Status and Retry-After, or what kept the answer from coming; 400 for what the guard refuses."""
        import httpx2

        body, now_ms = notice.body.encode(), self._unix_ms()
        made = headers(body, notice, self._secret, new_id("req", now_ms), now_ms)
        try:
            with trio.fail_after(ATTEMPT_S):
                address = chosen(self._host, await self._addresses(), self._allowed)
                url = httpx2.URL(self._url)
                made["host"] = url.netloc.decode("ascii")
                request = client.build_request(
                    "POST",
                    url.copy_with(host=address),
                    content=body,
                    headers=made,
                    extensions={"sni_hostname": self._host},
                )
                answer = await client.send(request, stream=True)
                try:  # the body says nothing to us, and may be endless
                    return answer.status_code, answer.headers.get("retry-after"), None
                finally:
                    await answer.aclose()
        except TargetRefusedError as error:
            return 400, None, str(error)
        except trio.TooSlowError:
            return None, None, f"no answer within {ATTEMPT_S:g} s"
        except Exception as error:  # foreign code, foreign answers: whatever it is, the runner goes on
            return None, None, f"{type(error).__name__}: {error}"

    async def _addresses(self) -> list[str]:
        try:
            return [str(ipaddress.ip_address(self._host))]
        except ValueError:
            found = await trio.socket.getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
            return [str(entry[4][0]) for entry in found]
