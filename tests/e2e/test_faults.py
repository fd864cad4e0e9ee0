"""Faults of network and server against real processes: what operators were promised, in a small size.

The same proofs at full size: `python -m bench.scenarios.soak`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import faults
from support.pair import FAST_PINGS, pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.pair import Pair

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

RATE, BURST = 60.0, 10
SETTINGS = FAST_PINGS | {
    "WHATSAPP_CONNECT_RATE": f"{RATE:g}",
    "WHATSAPP_CONNECT_BURST": str(BURST),
    "WHATSAPP_CLIENT_VERSION": "auto",
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Sixty sessions for all tests here: starting two processes costs more than most of the faults."""
    with pair(tmp_path_factory.mktemp("faults"), 60, SETTINGS) as made:
        yield made


@pytest.fixture
def p(fleet: Pair) -> Iterator[Pair]:
    """The fleet as one test finds it: all online, no breaker that remembers the test before."""
    fleet.control.reset()
    yield fleet
    for session_id in fleet.ids():
        assert fleet.runner.request("POST", f"/reset-circuit-breaker/{session_id}?penalty=true")[0] == 200
    fleet.runner.wait_ready(fleet.n)


@pytest.mark.pain(1, 15)
@pytest.mark.parametrize("level", ["app", "socket"])
def test_zombies_are_noticed_and_nobody_else_is_touched(p: Pair, level: str) -> None:
    # Longest ping interval and dead-socket time, and a second for a busy machine.
    faults.zombies(p, 6, level, 0.6 + 1.5 + 1.0)
    faults.assert_never_doubled(p)


@pytest.mark.pain(6)
def test_an_account_that_is_thrown_out_after_each_login_opens_its_own_breaker_only(p: Pair) -> None:
    # Before the tests that drop everybody: for ten seconds after that no end is held against one session.
    faults.flapping(p, "sim-00003", 8)


@pytest.mark.pain(6, 16)
@pytest.mark.parametrize("hard", [True, False])
def test_a_dropped_fleet_returns_at_the_rate_of_the_limiter(p: Pair, hard: bool) -> None:
    faults.mass_drop(p, RATE, BURST, hard=hard)


@pytest.mark.pain(6, 16, 25)
@pytest.mark.parametrize("mode", ["unlisten", "reset", "503"])
def test_an_outage_of_three_seconds_is_one_incident_and_all_are_back_soon(p: Pair, mode: str) -> None:
    faults.outage(p, 3.0, mode, 6.0)


@pytest.mark.pain(7, 17)
def test_forced_reconnects_racing_drops_never_make_two_connections(p: Pair) -> None:
    faults.forces_racing_drops(p, 200)


@pytest.mark.pain(23)
def test_a_raised_client_version_costs_three_logins_at_the_most(p: Pair) -> None:
    faults.raised_version(p, RATE)
