"""docs/pains.md: what operators suffer from, and the tests that keep each pain away.

A Python test names a pain with `@pytest.mark.pain(14)`, a Rust test with a doc comment line `/// Pain 14.`.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "pains.md"

PAINS: dict[int, tuple[str, str]] = {
    1: (
        "Deaf sessions, socket looks healthy",
        "noticed by application progress, that session alone rebuilt, no false alarm in a quiet day",
    ),
    2: (
        "One unanswered stanza, the stream is killed every 50 minutes",
        "every inbound stanza gets exactly one terminal answer",
    ),
    3: (
        "Inbound messages lost over a reconnect or a crash",
        "a message is answered only after it is durable",
    ),
    4: ("Decryption failures and the storms they cause", "bounded, rate-limited recovery"),
    5: ("Recipients stuck on “Waiting for this message”", "a durable store of sent messages answers retries"),
    6: ("Reconnect storms", "backoff resets only after stable time; a breaker on flap rate; a dial limiter"),
    7: (
        "Two sockets for one session",
        "at most one connection for a session, whatever races; replaced never redials by itself",
    ),
    8: (
        "Leaks take the host down",
        "start/stop cycles and reconnects give the memory and the descriptors back",
    ),
    9: ("Memory spikes while pairing or syncing history", "pairing is bounded"),
    10: ("Cost per session", "kilobytes for an idle session, measured"),
    11: (
        "Auth state corrupted by a crash",
        "transactional store; unreadable state is quarantined, never replaced",
    ),
    12: (
        "Forced logouts and eager wipes",
        "credentials are never deleted by the runner; one delayed confirm; a fleet stop",
    ),
    13: (
        "Disconnect codes misread",
        "one table from reason to decision; unknown codes keep number and stanza",
    ),
    14: ("A blocked event loop looks like a dead network", "pings, pongs and answers never wait for Python"),
    15: ("Watchdogs that cause the outage", "silence alone never acts; an unanswered probe does"),
    16: (
        "Start-up: herd or crawl",
        "every dial goes through a rate and concurrency limit, recently active first",
    ),
    17: (
        "Stuck states, force-reconnect that does nothing",
        "a deadline on each transient state; force works in every state",
    ),
    18: ("Status that lies or disagrees with itself", "one state machine, one read path"),
    19: ("Unpaired sessions burn the machine", "a QR budget, then parked at no cost"),
    20: ("No isolation between sessions", "one session's panic, flood or lock touches no other"),
    21: ("Storage amplification", "one file, one writer, group commit"),
    22: (
        "Events lost, doubled or blocking",
        "a slow consumer never pauses a socket; events wait in the store",
    ),
    23: (
        "Client version rot takes the fleet down",
        "on 405 the fleet stops, refreshes once, sends one canary",
    ),
    24: (
        "Rate limits, bans, proxies",
        "penalties survive reconnects and restarts; a proxy changes with one reconnect",
    ),
    25: ("Operating blind; logs that leak keys", "bounded metrics, reasoned alerts, logs without secrets"),
}

RUST_MARK = re.compile(r"Pains? ((?:\d+)(?:(?:, | and )\d+)*)")
RUST_FN = re.compile(r"^\s*(?:pub(?:\([a-z]+\))? )?fn (\w+)")


def python_marks(path: Path) -> list[tuple[int, str]]:
    """The (pain, test name) pairs that a Python test file declares."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.pain":
                found += [(int(ast.literal_eval(arg)), node.name) for arg in mark.args]
    return found


def rust_marks(path: Path) -> list[tuple[int, str]]:
    """The (pain, test name) pairs that a Rust file declares in doc comments."""
    found, pending = [], []
    for line in path.read_text().splitlines():
        if line.lstrip().startswith("///"):
            if match := RUST_MARK.search(line):
                pending += [int(n) for n in re.findall(r"\d+", match.group(1))]
        elif (match := RUST_FN.match(line)) and pending:
            found += [(pain, match.group(1)) for pain in pending]
            pending = []
    return found


def marks() -> dict[int, list[tuple[str, str]]]:
    """Every pain with its (file, test) pairs."""
    by_pain: dict[int, list[tuple[str, str]]] = defaultdict(list)
    files = [(p, python_marks) for p in (ROOT / "tests").rglob("test_*.py") if "node_modules" not in p.parts]
    files += [(p, rust_marks) for p in (ROOT / "rust").rglob("*.rs") if "target" not in p.parts]
    for path, reader in sorted(files, key=lambda pair: str(pair[0])):
        for pain, test in reader(path):
            by_pain[pain].append((str(path.relative_to(ROOT)), test))
    return by_pain


def render() -> str:
    """The page as text."""
    by_pain = marks()
    if unknown := set(by_pain) - set(PAINS):
        raise SystemExit(f"tests name pains that do not exist: {sorted(unknown)}")
    lines = [
        "# The 25 pains",
        "",
        "What operators of WhatsApp Web sessions suffer from, worst first, and the tests that keep it away here.",
        "Generated by `make docs` from the markers in the tests (`tools/pains.py`); do not edit.",
        "",
    ]
    for number, (pain, answer) in PAINS.items():
        lines += [f"## {number}. {pain}", "", f"{answer[0].upper()}{answer[1:]}.", ""]
        tests = by_pain.get(number)
        lines += [f"- `{test}` in `{file}`" for file, test in tests] if tests else ["not yet"]
        lines.append("")
    return "\n".join(lines)
