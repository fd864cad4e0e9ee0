"""Every documented operation of a real runner under schemathesis: nothing but what the description says."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from support.fuzz import fuzz
from support.pair import pair

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = int(os.environ.get("FUZZ_API_EXAMPLES", "8"))
TOKEN = "a-token-of-the-fuzzer"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 30 * EXAMPLES)]


def test_the_api_is_what_its_description_says(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        # Loopback, but not as an address that is known to be: the token is demanded from everybody.
        "WHATSAPP_ADMIN_HOST": "127.1",
        "WHATSAPP_ADMIN_PORT": str(port),
        "WHATSAPP_ADMIN_TOKEN": TOKEN,
        "WHATSAPP_ADMIN_WRONG_TOKENS": "1000000",
        "WHATSAPP_LOG_LEVEL": "debug",
        "WHATSAPP_WEBHOOK_ALLOW": "127.0.0.1",
        # Something to acknowledge and to resolve.
        "WHATSAPP_ALERT_PATIENCE": "0.01",
        "WHATSAPP_MEMORY_THRESHOLD": "0.0001",
        "WHATSAPP_DISK_THRESHOLD": "0.0001",
        "WHATSAPP_FD_THRESHOLD": "0.0001",
    }
    with pair(tmp_path, 12, settings) as p:
        done = fuzz(p, tmp_path, f"127.0.0.1:{port}", TOKEN, EXAMPLES)
        print(done.stdout[-20_000:], done.stderr[-4000:])
        assert done.returncode == 0
        status, numbers = p.runner.request("GET", "/performance-metrics?limit=0")
        assert (status, numbers["process"]["handlerExceptions"]) == (200, 0)
