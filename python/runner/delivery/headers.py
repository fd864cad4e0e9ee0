"""The headers of one attempt. Pure."""

from __future__ import annotations

import hashlib
import hmac


def headers(
    body: bytes, event_id: str, attempt: int, secret: str, request_id: str, now_ms: int
) -> dict[str, str]:
    """Signed over the raw body, and once more (v2) over the time of sending, a dot and the body.

    `event_id` is the same at every attempt, `request_id` never; `attempt` counts from 1.
    """
    made = {
        "content-type": "application/json",
        "user-agent": "wa-runner",
        "idempotency-key": event_id,
        "x-webhook-request-id": request_id,
        "x-webhook-timestamp": str(now_ms),
        "x-webhook-attempt": str(attempt),
    }
    if secret:
        key = secret.encode()
        made |= {
            "x-webhook-hmac": hmac.new(key, body, hashlib.sha512).hexdigest(),
            "x-webhook-hmac-algorithm": "sha512",
            "x-webhook-hmac-v2": hmac.new(key, f"{now_ms}.".encode() + body, hashlib.sha512).hexdigest(),
            "x-hub-signature-256": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest(),
        }
    return made
