"""The same work done by real Baileys, in the same run: its benches live in `tests/interop/baileys`."""

import json
import subprocess
from typing import Any

from support.processes import BAILEYS


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
