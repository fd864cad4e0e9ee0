"""When a process that holds too much memory is restarted, and when that would loop."""

from __future__ import annotations

import pytest

from runner import memory_limit
from runner.config import load, written
from runner.errors import ConfigError
from runner.memory_limit import LOOKS, Look, Verdict, judge, least_uptime_s, next_streak, rss_bytes

MIB = 1024 * 1024
LIMIT = 1000 * MIB


def verdict(
    rss: int, uptime_s: float = 1e6, streak: int = 0, looks: int = LOOKS, limit: int = LIMIT
) -> Verdict:
    return judge(Look(rss_bytes=rss, limit_bytes=limit, uptime_s=uptime_s, streak=streak, looks_over=looks))


@pytest.mark.parametrize(
    ("rss", "said"),
    [
        (LIMIT * 95 // 100 - 1, Verdict.FINE),
        (LIMIT * 95 // 100, Verdict.NEAR),
        (LIMIT, Verdict.NEAR),
        (LIMIT + 1, Verdict.RESTART),
    ],
)
def test_the_limit_itself_is_allowed_and_one_byte_more_is_not(rss: int, said: Verdict) -> None:
    assert verdict(rss) is said


def test_without_a_limit_nothing_is_too_much() -> None:
    assert verdict(1 << 50, limit=0) is Verdict.FINE


def test_one_look_above_the_limit_is_not_enough() -> None:
    assert verdict(LIMIT + 1, looks=LOOKS - 1) is Verdict.NEAR


@pytest.mark.parametrize("streak", range(8))
def test_a_young_process_says_so_instead_of_looping(streak: int) -> None:
    least = least_uptime_s(streak)
    assert verdict(LIMIT + 1, uptime_s=least - 0.1, streak=streak) is Verdict.TOO_YOUNG
    assert verdict(LIMIT + 1, uptime_s=least, streak=streak) is Verdict.RESTART


def test_the_wait_grows_with_each_restart_that_did_not_help_up_to_six_hours() -> None:
    waits = [least_uptime_s(streak) for streak in range(200)]
    assert waits[:4] == [60, 240, 960, 3840]
    assert waits == sorted(waits)
    assert max(waits) == 6 * 3600


def test_a_process_that_lived_for_long_begins_the_streak_anew() -> None:
    assert next_streak(4, 12 * 3600 - 1) == 5
    assert next_streak(4, 12 * 3600) == 1


def test_a_limit_below_the_need_costs_at_most_a_handful_of_restarts_a_day() -> None:
    """The whole loop: every process is over the limit from its first second."""
    now, streak, restarts = 0.0, 0, 0
    while now < 86_400:
        uptime = least_uptime_s(streak)
        now, streak, restarts = now + uptime, next_streak(streak, uptime), restarts + 1
    assert restarts <= 12


def test_resident_memory_is_that_of_this_process() -> None:
    assert 10 * MIB < rss_bytes() < 10_000 * MIB
    assert memory_limit.LOOK_S <= 10


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ("32G", 32 << 30),
        ("512M", 512 << 20),
        ("1.5GiB", 3 << 29),
        ("1073741824", 1 << 30),
        ("1tb", 1 << 40),
        ("100_000_000", 100_000_000),
        ("0", 0),
    ],
)
def test_sizes_are_written_as_operators_write_them(said: str, size: int) -> None:
    settings = load({"WHATSAPP_MAX_MEMORY_RESTART": said})
    assert settings.max_memory_restart == size
    shown = written(settings)["MAX_MEMORY_RESTART"]
    assert load({"WHATSAPP_MAX_MEMORY_RESTART": shown}).max_memory_restart == size


@pytest.mark.parametrize("said", ["32 Gigs", "-1G", "G", "1e9", "63M", "1"])
def test_sizes_that_make_no_sense_are_refused(said: str) -> None:
    with pytest.raises(ConfigError, match="WHATSAPP_MAX_MEMORY_RESTART must be"):
        load({"WHATSAPP_MAX_MEMORY_RESTART": said})
