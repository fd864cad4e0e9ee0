"""Handlers and webhooks with real processes, a real store and kills in the wrong moment."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from support.bots import SlowReceiver, noted, with_bot
from support.control import Control
from support.processes import RunnerProcess, SimulatorProcess, import_all, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SESSIONS = 3
EVERYTHING = 40 * SESSIONS


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(tmp_path, sessions=SESSIONS) as server:
        yield server


def a_runner(
    folder: Path, server: SimulatorProcess, settings: dict[str, str], code: str | None = None
) -> RunnerProcess:
    return RunnerProcess(folder, server, {"WHATSAPP_WEBHOOK_ALLOW": "127.0.0.1", **settings}, code)


def pushed(server: SimulatorProcess, n: int) -> None:
    """So many messages for each session."""
    Control(server.control).post("/push", all=True, template="message", n=n, rate=300, maxSeconds=5)


def waiting_for_webhook(runner: RunnerProcess) -> int:
    return int(runner.request("GET", "/api/webhooks")[1]["webhooks"][0]["waiting"])


def pending(runner: RunnerProcess) -> int:
    return int(runner.request("GET", "/performance-metrics?limit=0")[1]["store"]["inboxPending"])


@pytest.mark.pain(22)
def test_kill_9_between_commit_and_delivery_delivers_under_the_same_id(
    tmp_path: Path, server: SimulatorProcess
) -> None:
    folder = tmp_path / "r"
    with SlowReceiver() as receiver:
        settings = {"WHATSAPP_WEBHOOK_URLS": receiver.url, "WHATSAPP_WEBHOOK_EVENTS": "session.status"}
        with a_runner(folder, server, settings) as runner:
            import_all(server.credentials, runner.env)
            runner.wait_online(SESSIONS)
            wait_until(lambda: len(set(receiver.came)) == SESSIONS, 20, "an attempt for each session")
            assert waiting_for_webhook(runner) > SESSIONS, (
                "the first of each session is under way, the rest waits for it"
            )
            runner.kill()
        assert receiver.answered == []
        before = set(receiver.came)
        receiver.open.set()
        with a_runner(folder, server, settings) as runner:
            runner.wait_online(SESSIONS)
            wait_until(lambda: before <= {it for it, _ in receiver.answered}, 30, "all under their ids")
            wait_until(
                lambda: runner.request("GET", "/api/webhooks")[1]["webhooks"][0]["waiting"] == 0,
                30,
                "drained",
            )
    by_session = defaultdict(list)
    for _, body in receiver.answered:
        event = json.loads(body)
        if event["timestamp"] not in by_session[event["session"]]:
            by_session[event["session"]].append(event["timestamp"])
    assert len(by_session) == SESSIONS
    for times in by_session.values():
        assert times == sorted(times), "in the order in which it happened"


@pytest.mark.pain(22)
def test_a_receiver_that_never_answers_holds_up_no_message_and_no_socket(
    tmp_path: Path, server: SimulatorProcess
) -> None:
    """Proof 6 of the issue: everything is read, committed and answered; only the outbox waits."""
    with SlowReceiver() as receiver:
        settings = {"WHATSAPP_WEBHOOK_URLS": receiver.url, "WHATSAPP_WEBHOOK_EVENTS": "message"}
        with a_runner(tmp_path / "r", server, settings) as runner:
            import_all(server.credentials, runner.env)
            runner.wait_online(SESSIONS)
            control = Control(server.control)
            for _ in range(10):
                control.post("/say", all=True, text="message {n}", n=40)
            control.wait_stats(contactReceipts=400 * SESSIONS, timeout_s=30)
            wait_until(lambda: waiting_for_webhook(runner) == 400 * SESSIONS, 30, "all in the outbox")
            assert receiver.answered == []
            assert pending(runner) == 0
            assert "stalled" not in json.dumps(runner.request("GET", "/health")[1])
            stats = control.stats()
            assert (stats["logins"], stats["open"]) == (SESSIONS, SESSIONS), "nobody was disconnected"


@pytest.mark.pain(3)
@pytest.mark.pain(22)
def test_kill_9_in_the_middle_of_handlers_gives_every_message_and_keeps_the_order(
    tmp_path: Path, server: SimulatorProcess
) -> None:
    folder, notes = tmp_path / "r", tmp_path / "notes"
    settings = {"NOTES": str(notes)}
    code = with_bot(tmp_path / "bot")
    with SlowReceiver() as receiver:
        receiver.open.set()
        settings |= {"WHATSAPP_WEBHOOK_URLS": receiver.url, "WHATSAPP_WEBHOOK_EVENTS": "message"}
        with a_runner(folder, server, settings, code) as runner:
            import_all(server.credentials, runner.env)
            runner.wait_online(SESSIONS)
            pushed(server, 40)
            wait_until(lambda: len(noted(notes)) > 10, 20, "some were handled")
            runner.kill()
        with a_runner(folder, server, settings, code) as runner:
            runner.wait_online(SESSIONS)
            # What was not answered before the kill is given again by the simulator.
            wait_until(lambda: len({it[:3] for it in noted(notes)}) >= EVERYTHING, 60, "all of them")
            wait_until(lambda: pending(runner) == 0, 20, "all confirmed")
            wait_until(lambda: len({it for it, _ in receiver.answered}) >= EVERYTHING, 30, "all posted")
            assert runner.stop() == 0
    calls = noted(notes)
    assert len({it[:3] for it in calls}) == EVERYTHING
    assert len(calls) - EVERYTHING <= 300, "twice at the worst, and only around the kill"
    ids_by_chat = defaultdict(list)
    for session, chat, name, _ in calls:
        if name not in ids_by_chat[session, chat]:
            ids_by_chat[session, chat].append(name)
    messages = [json.loads(body) for _, body in receiver.answered]
    posted = defaultdict(list)
    for it in messages:
        key = it["session"], it["payload"]["chatId"]
        if it["payload"]["id"] not in posted[key]:
            posted[key].append(it["payload"]["id"])
    assert posted == ids_by_chat, "the webhook has the same messages in the same order"
    assert len({it["id"] for it in messages}) == EVERYTHING, "one event a message, whatever was killed"


def test_a_handler_that_always_fails_touches_only_its_message_and_is_redriven(
    tmp_path: Path, server: SimulatorProcess
) -> None:
    folder, notes = tmp_path / "r", tmp_path / "notes"
    settings = {
        "NOTES": str(notes),
        "PYTHONPATH": str(tmp_path / "bot"),
        "POISON": "7",
        "WHATSAPP_HANDLER_ATTEMPTS": "2",
        "WHATSAPP_HANDLER_RETRY_DELAY": "50",
    }
    code = with_bot(tmp_path / "bot")
    with a_runner(folder, server, settings, code) as runner:
        import_all(server.credentials, runner.env)
        runner.wait_online(SESSIONS)
        pushed(server, 20)
        wait_until(lambda: len({it[:3] for it in noted(notes)}) == 20 * SESSIONS, 30, "all of them")
        wait_until(lambda: pending(runner) == 0, 20, "none waits")
        poisoned = {it[:3] for it in noted(notes) if it[2].endswith("7")}
        assert poisoned
        letters = runner.request("GET", "/api/dead-letters?sink=app")[1]["deadLetters"]
        assert len(letters) == len(poisoned)
        assert all(it["attempts"] == 2 and "ValueError at note_bot.py" in it["why"] for it in letters)
        assert runner.request("POST", "/api/dead-letters/redrive", {"all": True})[1]["messages"] == len(
            letters
        )
        wait_until(
            lambda: len([it for it in noted(notes) if it[:3] in poisoned]) == 4 * len(poisoned), 20, "again"
        )
        (tmp_path / "bot" / "note_bot.py").write_text("raise ValueError('half an update')")
        status, refusal = runner.request("POST", "/api/restart", timeout_s=75)
        assert (status, "note_bot does not import" in refusal["message"]) == (409, True)
        assert runner.stop() == 0
        phones = {chat.split("@")[0] for _, chat, _, _ in noted(notes)}
        assert not [phone for phone in phones if phone in runner.output()], "no phone number in the log"
