"""Settings: where a value comes from, and what an operator is told when it is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runner import config
from runner.config import Settings, load
from runner.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)


def problems_of(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load({f"WHATSAPP_{name}": value for name, value in environ.items()})
    return list(caught.value.problems)


def test_the_owners_names_have_the_owners_defaults() -> None:
    shown = config.written(load({}))
    assert {
        "RECONNECTION_MAX_RETRIES": "10",
        "RECONNECTION_BASE_DELAY": "2000",
        "RECONNECTION_MAX_DELAY": "300000",
        "CIRCUIT_BREAKER_THRESHOLD": "5",
        "CIRCUIT_BREAKER_TIMEOUT": "600000",
        "PERFORMANCE_MONITORING": "true",
        "HEALTH_CHECK_INTERVAL": "30000",
        "MEMORY_THRESHOLD": "0.8",
        "CPU_THRESHOLD": "0.9",
        "ERROR_RATE_THRESHOLD": "0.1",
        "RESPONSE_TIME_THRESHOLD": "5000",
    }.items() <= shown.items()


def test_the_other_names_have_their_defaults() -> None:
    shown = config.written(load({}))
    assert {
        "ADMIN_HOST": "127.0.0.1",
        "ADMIN_PORT": "4001",
        "ENDPOINT": "wss://web.whatsapp.com/ws/chat",
        "CLIENT_VERSION": "auto",
        "CONNECT_TIMEOUT": "20000",
        "HANDSHAKE_TIMEOUT": "20000",
        "QUERY_TIMEOUT": "60000",
        "SEND_TIMEOUT": "75000",
        "CONNECT_RATE": "10",
        "CONNECT_BURST": "50",
        "CONNECT_CONCURRENCY": "50",
        "KEEPALIVE_MIN": "15000",
        "KEEPALIVE_MAX": "20000",
        "DEAD_SOCKET": "12000",
    }.items() <= shown.items()


def test_every_default_parses_to_itself() -> None:
    """The written default and the held default of a row cannot drift apart."""
    for name, (entry, row) in config.rows().items():
        if entry.default != "":
            assert row.parse(row.written_default) == entry.default, name


def test_milliseconds_are_held_as_seconds() -> None:
    assert load({"WHATSAPP_QUERY_TIMEOUT": "1500"}).query_timeout_s == 1.5


def test_the_environment_wins_over_the_file_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text("query_timeout = 7000\nsend_timeout = 8000\nperformance_monitoring = false\n")
    settings = load({"WHATSAPP_CONFIG": str(file), "WHATSAPP_QUERY_TIMEOUT": "9000"})
    assert (settings.query_timeout_s, settings.send_timeout_s, settings.connect_timeout_s) == (9.0, 8.0, 20.0)
    assert settings.performance_monitoring is False


def test_the_file_in_the_data_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / "runner.toml").write_text("connect_rate = 2.5\n")
    assert load({"WHATSAPP_DATA_DIR": str(tmp_path)}).connect_rate == 2.5


def test_every_wrong_value_and_unknown_name_is_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text('conect_rate = 1\nadmin_port = "high"\n')
    found = problems_of(
        CONFIG=str(file),
        QUERY_TIMOUT="1",
        CPU_THRESHOLD="1.5",
        IK="of",
        PERFORMANCE_MONITORING="perhaps",
    )
    assert found == [
        "WHATSAPP_QUERY_TIMOUT is not a setting; did you mean WHATSAPP_QUERY_TIMEOUT?",
        f"{file}: conect_rate is not a setting; did you mean connect_rate?",
        "WHATSAPP_CPU_THRESHOLD must lie between 0 and 1 (it is '1.5')",
        "WHATSAPP_IK must be one of auto, on, off; did you mean off? (it is 'of')",
        "WHATSAPP_PERFORMANCE_MONITORING must be true or false (it is 'perhaps')",
        f"{file}: admin_port must be a whole number (it is 'high')",
    ]


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (b"WHATSAPP_ADMIN_PORT = 1", "WHATSAPP_ADMIN_PORT is not a setting; did you mean admin_port?"),
        (b"[whatsapp]\nadmin_port = 1", "whatsapp is a table, and settings stand in none"),
        (b"foo = 1", "foo is not a setting"),
        (b'webhook_urls = ["https://a.example/"]', "must be one value and not a list; several go into one"),
        (b"connect_rate = 2026-11-27", "connect_rate must be a string, a number, true or false"),
        (b"admin_port = ", "cannot be read: Invalid value"),
        (b"\xff", "cannot be read: it is not UTF-8"),
    ],
)
def test_what_is_wrong_with_the_file_is_explained(tmp_path: Path, toml: bytes, said: str) -> None:
    file = tmp_path / "some.toml"
    file.write_bytes(toml)
    (problem,) = problems_of(CONFIG=str(file))
    assert problem.startswith(f"{file}")
    assert said in problem
    assert problem.endswith(said) or "did you mean" not in problem


def test_a_file_that_is_none_is_told_once_by_name(tmp_path: Path) -> None:
    assert problems_of(CONFIG=str(tmp_path)) == [f"{tmp_path} cannot be read: Is a directory"]
    assert problems_of(PROXY_FILE=str(tmp_path / "no")) == [
        f"WHATSAPP_PROXY_FILE cannot be read: {tmp_path / 'no'}: No such file or directory"
    ]
    assert problems_of(FOO="1") == ["WHATSAPP_FOO is not a setting"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ENDPOINT", "https://web.whatsapp.com", "must look like wss://host[:port]/path"),
        ("ENDPOINT", "ws://web.whatsapp.com/ws/chat", "plain ws:// only for loopback"),
        ("PROXY", "ftp://proxy", "must look like http://"),
        ("PROXY", "http://[::1", "must look like http://"),
        ("PROXY", "http://proxy:99999", "a port of 1 to 65535"),
        ("ENDPOINT", "wss://[::1", "must look like wss://"),
        ("ENDPOINT", "wss://host:0/", "a port of 1 to 65535"),
        ("CLIENT_VERSION", "2.3000", "must be auto or three numbers"),
        ("ADMIN_PORT", "65536", "must lie between 0 and 65535"),
        ("OUTBOX_CAPACITY", "1", "must lie between 64 and 1000000 (it is '1')"),
        ("CONNECT_RATE", "0", "must lie between 0.01 and"),
        ("RECONNECTION_BASE_DELAY", "2s", "must be a whole number of milliseconds (it is '2s')"),
        ("QUERY_TIMEOUT", "0", "must lie between 1"),
        ("ADMIN_TOKEN", "short", "less than 16 characters"),
        ("ADMIN_TOKEN", "long-enough-for-a-token:write", "something that is no scope"),
    ],
)
def test_a_wrong_value_is_explained(name: str, value: str, said: str) -> None:
    (problem,) = problems_of(**{name: value})
    assert problem.startswith(f"WHATSAPP_{name} ")
    assert said in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADMIN_TOKEN", "hunter2"),
        ("ADMIN_TOKEN", "a-token-with-a-colon:hunter2"),
        ("ADMIN_TOKEN", "a-token-that-is-well,hunter2:read"),
        ("PROXY", "http://user:hunter2@[::1"),
        ("PROXY", "ftp://user:hunter2@host"),
        ("PROXY", "http://user:hunter2@host:hunter2"),
        ("ALERT_WEBHOOK_URLS", "https://good.example/,ftp://hooks.example/hunter2"),
    ],
)
def test_what_is_wrong_with_a_secret_is_told_without_it(name: str, value: str) -> None:
    (problem,) = problems_of(**{name: value})
    assert problem.startswith(f"WHATSAPP_{name} ")
    assert "hunter2" not in problem


@pytest.mark.parametrize("endpoint", ["ws://127.0.0.1:7001/ws/chat", "ws://[::1]:7001/", "ws://localhost/ws"])
def test_plain_websockets_are_for_loopback(endpoint: str) -> None:
    assert load({"WHATSAPP_ENDPOINT": endpoint}).endpoint == endpoint


@pytest.mark.parametrize(
    "host", ["web.whatsapp.com", "WEB.WhatsApp.com", "g.whatsapp.net", "web.whatsapp.com."]
)
def test_another_root_is_refused_for_the_real_host(host: str, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    found = problems_of(ENDPOINT=f"wss://{host}/ws/chat", ROOT_KEY="ab" * 32, TLS_CA=str(ca))
    assert [problem.split()[0] for problem in found] == ["WHATSAPP_ROOT_KEY", "WHATSAPP_TLS_CA"]


def test_another_root_is_taken_for_a_simulator() -> None:
    settings = load({"WHATSAPP_ENDPOINT": "ws://127.0.0.1:1/", "WHATSAPP_ROOT_KEY": "AB" * 32})
    assert settings.root_key == "ab" * 32


def test_ik_is_off_for_the_real_host_only() -> None:
    elsewhere = {"WHATSAPP_ENDPOINT": "ws://127.0.0.1:1/"}
    assert not load({}).resume
    assert load({"WHATSAPP_IK": "on"}).resume
    assert load(elsewhere).resume
    assert not load({**elsewhere, "WHATSAPP_IK": "off"}).resume


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-from-a-file\n")
    assert load({"WHATSAPP_ADMIN_TOKEN_FILE": str(tmp_path / "token")}).admin_token == "a-token-from-a-file"


def test_a_secret_and_its_file_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-from-a-file")
    (problem,) = problems_of(ADMIN_TOKEN="another-token-here", ADMIN_TOKEN_FILE=str(tmp_path / "token"))
    assert "both set" in problem


def test_what_is_no_secret_has_no_file() -> None:
    (problem,) = problems_of(ENDPOINT_FILE="/nowhere")
    assert "is not a setting" in problem


def test_a_wrong_secret_is_not_quoted() -> None:
    (problem,) = problems_of(PROXY="user:hunter2@host")
    assert "hunter2" not in problem


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load({"WHATSAPP_ADMIN_PORT": ""}).admin_port == 4001


def test_contradictions_are_reported() -> None:
    found = problems_of(RECONNECTION_BASE_DELAY="9000", RECONNECTION_MAX_DELAY="8000", KEEPALIVE_MIN="30000")
    assert found == [
        "WHATSAPP_RECONNECTION_BASE_DELAY is greater than WHATSAPP_RECONNECTION_MAX_DELAY",
        "WHATSAPP_KEEPALIVE_MIN is greater than WHATSAPP_KEEPALIVE_MAX",
    ]


@pytest.mark.parametrize("text", ["query_timeout = [1]", "query_timeout = ", "[query_timeout]\nx = 1"])
def test_a_damaged_file_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    (problem,) = problems_of(CONFIG=str(tmp_path / "bad.toml"))
    assert str(tmp_path / "bad.toml") in problem


def test_a_named_file_must_exist() -> None:
    (problem,) = problems_of(CONFIG="/nowhere/runner.toml")
    assert "does not exist" in problem


def test_printing_masks_secrets() -> None:
    settings = load(
        {"WHATSAPP_PROXY": "http://user:hunter2@proxy:1", "WHATSAPP_ADMIN_TOKEN": "a-token-to-be-masked"}
    )
    shown = config.written(settings)
    assert shown["PROXY"] == shown["ADMIN_TOKEN"] == "***"


def test_reloading_takes_over_what_can_change() -> None:
    before = load({})
    fresh = load({"WHATSAPP_CONNECT_RATE": "99", "WHATSAPP_QUERY_TIMEOUT": "1"})
    now, changed, waiting = config.reloaded(before, fresh)
    assert (now.connect_rate, now.query_timeout_s) == (99.0, 60.0)
    assert (changed, waiting) == (["WHATSAPP_CONNECT_RATE"], ["WHATSAPP_QUERY_TIMEOUT"])


def test_the_data_directory_follows_xdg_and_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load({}).socket_path == tmp_path / "wa-runner" / "admin.sock"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert Settings().data_path == Path("/var/lib/wa-runner")


def test_settings_load_without_trio_or_a_web_framework() -> None:
    heavy = "{'trio', 'fastapi', 'starlette', 'runner._core'}"
    code = f"import sys, runner.config; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_settings_page_is_current() -> None:
    """Write it with: python -m runner config docs > docs/settings.md."""
    from runner.cli.settings_docs import document

    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == document()


def test_the_readme_table_is_current() -> None:
    """Write it with: python -m runner config docs --readme."""
    from runner.cli.settings_docs import readme_table

    assert readme_table() in (ROOT / "README.md").read_text(encoding="utf-8")
