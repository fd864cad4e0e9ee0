"""A runner with an app, for end-to-end tests: what an app notes, and messages that count as decrypted.

The simulator's messages are not encrypted to anybody. Here each row of the inbox is a message whose text is
its id, so that everything behind decryption can be tested with real processes, stores and kills.
"""

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

BOT = """
import os
from runner import App, Message, Session

app = App()
notes = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
poison = os.environ.get("POISON", "")

@app.on_message
async def note(session: Session, message: Message) -> None:
    os.write(notes, f"{session.id} {message.chat} {message.id} {message.attempt}\\n".encode())
    if poison and message.id.endswith(poison):
        raise ValueError(f"a phone number: {message.chat}")
"""

DECRYPTED = """
import sys
sys.path.insert(0, {folder!r})
from runner import handing_on
from runner.consumer import loop
from runner.consumer.inbound import Inbound
from runner.message import Message

def inbound(row):
    return Inbound(row, row.stanza)

def message_of(item, attempt=1, call=None):
    return Message(id=item.id, chat=item.chat, sender=item.sender, received_unix_ms=item.row.received_unix_ms,
                   kind="text", text=item.id, content=item.content, attempt=attempt, call=call)

loop.inbound = inbound
loop.message_of = handing_on.message_of = message_of
from runner.cli.main import cli
cli({command!r})
"""


def with_bot(folder: Path, *, has_app: bool = True) -> str:
    """What to run instead of `python -m runner`: the same with decrypted messages, and with the bot."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "note_bot.py").write_text(BOT)
    command = ["run", "note_bot:app"] if has_app else ["run"]
    return DECRYPTED.format(folder=str(folder), command=command)


def noted(path: Path) -> list[tuple[str, str, str, int]]:
    """Session, chat, message id and attempt of every call, in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(session, chat, name, int(attempt)) for session, chat, name, attempt in map(str.split, lines)]


class SlowReceiver:
    """A webhook's other end that answers only while it is `open`; notes (id, body) of whatever comes."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.came: list[str] = []
        self.answered: list[tuple[str, bytes]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                event_id = self.headers["idempotency-key"]
                receiver.came.append(event_id)
                receiver.open.wait()
                receiver.answered.append((event_id, body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:  # the runner was killed meanwhile
                    return

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:  # noqa: ANN401
                return

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
