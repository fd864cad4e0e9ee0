"""The same work done by real Baileys, in the same run: its benches live in `tests/interop/baileys`."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from support.processes import BAILEYS, SimulatorProcess


def run(script: str, *args: str, timeout_s: float = 1200.0) -> dict[str, Any]:
    """Run one of the benches there and return what it saved."""
    name = "peer_" + script.removeprefix("bench_").removesuffix(".mjs")
    subprocess.run(
        ["node", script, *args, "--name", name],
        cwd=BAILEYS,
        check=True,
        timeout=timeout_s,
        stdout=subprocess.DEVNULL,
    )
    result = BAILEYS / "results" / f"{name}.json"
    saved: dict[str, Any] = json.loads(result.read_text())
    result.unlink()
    return saved


@dataclass(frozen=True, slots=True)
class Receiver:
    """Every session of a simulator in one process of Baileys (`sim_receiver.mjs`)."""

    pid: int
    version: str
    asks: IO[str]
    answers: IO[str]

    def texts(self) -> int:
        """How many texts it has decrypted."""
        self.asks.write("\n")
        self.asks.flush()
        return int(json.loads(self.answers.readline())["texts"])


@contextmanager
def receiver(simulator: SimulatorProcess) -> Iterator[Receiver]:
    """Online, until the block ends. Errors: ValueError when one did not log in; stderr says why."""
    info = {
        "url": simulator.url,
        "rootKeyHex": simulator.root_key_hex,
        "credentials": str(simulator.credentials),
        "caFile": simulator.ca_file and str(simulator.ca_file),
    }
    command = ["node", "sim_receiver.mjs", json.dumps(info)]
    version = json.loads((BAILEYS / "node_modules/baileys/package.json").read_text())["version"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=BAILEYS, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            json.loads(child.stdout.readline())  # all are online
            yield Receiver(child.pid, version, child.stdin, child.stdout)
        finally:
            child.kill()
