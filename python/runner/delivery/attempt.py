"""One attempt: the guard judges the addresses, the connection goes to one of them, the status comes back."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import trio

from runner.delivery.retry import is_tried_again
from runner.delivery.target import TargetRefusedError, chosen

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx2

    from runner.delivery.target import Allowed

ATTEMPT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt."""

    status: int | None = None
    """None: no answer came."""
    retry_after: str | None = None
    problem: str | None = None
    """What kept the answer from coming."""

    @property
    def is_taken(self) -> bool:
        """The receiver has it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_final(self) -> bool:
        """Another attempt would end no other way."""
        return self.status is not None and not is_tried_again(self.status)

    @property
    def said(self) -> str:
        """In words, without anything that was sent."""
        return self.problem or f"status {self.status}"


def client(connections: int) -> httpx2.AsyncClient:
    """A client that keeps no connection: one that idles may be dead by the next event.

    It reads no proxy from the environment and follows no redirect: both lead past the guard.
    """
    import httpx2

    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=0)
    return httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=ATTEMPT_S, limits=limits)


async def post(
    client: httpx2.AsyncClient,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    allowed: Allowed,
    attempt_s: float = ATTEMPT_S,
) -> Outcome:
    """Post `body` once. What network and receiver do is no error; status 400 for what the guard refuses."""
    import httpx2

    host = urlsplit(url).hostname or ""
    try:
        with trio.fail_after(attempt_s):
            address = chosen(host, await addresses(host), allowed)
            target = httpx2.URL(url)
            request = client.build_request(
                "POST",
                target.copy_with(host=address),
                content=body,
                headers={**headers, "host": target.netloc.decode("ascii")},
                extensions={"sni_hostname": host},
            )
            answer = await client.send(request, stream=True)
            try:  # the body says nothing to us, and may be endless
                return Outcome(answer.status_code, answer.headers.get("retry-after"))
            finally:
                await answer.aclose()
    except TargetRefusedError as error:
        return Outcome(400, None, str(error))
    except trio.TooSlowError:
        return Outcome(problem=f"no answer within {attempt_s:g} s")
    except Exception as error:  # foreign code, foreign answers: whatever it is, the runner goes on
        return Outcome(problem=f"{type(error).__name__}: {error}")


async def addresses(host: str) -> list[str]:
    """Where a name leads. Errors: OSError when nowhere."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return [str(entry[4][0]) for entry in found]
