"""Everything that can go wrong, with something in it that must not get out: what the server says, what an
operator mistypes, what a bug of ours raises."""

from __future__ import annotations

import base64
import itertools
import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from support.leaks import leaves
from support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.pair import Pair

TEXT = "meet me at the old mill, bring the müesli"
NAME = "Ana Planted-Name"
NUMBER = "15559876543"
GROUP = "15559876543-1612345678"
APPEAL = "appeal-3f9c51d07b"
PASSWORD = "pl4nted%40pass-w0rd"
QUERY = "hunter2-in-a-query"
HOOK_SECRET, HOOK_PATH, HOOK_HEADER = "s3cret-of-a-hook-added", "s3cret-path-of-it", "s3cret-header-of-it"


def stanzas() -> list[dict[str, Any]]:
    """What comes in about people and what they say, in good and in bad form."""
    sender = f"{NUMBER}@s.whatsapp.net"
    said = {"tag": "body", "attrs": {}, "content": TEXT}
    attrs = {"from": sender, "id": "3EB0A1", "t": "1790000000", "notify": NAME, "type": "text"}
    return [
        {"tag": "message", "attrs": attrs, "content": [said]},
        {
            "tag": "message",
            "attrs": {**attrs, "id": "3EB0A2", "from": f"{GROUP}@g.us", "participant": sender},
        },
        {"tag": "message", "attrs": {**attrs, "id": "3EB0A3", "from": NUMBER}, "content": TEXT},
        {"tag": "message", "attrs": {"notify": NAME}, "content": TEXT},
        {"tag": "notification", "attrs": {**attrs, "id": "3EB0A4", "type": TEXT}, "content": [said]},
        {"tag": "receipt", "attrs": {"from": sender, "id": TEXT, "participant": sender}},
        {"tag": "call", "attrs": {"from": sender, "id": "3EB0A5"}, "content": [said]},
        {"tag": "iq", "attrs": {"from": sender, "id": "3EB0A6", "type": "set", "xmlns": TEXT}},
        {"tag": "ib", "attrs": {"from": sender}, "content": [said]},
        {"tag": TEXT, "attrs": {"id": "3EB0A7", TEXT: NUMBER}, "content": TEXT},
        {"tag": "ack", "attrs": {"id": "3EB0A8", "class": TEXT, "from": sender, "error": TEXT}},
    ]


def ends() -> Iterator[tuple[str, dict[str, Any]]]:
    """Orders to the simulator that end a connection, with words in them."""
    words = {"message": TEXT, "phone": NUMBER, "appeal_token": APPEAL, "lid": f"{NUMBER}@lid"}
    for code in (503, 515, 516, 999):
        yield "/stream-error", {"code": code, "child": "text", "childAttrs": words}
    yield "/stream-error", {"child": "conflict", "childAttrs": {"type": "replaced", **words}}
    yield "/stream-error", {"child": TEXT, "childAttrs": words}
    # Not 405: a fleet whose version is pinned rests for minutes after it.
    for reason in (400, 401, 402, 403, 406, 409, 413, 415, 418, 429, 500, 503, 777):
        yield "/failure", {"reason": reason, "attrs": {**words, "expire": "2"}}
    for kind in ("undecryptable", "frame-too-long", "opcode", "masked"):
        yield "/malformed", {"kind": kind}
    yield "/close", {"code": 1011}
    yield "/close", {"hard": True}
    yield "/close", {"fin": True}
    yield "/stream-end", {}
    yield "/silent", {"on": True, "level": "app"}
    yield "/silent", {"on": True, "level": "socket"}
    yield "/unlink", {}


LOGINS: list[dict[str, Any]] = [
    {"mode": "failure", "reason": 403, "attrs": {"appeal_token": APPEAL, "message": TEXT, "phone": NUMBER}},
    {"mode": "stream-error", "code": 500, "child": TEXT, "childAttrs": {"phone": NUMBER}},
    {"mode": "malformed", "kind": "token"},
    {"mode": "close", "hard": True},
]
HANDSHAKES = ("refuse-ik", "break-ik", "garbage", "undecryptable")
CHAINS = ("bad-root-signature", "bad-leaf-signature", "expired", "wrong-key", "wrong-issuer", "garbage")


def everything_goes_wrong(p: Pair) -> None:
    """Every fault that the simulator knows, in rounds of one for each session; then all are brought back."""
    for stanza in stanzas():
        p.control.post("/push", all=True, node=stanza)
    for template in ("message", "ciphertext", "receipt", "notification", "call", "ping", "ib"):
        p.control.post("/push", all=True, template=template, n=3)
    for kind in ("token", "truncated", "deep", "zlib", "zip-bomb", "empty", "text"):
        p.control.post("/malformed", all=True, kind=kind)
    bring_back(p)
    orders = ends()
    while some := list(itertools.islice(orders, p.n)):
        _end(p, some)
        bring_back(p)
    for session_id, policy in zip(p.ids(), LOGINS, strict=False):
        p.control.post("/login-policy", policy, user=p.users[session_id], count=1)
    p.control.post("/drop-all")
    wait_until(lambda: any(row["reason"] for row in p.rows().values()), 20.0)
    bring_back(p)
    wrong = [*(("handshake", it) for it in HANDSHAKES), *(("chain", it) for it in CHAINS)]
    for (setting, value), session_id in zip(wrong, itertools.cycle(p.ids())):
        dials = len(p.events("connect"))
        p.control.post("/config", {setting: value})
        p.runner.request("POST", f"/force-reconnection/{session_id}?override=true")
        wait_until(partial(_has_dialled, p, dials), 20.0, f"a dial with {value}")
        p.control.post("/config", {setting: "none" if setting == "handshake" else None})
    p.control.post("/refuse", seconds=0.5, mode="503")
    p.control.post("/drop-all")
    bring_back(p)


def _has_dialled(p: Pair, before: int) -> bool:
    return len(p.events("connect")) > before


def _end(p: Pair, orders: list[tuple[str, dict[str, Any]]]) -> None:
    """One order for each session, until each connection is gone."""
    before = p.rows()
    hit = p.ids()[: len(orders)]
    for session_id, (route, body) in zip(hit, orders, strict=True):
        p.control.post(route, body, user=p.users[session_id])

    def are_over() -> bool:
        rows = p.rows()
        return all(
            rows[it]["state"] != "online" or rows[it]["connection"] > before[it]["connection"] for it in hit
        )

    wait_until(are_over, 20.0, "every fault noticed")


def bring_back(p: Pair) -> None:
    """All online again, whatever was held against them. Asked once a second, as an operator would."""
    p.control.post("/relink", users=list(p.users.values()))
    asked: dict[str, float] = {}

    def are_back() -> bool:
        now = time.monotonic()
        away = [row for row in p.runner.sessions() if row["state"] != "online"]
        for row in away:
            if now - asked.get(row["id"], -1.0) > 1.0:
                asked[row["id"]] = now
                p.runner.request("POST", f"/reset-circuit-breaker/{row['id']}?penalty=true")
                if row["state"] != "connecting":
                    p.runner.request("POST", f"/force-reconnection/{row['id']}?override=true")
        return not away

    wait_until(are_back, 40.0, "everybody back")


PROXIES = (
    f"http://user:{PASSWORD}@127.0.0.1:1",
    f"socks5://user:{PASSWORD}@127.0.0.1:1",
    f"http://user:{PASSWORD}@127.0.0.1:99999",
    f"http://user:{PASSWORD}@[::1:80",
    f"http://user:{PASSWORD}@host:{PASSWORD}",
    f"http://user:pa/{PASSWORD}@host:80",
    f"http://user:pa?{PASSWORD}@host:80",
    f"http://user:pa#{PASSWORD}@host:80",
    f"http://user:{PASSWORD}%zz@host:80",
    f"http://user:{PASSWORD}@host:80/path",
    f"ftp://user:{PASSWORD}@host:80",
    f"user:{PASSWORD}@host:80",
    f"http:user:{PASSWORD}@host:80",
    f"http://user:{PASSWORD}\n@host:80",
    f"http://us er:{PASSWORD}@host:80",
)
"""A password where it belongs, and wherever a slip of the hand may put it."""


def damaged(creds: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The credentials, with one value after the other spoilt in several ways."""
    for where, value in list(leaves(creds, "")):
        for spoilt in _spoilt(value):
            copy = json.loads(json.dumps(creds))
            *way, last = where.removeprefix(".").split(".")
            holder = copy
            for step in way:
                holder = holder[int(step)] if isinstance(holder, list) else holder[step]
            holder[int(last) if isinstance(holder, list) else last] = spoilt
            yield copy


def _spoilt(value: object) -> Iterator[object]:
    if isinstance(value, bytes):
        text = base64.b64encode(value).decode()
        yield {"type": "Buffer", "data": text + "!"}
        yield {"type": "Buffer", "data": text[:-8]}
        yield text + text
        yield list(value)
    elif isinstance(value, str):
        yield value + "\x00"
        yield [value]
        yield value * 2
    else:
        yield str(value)


def requests(p: Pair) -> Iterator[tuple[str, str, object]]:
    """Calls of an operator who mistypes: method, path, body."""
    for proxy in PROXIES:
        yield "PUT", f"/api/sessions/{p.ids()[0]}", {"proxy": proxy}
        yield "POST", "/api/sessions", {"id": "x", "files": {"creds.json": "{}"}, "proxy": proxy}
    yield "PUT", f"/api/sessions/{p.ids()[0]}", {"proxy": None}
    one = p.simulator.credentials / p.ids()[0]
    files = {it.name: it.read_text() for it in one.iterdir()}
    wishes = [
        {"id": f"damaged-{number}", "files": {**files, "creds.json": json.dumps(creds)}, "start": False}
        for number, creds in enumerate(damaged(json.loads(files["creds.json"])))
    ]
    for first in range(0, len(wishes), 200):
        yield "POST", "/api/sessions/batch", {"sessions": wishes[first : first + 200]}
    yield "POST", "/api/sessions", {"id": "y", "files": {"creds.json": files["creds.json"][:-40]}}


def webhooks() -> Iterator[tuple[str, str, object]]:
    """Webhooks with something secret in every part, to where nobody listens; and some that cannot be used."""
    rest = {"secret": HOOK_SECRET, "headers": {"Authorization": HOOK_HEADER}, "events": ["*"]}
    once = {"retries": {"attempts": 1}}
    for address in (
        f"http://127.0.0.1:9/{HOOK_PATH}?key={QUERY}",
        f"http://user:{PASSWORD}@127.0.0.1:9/{HOOK_PATH}",
        f"http://user:{PASSWORD}@169.254.169.254/{HOOK_PATH}",
        f"http://user:{PASSWORD}@[::1/{HOOK_PATH}",
        f"ftp://user:{PASSWORD}@host/{HOOK_PATH}",
    ):
        yield "POST", "/api/webhooks", {"url": address, **rest, **once}
    yield "POST", "/api/webhooks", {"url": "http://127.0.0.1:9/", "headers": {"A": f"{HOOK_HEADER}\r\nB: c"}}
    yield "POST", "/api/webhooks", {"url": "http://127.0.0.1:9/", "secret": [HOOK_SECRET]}


def misplaced(p: Pair) -> Iterator[tuple[str, str, object]]:
    """Secrets where names belong: the answer may tell the caller what he said, and nobody else."""
    one = p.simulator.credentials / p.ids()[0]
    files = {it.name: it.read_text() for it in one.iterdir()}
    creds = files["creds.json"]
    yield "POST", "/api/sessions", {"id": "y", "files": {creds: "{}"}}
    yield "POST", "/api/sessions", {"id": creds, "files": {}}
    yield "POST", "/api/sessions", {"id": "y", "files": files, creds: 1}
    yield "PUT", f"/api/sessions/{p.ids()[0]}", {PASSWORD: TEXT}
    yield "GET", f"/api/sessions/{NUMBER}@s.whatsapp.net", None
    yield "GET", f"/api/sessions?state={QUERY}&password={QUERY}", None
    yield "POST", f"/force-reconnection/{NUMBER}?override={QUERY}", None
    yield "GET", f"/api/metrics/history?metric={QUERY}", None
    yield "POST", "/api/alerts/silences", {"alert": QUERY}
    yield "POST", f"/api/alerts/{NUMBER}/ack", {"by": [TEXT]}


def directories(p: Pair, parent: Path) -> Path:
    """The same damaged credentials as directories, for an import from the command line."""
    one = p.simulator.credentials / p.ids()[0]
    creds = json.loads((one / "creds.json").read_text())
    for number, spoilt in enumerate(damaged(creds)):
        folder = parent / f"damaged-{number}"
        folder.mkdir(parents=True)
        (folder / "creds.json").write_text(json.dumps(spoilt))
        (folder / "pre-key-1.json").write_text((one / "pre-key-1.json").read_text())
    return parent
