"""The list of events in docs/webhooks.md, written from `hook.EVENTS`."""

from __future__ import annotations

from typing import Final

from runner.webhooks.hook import EVENTS

BEGIN: Final = "<!-- events: generated from runner.webhooks.hook by tools/generate_docs.py -->\n"
END: Final = "<!-- events end -->"


def inserted(text: str) -> str:
    """The page with its list replaced."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    rows = [f"| `{name}` | {what} |" for name, what in EVENTS.items()]
    table = "\n".join(["| event | when |", "| --- | --- |", *rows])
    return f"{before}{BEGIN}{table}\n{END}{after}"
