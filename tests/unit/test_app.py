"""What the process is made of, without running it."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest

from runner import embedded, limits
from runner.admin.sockets import SocketLock
from runner.app import engine_config, longest_dial_s, policy_of, raise_one_of
from runner.config import Settings, load
from runner.data_dir import open_to_others
from runner.errors import EngineFailedError, LeaseHeldError, RunnerError, StartError


@pytest.mark.parametrize(("mode", "told"), [(0o700, None), (0o775, None), (0o777, "777"), (0o1777, "777")])
def test_a_directory_that_every_user_can_write_is_noticed(
    tmp_path: Path, mode: int, told: str | None
) -> None:
    tmp_path.chmod(mode)
    assert open_to_others(tmp_path) == told


def test_a_dial_may_take_as_long_as_its_own_timeouts() -> None:
    """The supervisor's deadline is a net under the engine's; a shorter one would cut slow logins off."""
    slow = load({"WHATSAPP_CONNECT_TIMEOUT": "90000", "WHATSAPP_LOGIN_TIMEOUT": "120000"})
    assert longest_dial_s(slow) > 90 + 20 + 120


def test_the_operators_numbers_reach_the_policy() -> None:
    policy = policy_of(
        load(
            {
                "WHATSAPP_RECONNECTION_MAX_RETRIES": "3",
                "WHATSAPP_RECONNECTION_BASE_DELAY": "100",
                "WHATSAPP_RECONNECTION_MAX_DELAY": "1000",
                "WHATSAPP_RECONNECTION_EXHAUSTED": "park",
                "WHATSAPP_CIRCUIT_BREAKER_THRESHOLD": "4",
                "WHATSAPP_CIRCUIT_BREAKER_TIMEOUT": "5000",
                "WHATSAPP_CONNECT_RATE": "6",
                "WHATSAPP_CONNECT_BURST": "7",
                "WHATSAPP_CONNECT_CONCURRENCY": "8",
            }
        )
    )
    assert (policy.max_retries, policy.base_delay_s, policy.max_delay_s) == (3, 0.1, 1.0)
    assert (policy.park_when_exhausted, policy.breaker_threshold, policy.breaker_timeout_s) == (True, 4, 5.0)
    assert (policy.connect_rate_per_s, policy.connect_burst, policy.connect_concurrency) == (6.0, 7, 8)


def test_the_engine_accepts_the_default_settings() -> None:
    from runner._core import EngineConfig

    assert EngineConfig(**engine_config(Settings()))  # type: ignore[arg-type]


def test_keys_for_a_simulator_reach_the_engine(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(b"pem")
    settings = replace(Settings(), endpoint="wss://127.0.0.1:1/", root_key="ab" * 32, tls_ca=str(ca))
    config = engine_config(settings)
    assert (config["root_key"], config["tls_ca_pem"]) == (b"\xab" * 32, b"pem")
    with pytest.raises(StartError, match="WHATSAPP_TLS_CA"):
        engine_config(replace(settings, tls_ca=str(tmp_path / "none")))


def test_out_of_a_group_comes_the_error_that_says_what_happened() -> None:
    engine = EngineFailedError("died")
    group = BaseExceptionGroup("", [StartError("later"), BaseExceptionGroup("", [engine])])
    with pytest.raises(EngineFailedError) as caught:
        raise_one_of(group, EngineFailedError, RunnerError)
    assert caught.value is engine
    raise_one_of(BaseExceptionGroup("", [ValueError()]), EngineFailedError, RunnerError)  # left to the caller


def test_the_soft_limit_of_files_is_raised_to_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, pair: asked.append(pair))
    assert limits.raise_fd_limit() == 4096
    assert asked == [(4096, 4096)]


def test_without_a_hard_limit_the_kernels_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1024, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, pair: asked.append(pair))
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    assert limits.raise_fd_limit() == most
    assert asked == [(most, resource.RLIM_INFINITY)]


def test_descriptors_of_our_own_are_left_out() -> None:
    assert limits.sessions_that_fit(1024, 256) == 1024 - 256 - limits.OWN_FDS
    assert limits.sessions_that_fit(10, 256) == 1


SERVER = embedded.Server("ws://127.0.0.1:7/ws/chat", "http://127.0.0.1:8", "ab" * 32, None, Path("/nowhere"))


def test_the_embedded_simulator_raises_the_rate_unless_it_was_set() -> None:
    assert embedded.settings_for(SERVER, Settings()).connect_rate == 1000.0
    assert embedded.settings_for(SERVER, replace(Settings(), connect_rate=5.0)).connect_rate == 5.0


def test_the_embedded_simulator_is_the_only_thing_dialled() -> None:
    settings = embedded.settings_for(SERVER, replace(Settings(), proxy="http://proxy:1"))
    assert (settings.endpoint, settings.root_key, settings.proxy) == (SERVER.url, SERVER.root_key_hex, "")


def test_the_embedded_simulator_does_not_empty_a_directory_that_another_runner_uses(tmp_path: Path) -> None:
    directory = tmp_path / "simulator"
    (directory / "store").mkdir(parents=True)
    held = SocketLock(directory)
    with pytest.raises(LeaseHeldError), embedded.simulator(embedded.Rehearsal(1), directory):
        pass
    assert (directory / "store").exists()
    held.close()


def test_where_to_look_has_the_curl_lines_and_the_socket() -> None:
    text = embedded.where_to_look(25, replace(Settings(), data_dir="/d"), "http://127.0.0.1:5")
    for line in (
        "curl http://localhost:4001/performance-metrics",
        "curl http://localhost:4001/reconnection-status",
        "curl -X POST http://localhost:4001/force-reconnection/",
        "curl -X POST http://localhost:4001/reset-circuit-breaker/",
        "curl --unix-socket /d/admin.sock",
        "export WHATSAPP_DATA_DIR=/d",
        "-m runner status",
        "dashboard is at http://localhost:4001/",
        "curl -X POST http://127.0.0.1:5/drop-all",
    ):
        assert line in text
    assert "export" not in embedded.where_to_look(25, Settings(), "http://127.0.0.1:5")
    assert "localhost:" not in embedded.where_to_look(25, replace(Settings(), admin_port=0), "")
