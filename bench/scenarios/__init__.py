"""Whole-process scenarios. Each writes `bench/results/NAME.json` with command and commit.

They share the process harness of the tests (`tests/support`).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
