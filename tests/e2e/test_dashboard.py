"""The dashboard in a real browser: each page, each action, ten thousand sessions, a runner that goes away.

Whatever the browser complains about (an exception, a violated policy, a missing file) fails the test.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.admin.guesses import Guesses
from runner.session import BreakerView, State
from runner.sim import SimulatorControl
from runner.supervisor.feed import StatusEvent
from support.alerts import Receiver as AlertReceiver
from support.browser import a_page
from support.dashboard import READ_TOKEN, TOKEN, Dashboard, a_past, many
from support.fleet import a_view
from support.processes import RunnerProcess, SimulatorProcess, free_port, import_all, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import APIResponse, Browser, Page, Route

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(90)]
EN = {
    "add": "Add a session",
    "name": "Name",
    "confirm": "Add and show the code",
    "title": "Link a phone",
    "left": r"good for \d",
    "phone": "Phone number with the country code",
    "code": "Show a code",
}
PT = {
    "add": "Adicionar sessão",
    "name": "Nome",
    "confirm": "Adicionar e mostrar o código",
    "title": "Conectar um telefone",
    "left": r"válido por \d",
    "phone": "Número de telefone com o código do país",
    "code": "Mostrar um código",
}


def see(page: Page, selector: str, text: str | re.Pattern[str] | None = None) -> None:
    """Wait until it can be seen, with a text in it."""
    found = page.locator(selector)
    if text is not None:
        found = found.filter(has_text=text)
    found.first.wait_for(state="visible")


@pytest.fixture(scope="module")
def small() -> Iterator[Dashboard]:
    now = int(time.time() * 1000)
    fleet = many(80)
    with Dashboard(*fleet) as dashboard:
        dashboard.desk.fire("disk_full", "critical", "no space left on the store's disk")
        dashboard.fleet.pasts["desk-00007"] = a_past(now)
        dashboard.fleet.store.receive("desk-00007", "15550001111@s.whatsapp.net", "oi")
        dashboard.fleet.store.bury([(1, 5, "ValueError at bot.py:7 in handle")])
        yield dashboard


@pytest.fixture
def fleet_of_few() -> Iterator[Dashboard]:
    now = int(time.time() * 1000)
    with Dashboard(
        a_view("desk-1"),
        a_view("shop", State.PARKED, "stream_replaced_code"),
        _suspended(now),
        a_view("rest", State.STOPPED),
    ) as dashboard:
        yield dashboard


def _suspended(now: int):  # noqa: ANN202
    from dataclasses import replace

    return replace(
        a_view("banned", State.SUSPENDED, "failure_generic"),
        breaker=BreakerView("open", "authentication", now, now + 300_000),
        next_retry_at_unix_ms=now + 300_000,
        attempt=6,
    )


def test_the_overview_shows_the_fleet_its_troubles_and_its_charts(browser: Browser, small: Dashboard) -> None:
    with a_page(browser, small.url) as page:
        see(page, ".big", "78 of 80 online")
        see(page, ".states a", "backoff")
        see(page, ".alert", "no space left")
        see(page, "header .badge", "1")
        see(page, ".chart .value", re.compile(r"%$"))
        page.locator(".chart canvas").nth(6).wait_for()
        assert page.locator(".chart [role=img]").first.get_attribute("aria-label")
        page.get_by_role("button", name="24h").click()
        see(page, ".chips [aria-pressed=true]", "24h")
        assert page.title() == "Overview · runner"


def test_a_number_changes_with_the_next_sample(browser: Browser, small: Dashboard) -> None:
    with a_page(browser, small.url) as page:
        see(page, ".chart .value", re.compile(r"%$"))
        small.numbers.cpu = 0.77

        def has_changed() -> bool:
            small.do(lambda: small.numbers.sampled.set())  # again and again: who listens is not known here
            return page.locator(".chart .value", has_text="77.0 %").count() == 1

        wait_until(has_changed, 10, "the new number")
        small.numbers.cpu = None


def test_a_state_changes_on_every_page_at_once(browser: Browser, fleet_of_few: Dashboard) -> None:
    with a_page(browser, fleet_of_few.url) as page:
        see(page, ".big", "1 of 4 online")
        fleet_of_few.do(lambda: fleet_of_few.fleet.change("rest", state=State.ONLINE))
        see(page, ".big", "2 of 4 online")
        page.get_by_role("link", name="Sessions").click()
        see(page, ".line", re.compile(r"online.*rest"))
        fleet_of_few.do(
            lambda: fleet_of_few.fleet.change("rest", state=State.DEGRADED, reason="iq_unanswered")
        )
        see(page, ".line", re.compile(r"degraded.*rest.*iq_unanswered"))


def test_an_answer_that_was_on_its_way_does_not_undo_what_an_event_told(
    browser: Browser, fleet_of_few: Dashboard
) -> None:
    with a_page(browser, "about:blank") as page:
        held: list[tuple[Route, APIResponse]] = []
        page.route("**/api/sessions?*", lambda route: held.append((route, route.fetch())))
        page.goto(fleet_of_few.url + "#/sessions")
        wait_until(lambda: page.evaluate("0") or held, 10, "the list to be asked for")
        fleet_of_few.do(lambda: fleet_of_few.fleet.change("rest", state=State.ONLINE))
        see(page, ".line", re.compile(r"online.*rest"))
        route, old = held.pop()
        assert '"stopped"' in old.text()
        route.fulfill(response=old)
        see(page, ".count", "4 of 4")
        assert page.locator(".line", has_text="rest").filter(has_text="online").count() == 1


def test_ten_thousand_sessions_scroll_filter_and_sort(browser: Browser) -> None:
    with Dashboard(*many(10_000)) as dashboard, a_page(browser, dashboard.url + "#/sessions") as page:
        see(page, ".count", "10,000 of 10,000")
        assert page.locator(".line").count() < 60
        assert page.locator("[role=table]").get_attribute("aria-rowcount") == "10001"
        see(page, ".line", "logged out")  # the worst first
        page.evaluate("document.querySelector('.scroller').scrollTop = 1e9")
        see(page, ".line", "stopped")
        assert page.locator(".line").count() < 60
        page.get_by_role("searchbox").fill("desk-0999")
        see(page, ".count", "10 of 10,000")
        page.get_by_role("searchbox").fill("")
        page.locator(".chip[data-state=backoff]").click()
        see(page, ".count", "32 of 10,000")
        assert "state=backoff" in page.url
        page.locator(".chip[data-state=backoff]").click()
        page.get_by_role("columnheader", name="Session").get_by_role("button").click()
        see(page, "[aria-sort=ascending]", "Session")
        page.evaluate("document.querySelector('.scroller').scrollTop = 0")
        see(page, ".line", "desk-00000")
        page.get_by_role("columnheader", name="Session").get_by_role("button").click()
        see(page, ".line", "desk-09999")
        # Work for one screen of rows, in the middle of ten thousand: far below a frame of 16 ms.
        spent = page.evaluate(
            "() => { const s = document.querySelector('.scroller'); const t = performance.now();"
            " for (let i = 0; i < 50; i++) { s.scrollTop = i * 5000; s.dispatchEvent(new Event('scroll')); }"
            " return performance.now() - t; }"
        )
        assert spent < 5000


def test_a_session_shows_its_past_and_counts_down(browser: Browser, small: Dashboard) -> None:
    with a_page(browser, small.url + "#/session/desk-00007") as page:
        see(page, "h1", "desk-00007")
        see(page, ".state-now", "pong_deadline")
        see(page, ".next-try", re.compile(r"Next attempt in \d+"))
        see(page, ".timeline li", re.compile(r"backoff.*tcp_refused 111.*connection 2"))
        see(page, ".six", "12,345")
        first = page.locator(".next-try strong").text_content()
        page.wait_for_function(
            "text => document.querySelector('.next-try strong').textContent !== text", arg=first
        )
        page.locator(".crumb a").click()
        see(page, "[role=table]")


def test_a_reconnect_goes_through_and_a_risky_one_asks_first(
    browser: Browser, fleet_of_few: Dashboard
) -> None:
    fleet = fleet_of_few.fleet
    with a_page(browser, fleet_of_few.url + "#/session/desk-1") as page:
        page.get_by_role("button", name="Reconnect now").click()
        see(page, ".notice", "Connection 2 is on its way")
        see(page, ".pill", "connecting")
    with a_page(browser, fleet_of_few.url + "#/session/shop", may_fail=True) as page:  # a 409 is written down
        page.get_by_role("button", name="Reconnect now").click()
        see(page, "dialog", "stream_replaced_code")
        see(page, "dialog", "What to do:")
        page.get_by_role("button", name="Cancel").click()
        see(page, ".pill", "parked")
        assert page.locator(".notice").count() == 0, "who thought better of it is not told off"
        assert ("reconnect", "shop", True) not in fleet.called
        page.get_by_role("button", name="Reconnect now").click()
        page.get_by_role("button", name="Reconnect anyway").click()
        see(page, ".pill", "connecting")
    assert fleet.called == [("reconnect", "desk-1", False), ("reconnect", "shop", True)]


def test_breaker_start_and_stop(browser: Browser, fleet_of_few: Dashboard) -> None:
    with a_page(browser, fleet_of_few.url + "#/session/banned") as page:
        see(page, ".facts", re.compile(r"open · authentication · tries in"))
        page.get_by_role("button", name="Reset breaker").click()
        see(page, ".notice", "The breaker is closed")
        page.get_by_role("button", name="Stop", exact=True).click()
        page.locator("dialog").get_by_role("button", name="Stop", exact=True).click()
        see(page, ".pill", "stopped")
        page.get_by_role("button", name="Start", exact=True).click()
        see(page, ".pill", "connecting")
    verbs = [called[0] for called in fleet_of_few.fleet.called]
    assert verbs == ["reset_breaker", "stop", "start"]


def test_a_session_that_is_not_there(browser: Browser, small: Dashboard) -> None:
    with a_page(browser, small.url + "#/session/nobody", may_fail=True) as page:
        see(page, ".empty", "There is no session nobody")


def test_what_others_wrote_is_only_text(browser: Browser) -> None:
    evil = "<img src=x onerror=alert(1)>"
    with Dashboard(a_view(evil, State.PARKED, "pong_deadline")) as dashboard:
        dashboard.desk.fire("disk_full", "critical", evil, about=evil)
        with a_page(browser, dashboard.url) as page:
            see(page, ".alert p", evil)
            page.goto(dashboard.url + "#/sessions")
            page.get_by_role("link", name=evil).click()
            see(page, "h1", evil)
            assert page.locator("img").count() == 0


def test_alerts_are_acknowledged_silenced_and_resolved(browser: Browser, fleet_of_few: Dashboard) -> None:
    desk = fleet_of_few.desk
    with a_page(browser, fleet_of_few.url + "#/alerts") as page:
        see(page, ".fine", "Nothing is wrong")
        fleet_of_few.do(lambda: desk.fire("memory_high", "warning", "memory 83 % of 16 GiB"))
        fleet_of_few.do(lambda: desk.fire("session_parked", "critical", "shop is parked", about="shop"))
        fleet_of_few.tell("alert.firing", {})
        see(page, ".alert", "memory 83 %")
        see(page, "header .badge[data-level=critical]", "2")
        memory = page.locator(".alert", has_text="memory_high")
        memory.get_by_role("button", name="Acknowledge").click()
        see(page, ".alert", re.compile(r"memory_high.*acknowledged by operator"))
        see(page, "header .badge", "1")
        memory.get_by_role("button", name="Silence").click()
        page.locator("dialog select").select_option("240")
        page.locator("dialog").get_by_role("button", name="Silence").click()
        see(page, ".list li", re.compile(r"memory_high · until"))
        page.get_by_role("button", name="End").click()
        page.locator(".list li").wait_for(state="detached")
        page.locator(".alert", has_text="session_parked").get_by_role("button", name="Resolve").click()
        page.locator(".alert", has_text="session_parked").wait_for(state="detached")
        fleet_of_few.tell("alert.resolved", {})
        see(page, ".past tr", "shop is parked")
    assert desk.called == [
        ("ack", "al_0"),
        ("silence", "memory_high", 240),
        ("unsilence", "sil_0"),
        ("resolve", "al_1"),
    ]


def test_the_system_page_shows_health_tuning_and_settings(browser: Browser, small: Dashboard) -> None:
    with a_page(browser, small.url + "#/system") as page:
        see(page, ".list li", "store")
        see(page, ".finding summary", "RLIMIT_NOFILE")
        page.locator("input[name=sessions]").fill("123456")
        page.get_by_role("button", name="Judge").click()
        see(page, "p", "123,456 sessions need")


def test_a_stranger_signs_in_and_out(browser: Browser) -> None:
    dashboard = Dashboard(*many(40), needs_token=True)
    with dashboard, a_page(browser, dashboard.url, may_fail=True) as page:  # a 401 is written down
        see(page, ".signin", "This runner wants to know who you are")
        page.get_by_label("Token").fill("not-the-token-at-all")
        page.get_by_role("button", name="Sign in").click()
        see(page, ".bad", "This token is not known here")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        see(page, ".big", "39 of 40 online")
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], TOKEN in cookie["value"]) == (True, "Strict", False)
        assert TOKEN not in page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
        page.reload()
        see(page, ".big", "39 of 40 online")
        page.get_by_role("button", name="Sign out").click()
        see(page, ".signin")
        assert page.context.cookies() == []


def test_on_a_phone_there_is_room_to_sign_out_whatever_else_is_said(browser: Browser) -> None:
    dashboard = Dashboard(*many(3), needs_token=True)
    with (
        dashboard,
        a_page(browser, dashboard.url, may_fail=True, width=360, height=640, locale="pt-BR") as page,
    ):
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Entrar").click()
        see(page, ".big", "3 de 3 online")
        dashboard.stop()
        see(page, ".banner", "O runner não responde")
        out = page.get_by_role("button", name="Sair").bounding_box()
        assert out is not None
        assert out["x"] + out["width"] <= 360


def test_two_runners_on_one_host_do_not_sign_each_other_out(browser: Browser) -> None:
    """A browser keeps cookies by host, whatever the port."""
    one, two = Dashboard(*many(1), needs_token=True), Dashboard(*many(3), needs_token=True)
    with one, two, a_page(browser, one.url, may_fail=True) as page:
        for dashboard, shown in ((one, "1 of 1 online"), (two, "3 of 3 online")):
            page.goto(dashboard.url)
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Sign in").click()
            see(page, ".big", shown)
        page.goto(one.url)
        see(page, ".big", "1 of 1 online")
        page.get_by_role("button", name="Sign out").click()
        see(page, ".signin")
        page.goto(two.url)
        see(page, ".big", "3 of 3 online")
        assert [it["name"] for it in page.context.cookies()] == [f"runner_session_{two.port}"]


def test_after_a_restart_an_open_page_asks_for_the_token_again(browser: Browser) -> None:
    dashboard = Dashboard(*many(40), needs_token=True)
    with dashboard, a_page(browser, dashboard.url, may_fail=True) as page:
        for _ in range(2):
            see(page, ".signin")
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Sign in").click()
            see(page, ".big", "39 of 40 online")
            dashboard.stop()
            see(page, ".banner", "does not answer")
            dashboard.start()


def test_who_guessed_too_often_is_told_to_wait(browser: Browser) -> None:
    dashboard = Dashboard(*many(1), needs_token=True)
    with dashboard, a_page(browser, dashboard.url, may_fail=True) as page:
        for number in range(Guesses().each.number + 1):
            page.get_by_label("Token").fill(f"not-the-token-{number}")
            with page.expect_response("**/login"):
                page.get_by_role("button", name="Sign in").click()
        see(page, ".bad", "too many wrong tokens came from")


def test_a_token_that_may_only_read_finds_its_actions_off(browser: Browser) -> None:
    dashboard = Dashboard(*many(40), needs_token=True)
    with dashboard, a_page(browser, dashboard.url + "#/session/desk-00007", may_fail=True) as page:
        page.get_by_label("Token").fill(READ_TOKEN)
        page.get_by_role("button", name="Sign in").click()
        see(page, ".read-only", "may look, not act")
        see(page, "h1", "desk-00007")
        buttons = page.locator(".actions button")
        assert [buttons.nth(i).is_enabled() for i in range(buttons.count())] == [False] * 4


def test_a_runner_that_goes_away_is_told_and_comes_back(browser: Browser, tmp_path: Path) -> None:
    """A real runner with its simulator, restarted under an open page."""
    port = free_port()
    settings = {"WHATSAPP_ADMIN_PORT": str(port)}
    with SimulatorProcess(tmp_path, sessions=3) as server:
        runner = RunnerProcess(tmp_path / "a", server, settings)
        with runner:
            import_all(server.credentials, runner.env)
            runner.wait_online(3)
            with a_page(browser, f"http://127.0.0.1:{port}/", may_fail=True) as page:
                see(page, ".big", "3 of 3 online")
                page.goto(f"http://127.0.0.1:{port}/#/session/{runner.sessions()[0]['id']}")
                see(page, ".timeline li", "online")
                page.goto(f"http://127.0.0.1:{port}/#/")
                runner.stop()
                see(page, ".banner", re.compile(r"does not answer.*from \d\d:\d\d:\d\d.*old"))
                for shown in (
                    ".big",
                    ".top .stack",
                    ".chart .value",
                ):  # "nothing is wrong" is no longer known
                    assert (
                        page.evaluate(f"getComputedStyle(document.querySelector('{shown}')).opacity") != "1"
                    )
                with RunnerProcess(tmp_path / "a", server, settings) as again:
                    page.locator(".banner").wait_for(state="hidden", timeout=30_000)
                    again.wait_online(3)
                    see(page, ".big", "3 of 3 online")
                    see(page, ".live", "Live")


@pytest.mark.parametrize(
    "path", ["", "#/sessions", "#/session/desk-00007", "#/events", "#/alerts", "#/webhooks", "#/system"]
)
def test_every_page_fits_a_phone_and_has_its_landmarks(browser: Browser, small: Dashboard, path: str) -> None:
    with a_page(browser, small.url + path, width=360, height=740, scheme="dark", locale="pt-BR") as page:
        see(page, "header nav a", "Visão geral")
        see(page, "main h1, main h2")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        outside = page.evaluate(
            "[...document.querySelectorAll('header nav a')].filter(it =>"
            " it.getBoundingClientRect().right > 360 || it.scrollWidth > it.clientWidth)"
            ".map(it => it.textContent)"
        )
        assert outside == [], "every page is one touch away"
        assert page.evaluate("document.documentElement.lang") == "pt-BR"
        assert page.locator("main, header, nav[aria-label]").count() >= 3
        unnamed = page.evaluate(
            "[...document.querySelectorAll('button, a, input, select')].filter(it =>"
            " !(it.textContent.trim() || it.getAttribute('aria-label') || it.labels?.length)).length"
        )
        assert unnamed == 0


def test_theme_language_and_keyboard(browser: Browser, small: Dashboard) -> None:
    with a_page(browser, small.url + "#/alerts") as page:
        see(page, "h1", "Alerts")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        for _ in range(2):
            page.locator("button.theme").click()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
        see(page, ".alert p", "no space left on the store's disk")
        page.locator("button.language").click()
        see(page, "h1", "Alertas")
        see(page, ".alert p", "nada pode ser gravado")
        see(page, ".alert p[lang=en]", "no space left on the store's disk")
        see(page, ".alert .remedy", "libere espaço")
        page.reload()
        see(page, "h1", "Alertas")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_events_are_shown_as_they_come_and_can_be_narrowed_down(
    browser: Browser, fleet_of_few: Dashboard
) -> None:
    def message(session: str, text: str) -> None:
        payload = {"id": "A1", "from": "15550001111@s.whatsapp.net", "kind": "text", "body": text}
        event = StatusEvent("message", session, int(time.time() * 1000), None, payload)
        fleet_of_few.do(lambda: fleet_of_few.fleet.feed.publish(event))

    with a_page(browser, fleet_of_few.url + "#/events") as page:
        see(page, ".empty", "Nothing has happened")
        see(page, ".live", "Live")
        message("desk-1", "bom <b>dia</b>")
        see(page, ".event .said", "bom <b>dia</b>")
        fleet_of_few.do(lambda: fleet_of_few.fleet.change("shop", state=State.BACKOFF))
        see(page, ".event", "session.status")
        page.locator(".event summary").first.click()
        see(page, ".event pre", '"previous": "parked"')
        message("shop", "more")
        see(page, ".event .said", "more")
        assert page.locator(".event[open]").count() == 1, "what was opened stays open"
        page.locator("select").select_option("message")
        assert page.locator(".event").count() == 2
        page.get_by_label("Session").fill("desk")
        assert page.locator(".event").count() == 1
        page.get_by_role("button", name="Pause").click()
        message("desk-1", "not yet")
        fleet_of_few.tell("alert.firing", {})
        assert page.locator(".event").count() == 1
        page.get_by_role("button", name="Go on").click()
        see(page, ".event .said", "not yet")
        page.get_by_role("button", name="Clear").click()
        see(page, ".empty", "Nothing has happened")


def test_a_webhook_is_added_tested_and_removed_and_dead_letters_are_put_back(
    browser: Browser, fleet_of_few: Dashboard
) -> None:
    store = fleet_of_few.fleet.store
    store.receive("desk-1", "15550001111@s.whatsapp.net", "oi")
    store.bury([(1, 5, "ValueError at bot.py:7 in handle")])
    with (
        AlertReceiver() as receiver,
        a_page(browser, fleet_of_few.url + "#/webhooks", may_fail=True) as page,
    ):
        see(page, ".empty", "No webhooks")
        see(page, "table tr", "ValueError at bot.py:7 in handle")
        page.get_by_role("button", name="Add a webhook").click()
        page.get_by_label("Address").fill(receiver.url)
        page.get_by_label("Events").fill("mesage")
        page.get_by_role("button", name="Add", exact=True).click()
        see(page, ".notice.bad", "did you mean message")
        page.get_by_role("button", name="Add a webhook").click()
        page.get_by_label("Address").fill(receiver.url)
        page.get_by_role("button", name="Add", exact=True).click()
        see(page, ".webhook", receiver.url)
        page.get_by_role("button", name="Test").click()
        see(page, ".notice", "Delivered")
        assert [body["event"] for body in receiver.bodies] == ["webhook.test"]
        page.locator(".webhook").get_by_role("button", name="Remove").click()
        page.get_by_role("button", name="Cancel").click()
        page.locator(".webhook").get_by_role("button", name="Remove").click()
        page.locator("dialog").get_by_role("button", name="Remove").click()
        see(page, ".empty", "No webhooks")
        page.get_by_role("button", name="Put back").click()
        see(page, ".notice", "Put back: 1")
        assert list(store.waiting) == [1]
        see(page, "section .muted", "There are none.")


def test_who_may_only_read_changes_no_webhook(browser: Browser) -> None:
    with (
        Dashboard(a_view("desk-1"), needs_token=True) as dashboard,
        a_page(browser, dashboard.url + "#/webhooks", may_fail=True) as page,
    ):
        page.locator("input").fill(READ_TOKEN)
        page.keyboard.press("Enter")
        see(page, "h1", "Webhooks")
        assert page.get_by_role("button", name="Add a webhook").is_disabled()
        page.goto(dashboard.url + "#/events")
        see(page, "main p", "Messages are not shown")


PAGES = ("", "#/sessions", "#/session/desk-00007", "#/events", "#/alerts", "#/webhooks", "#/system")
CONTRAST = (Path(__file__).parents[1] / "support" / "contrast.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(browser: Browser, small: Dashboard, scheme: str) -> None:
    with a_page(browser, small.url, scheme=scheme) as page:
        for path in (
            "",
            "#/sessions",
            "#/session/desk-00007",
            "#/events",
            "#/alerts",
            "#/webhooks",
            "#/system",
        ):
            page.goto(small.url + path)
            see(page, "main h1, main h2")
            assert page.evaluate(CONTRAST) == [], path


@pytest.mark.parametrize(("locale", "words"), [("en-GB", EN), ("pt-BR", PT)])
def test_a_session_is_added_and_a_phone_linked(
    browser: Browser, tmp_path: Path, locale: str, words: dict[str, str]
) -> None:
    port = free_port()
    settings = {"WHATSAPP_ADMIN_PORT": str(port)}
    with (
        SimulatorProcess(tmp_path, sessions=0) as simulator,
        RunnerProcess(tmp_path, simulator, settings) as runner,
    ):
        runner.wait_api()
        control = SimulatorControl(simulator.control)
        with a_page(browser, f"http://127.0.0.1:{port}/#/sessions", locale=locale) as page:
            page.get_by_role("button", name=words["add"]).click()
            page.get_by_role("textbox", name=words["name"], exact=True).fill("not a name")
            page.get_by_role("button", name=words["confirm"]).click()
            assert page.locator("dialog:invalid, dialog :invalid").count(), "a name that cannot be one"
            page.get_by_role("textbox", name=words["name"], exact=True).fill("loja-1")
            page.get_by_role("button", name=words["confirm"]).click()
            see(page, "h1", "loja-1")
            see(page, "#link-title", words["title"])
            see(page, ".qr img")
            see(page, ".link [role=status]", re.compile(words["left"]))
            assert page.locator(".qr img").evaluate("it => it.decode().then(() => it.naturalWidth)") > 200
            # A code to type in, for a phone without a camera; then the QR code all the same.
            page.get_by_role("textbox", name=words["phone"]).fill("+55 11 91234-5678")
            page.get_by_role("button", name=words["code"]).click()
            see(page, ".link output", re.compile(r"^[1-9A-Z]{4}-[1-9A-Z]{4}$"))
            _, shown = runner.request("GET", "/api/loja-1/auth/qr?format=raw")
            control.post("/pair", qr=shown["value"], phone="5511912345678")
            see(page, ".state-now .pill", "online")
            page.locator("#link-title").wait_for(state="hidden")
        assert "5511912345678" not in runner.output()
        assert runner.stop() == 0
