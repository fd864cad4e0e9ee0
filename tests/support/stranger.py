"""Another user of this machine: a process that gives up root for `nobody` and says what it is told to.

`python -m support.stranger` reads `{"uid", "addresses": {name: [host, port] or path}, "calls": [[name,
address, base64, then], …]}` and writes `{name: base64 of all that came back, or "PermissionError" …}`.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from support.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

NOBODY = 65534
TIMEOUT_S = 5.0
"""For an answer to begin and to go on; whoever is refused is also hung up on, or has asked for it."""


class Call(NamedTuple):
    """Bytes to say to one of the addresses, and what they are called."""

    name: str
    address: str
    said: bytes
    then: str = "listen"
    """`listen` until the other side hangs up, `end` this side first, `hear` one piece, or `leave` at once."""


def request(line: str, *headers: str, body: bytes = b"", host: str = "localhost") -> bytes:
    """One HTTP/1.1 request after which the connection is closed."""
    lines = [f"{line} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def status_of(answer: bytes) -> int:
    """The status of the first answer that is one; 0 when there was none."""
    while answer.startswith(b"HTTP/1.1 100 "):
        _, _, answer = answer.partition(b"\r\n\r\n")
    words = answer.split(b" ", 2)
    return int(words[1]) if words[0].startswith(b"HTTP/") else 0


def ask(
    addresses: dict[str, list[object] | str], calls: Sequence[Call], uid: int = NOBODY
) -> dict[str, bytes]:
    """What each call got, asked by that user. Errors of connecting are given by name."""
    told = {
        "uid": uid,
        "addresses": addresses,
        "calls": [[it.name, it.address, base64.b64encode(it.said).decode(), it.then] for it in calls],
    }
    done = subprocess.run(
        [sys.executable, "-m", "support.stranger"],
        input=json.dumps(told),
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return {name: base64.b64decode(answer) for name, answer in json.loads(done.stdout).items()}


def _converse(address: list[object] | str, said: bytes, then: str) -> bytes:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as link:
        link.settimeout(TIMEOUT_S)
        answer = b""
        try:
            link.connect(address if isinstance(address, str) else tuple(address))
            link.sendall(said)
            if then == "leave":
                return b""
            if then == "end":
                link.shutdown(socket.SHUT_WR)
            while piece := link.recv(65536):
                answer += piece
                if then == "hear":
                    break
        except OSError as error:
            return answer or type(error).__name__.encode()
        return answer


def main() -> None:
    told = json.load(sys.stdin)
    os.setgroups([])
    os.setgid(told["uid"])
    os.setuid(told["uid"])
    answers = {
        name: base64.b64encode(_converse(told["addresses"][address], base64.b64decode(said), then)).decode()
        for name, address, said, then in told["calls"]
    }
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
