"""The dashboard in a browser, read ten times a second by a script in its pages."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from support.processes import wait_until
from support.surfaces import EVERY_S, Row, Sample, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 15_000
NETWORK = re.compile(r"Failed to load resource|WebSocket connection to|ERR_")
"""What a browser writes about a server that is away or says no; everything else is our fault."""
ROW_PX = 60
"""More than a row of the table is high: all of them are on the screen, and so in the page."""
MOST_ROWS = 200
OVERVIEW = """() => [document.querySelector(".fleet").dataset.revision,
  [...document.querySelectorAll(".states a")].map((it) =>
    [it.querySelector(".dot").dataset.state, it.querySelector("b").textContent])]"""
SESSIONS = """() => [...document.querySelectorAll(".line")].map((it) => {
  const text = (name) => it.querySelector(`.cell.${name}`).textContent;
  return [text("id"), it.querySelector(".cell.state").dataset.state, text("connection"),
    it.querySelector("time").dateTime, it.dataset.revision];
})"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's, with a new profile."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def a_page(
    browser: Browser,
    address: str,
    *,
    width: int = 1280,
    height: int = 800,
    locale: str = "en-GB",
    scheme: str = "light",
    may_fail: bool = False,
) -> Iterator[Page]:
    """A page in a profile of its own, at an address; at the end the browser must have had nothing to say."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        locale=locale,
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    said: list[str] = []
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    try:
        yield page
    finally:
        context.close()
    assert [text for text in said if not (may_fail and NETWORK.search(text))] == []


class Tabs:
    """The overview and the table of sessions, open for the time of the block."""

    def __init__(self, browser: Browser, address: str, n: int) -> None:
        """`n` are online; of a large fleet the table shows the first only, as on a very high screen."""
        self._browser, self._address, self._n = browser, address, n
        self._shown = min(n, MOST_ROWS)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        height = 600 + self._shown * ROW_PX
        self.overview = self._open.enter_context(a_page(self._browser, self._address))
        self.sessions = self._open.enter_context(
            a_page(self._browser, f"{self._address}#/sessions?sort=id", height=height)
        )
        self.overview.get_by_text(f"{self._n:,} of {self._n:,} online").wait_for()
        self.sessions.locator(".line").nth(self._shown - 1).wait_for()
        for page, look in ((self.overview, OVERVIEW), (self.sessions, SESSIONS)):
            page.evaluate(
                f"() => {{ const look = {look}; window.seen = []; window.looks = 0; setInterval(() => {{"
                "  const text = JSON.stringify(look());"
                "  if (text !== seen.at(-1)) seen.push(text);"
                f" window.looks += 1; }}, {round(1000 * EVERY_S)}); }}"
            )
        return self

    def __exit__(self, *error: object) -> None:
        self._open.__exit__(*error)  # type: ignore[arg-type]

    def wait_shown(self, views: list[dict[str, Any]], timeout_s: float = 15.0) -> None:
        """Until both show these sessions: each row as it is, and how many are in which state."""
        wanted = sorted(rows_of(views))

        def are_shown() -> bool:
            counted = _overview(self.overview.evaluate(OVERVIEW)).counts or {}
            return (
                _sessions(self.sessions.evaluate(SESSIONS)).rows == wanted[: self._shown]
                and sum(counted.values()) == len(wanted)
                and all(counted.get(it.state) for it in wanted)
            )

        wait_until(are_shown, timeout_s, "the dashboard to show the sessions as they are")

    def six(self, session_id: str) -> dict[str, str]:
        """The metrics on the page of one session, by their English names."""
        with a_page(self._browser, f"{self._address}#/session/{session_id}") as page:
            page.locator(".six dd").first.wait_for()
            names, values = (page.locator(f".six {tag}").all_text_contents() for tag in ("dt", "dd"))
        return dict(zip(names, values, strict=True))

    def samples(self) -> list[Sample]:
        """What the pages have shown; what they showed twice in a row, once."""
        return [
            *(_overview(json.loads(it)) for it in self.overview.evaluate("window.seen")),
            *(_sessions(json.loads(it)) for it in self.sessions.evaluate("window.seen")),
        ]

    def looks(self) -> int:
        """How often each page was read, at the least."""
        return min(int(page.evaluate("window.looks")) for page in (self.overview, self.sessions))


def _overview(seen: list[Any]) -> Sample:
    revision, states = seen
    counts = {state: int(number.replace(",", "")) for state, number in states}
    return Sample("the overview", revision=int(revision) if revision else None, counts=counts)


def _sessions(seen: list[list[str]]) -> Sample:
    rows = [
        Row(
            session_id,
            state,
            int(connection.replace(",", "")),
            round(1000 * datetime.fromisoformat(since).timestamp()),
            int(revision),
        )
        for session_id, state, connection, since, revision in seen
    ]
    return Sample("the table", rows=sorted(rows)[:MOST_ROWS])
