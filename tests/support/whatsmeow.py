"""Whole whatsmeow clients against our simulator: one program in Go, tests/interop/whatsmeow/client.

connect -> qr          code {phone} -> code      linked -> jid lid     disconnect
send {to, texts} -> ids                          received {count} -> texts unreadable
receipts {count} -> ids retries
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from support.signal_peers import WHATSMEOW, Program

if TYPE_CHECKING:
    from pathlib import Path

    from runner.sim import Simulator


def build(directory: Path) -> Path:
    """The program, compiled: 40 s on two cores the first time, 2 s from Go's own cache after that."""
    binary = directory / "client"
    command = ["go", "build", "-ldflags=-s -w", "-o", str(binary), "./client"]
    subprocess.run(command, cwd=WHATSMEOW, check=True)
    return binary


class Whatsmeow:
    """The clients of one simulator; ends with the `with` block of its program."""

    def __init__(self, program: Program) -> None:
        self.call = program.call

    def link(self, simulator: Simulator, name: str, phone: str, *, by_code: bool = False) -> dict[str, Any]:
        """A new client is linked by a phone, and logs in as what it became: `jid`, `lid`."""
        qr = self.call("connect", name)["qr"][0]
        if by_code:
            code = self.call("code", name, phone=phone)["code"]
            simulator.client.post("/enter-code", code=code, phone=phone)
        else:
            simulator.client.post("/pair", qr=qr, phone=phone)
        return self.call("linked", name)


def start(binary: Path, simulator: Simulator) -> Program:
    """A program whose clients dial this simulator, and trust its certificate root."""
    address = urlsplit(simulator.url).netloc
    return Program([str(binary), address, simulator.root_key_hex], binary.parent, stderr=None)
