"""An HTTP proxy that notes what passes when: the outside view of "the socket became readable".

    python -m bench.scenarios.tap LOG

Prints its port and serves until it is ended. Each line of its input, `[control, route, body]`, is an order
for a control port, so that the process that waits for the effect has nothing to do with HTTP meanwhile. A
client that gives a user name to the proxy (`http://NAME:x@…`) finds it in the log: one line `NAME
NANOSECONDS BYTES` for each write to it, by the machine's monotonic clock, taken right before the write. On
loopback a write is readable at the other end when it returns. What came from it is `>NAME NANOSECONDS BYTES`,
taken when it was read.
"""

import base64
import json
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from runner.sim import SimulatorControl

CHUNK = 65_536
HEAD_BYTES = 8_192


def name_of(head: bytes) -> str:
    """The user name in a CONNECT request's `Proxy-Authorization`; empty without one."""
    for line in head.decode("latin-1").split("\r\n"):
        key, _, value = line.partition(":")
        if key.strip().lower() == "proxy-authorization":
            return base64.b64decode(value.split()[-1]).decode().partition(":")[0]
    return ""


def address_of(head: bytes) -> tuple[str, int]:
    """Where a CONNECT request wants to go."""
    host, _, port = head.split()[1].decode("latin-1").rpartition(":")
    return host.strip("[]"), int(port)


def forward(source: socket.socket, target: socket.socket, name: str, log: TextIO) -> None:
    """From one to the other until either ends; then both."""
    try:
        while data := source.recv(CHUNK):
            now_ns = time.monotonic_ns()
            target.sendall(data)
            log.write(f"{name} {now_ns} {len(data)}\n")
    except OSError:
        pass
    finally:
        for end in (source, target):
            end.close()


def serve(client: socket.socket, log: TextIO) -> None:
    """One CONNECT and all that follows."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < HEAD_BYTES:
        if not (more := client.recv(HEAD_BYTES)):
            return client.close()
        head += more
    upstream = socket.create_connection(address_of(head))
    for end in (client, upstream):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    name = name_of(head)
    threading.Thread(target=forward, args=(client, upstream, f">{name}", log), daemon=True).start()
    forward(upstream, client, name, log)
    return None


def obey() -> None:
    """Pass on the orders on standard input, one at a time."""
    for line in sys.stdin:
        control, route, body = json.loads(line)
        SimulatorControl(control).post(route, body)


def main() -> None:
    """Serve until ended."""
    threading.Thread(target=obey, daemon=True).start()
    with (
        Path(sys.argv[1]).open("w", buffering=1) as log,
        socket.create_server(("127.0.0.1", 0), backlog=1024) as listener,
    ):
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client, log), daemon=True).start()


if __name__ == "__main__":
    main()
