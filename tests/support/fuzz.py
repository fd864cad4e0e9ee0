"""Runs schemathesis against a runner: all checks, a fixed seed, in a process of its own.

Its own process, because it brings its own pytest plugin, warnings and a second of imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from support.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from support.pair import Pair

SEED = 20_261_126

CONFIG = """
base-url = "http://{address}"
seed = {seed}
continue-on-failure = true
request-timeout = 20
hooks = "{root}/tests/support/fuzz_hooks.py"

[headers]
X-Api-Key = "{token}"

[generation]
max-examples = {examples}
no-shrink = true
database = "none"

[warnings]
fail-on = true

[phases.stateful]
max-steps = 6

# Whether credentials can be taken, and a proxy be used, no schema can say.
[[operations]]
include-path = ["/api/sessions", "/api/sessions/{{session_id}}"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422"]

# How many codes there may be, no schema can say either.
[[operations]]
include-path = "/api/{{session_id}}/auth/request-code"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "429"]

# Each call of it restarts the runner.
[[operations]]
include-path = "/api/restart"
phases.fuzzing.enabled = false
phases.stateful.enabled = false
"""


def fuzz(
    p: Pair, directory: Path, address: str, token: str, examples: int
) -> subprocess.CompletedProcess[str]:
    """One run; its exit code is 0 when every check of every call held."""
    config = directory / "schemathesis.toml"
    config.write_text(
        CONFIG.format(address=address, seed=SEED, token=token, examples=examples, root=ROOT), encoding="utf-8"
    )
    env = os.environ | {
        "PYTHONPATH": str(ROOT / "tests"),
        "FUZZ_SOCKET": str(p.runner.socket),
        "FUZZ_CONTROL": p.simulator.control,
        "FUZZ_CREDENTIALS": str(p.simulator.credentials),
    }
    command = ["-m", "schemathesis.cli", f"--config-file={config}", "run", f"http://{address}/openapi.json"]
    return subprocess.run(
        [sys.executable, *command, "--checks=all"],
        env=env,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=3600,
    )
