"""What is generated from the table of metrics: the page, the board, the rules."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from runner.metric_definitions import (
    DEFINITIONS,
    HISTORY,
    PROMETHEUS,
    SESSION_METRICS,
    SYSTEM_METRICS,
)
from runner.metric_docs import Alert, board, document, rules
from runner.session import State

if TYPE_CHECKING:
    from pathlib import Path

AWKWARD = Alert(
    "MemoryHigh", 'runner_memory_used_bytes{a="b"} > 1', 120.4, "warning", 'say: "x" \\ {{ $value }} # no'
)


def test_the_names_of_the_brief_are_there() -> None:
    assert SYSTEM_METRICS == ("totalMemory", "usedMemory", "cpuUsage", "activeConnections", "errorRate")
    assert {
        "connectionUptime",
        "messagesProcessed",
        "messagesPerMinute",
        "averageResponseTime",
        "errorCount",
        "reconnectCount",
    } <= set(SESSION_METRICS)
    assert {f"sessions.{state}" for state in State} <= HISTORY.keys()


def test_each_definition_says_what_it_is_and_is_on_the_page() -> None:
    page = document()
    for it in DEFINITIONS:
        assert it.json or it.prometheus
        assert it.what
        assert not it.what.endswith(".")
        assert f"`{it.json}`" in page or f"`{it.series}" in page
    assert len(PROMETHEUS) == sum(bool(it.prometheus) for it in DEFINITIONS)


def test_prometheus_names_follow_its_rules() -> None:
    for name, it in PROMETHEUS.items():
        assert (it.kind == "counter") == name.endswith("_total"), name
        assert it.unit != "bytes" or re.search("_bytes(_total)?$|^bytes_", name), name
        assert it.unit != "s" or re.search("_seconds(_total)?$", name), name


def test_the_board_draws_series_that_exist() -> None:
    made = json.loads(board())
    drawn = {
        name
        for panel in made["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\brunner_\w+", target["expr"])
    }
    series = {it.series for it in PROMETHEUS.values()}
    assert {name.removesuffix("_bucket") for name in drawn} <= series
    assert {"runner_cpu_ratio", "runner_memory_used_bytes", "runner_sessions"} <= drawn
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])
    assert len({str(panel["gridPos"]) for panel in made["panels"]}) == len(made["panels"])


def checked(path: Path, text: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        assert not os.environ.get("CI"), ".ci/run installs it"
        pytest.skip("promtool (Debian: prometheus) is not installed")
    path.write_text(text)
    return subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False
    )


def test_prometheus_own_checker_accepts_the_rules(tmp_path: Path) -> None:
    done = checked(tmp_path / "rules.yml", rules([AWKWARD]))
    assert done.returncode == 0, done.stderr
    assert "8 rules found" in done.stdout
    wrong = checked(tmp_path / "wrong.yml", rules([AWKWARD._replace(expr="runner_x >")]))
    assert wrong.returncode != 0, "the checker checks nothing"


def test_prometheus_own_checker_reads_the_boards_queries(tmp_path: Path) -> None:
    lines = ["groups:", "  - name: board", "    rules:"]
    queries = [target["expr"] for panel in json.loads(board())["panels"] for target in panel["targets"]]
    for number, query in enumerate(queries):
        plain = query.replace("$__rate_interval", "1m").replace("$instance", ".*")
        lines += [f"      - record: board:q{number}", f"        expr: {json.dumps(plain)}"]
    done = checked(tmp_path / "board.yml", "\n".join(lines) + "\n")
    assert done.returncode == 0, done.stderr


def test_rules_carry_what_the_alert_says() -> None:
    text = rules([AWKWARD])
    assert "        for: 120s" in text
    assert f"summary: {json.dumps(AWKWARD.summary)}" in text
