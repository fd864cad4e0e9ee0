"""`tune` as an operator types it, on machines that are directories, and the API's answer beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from runner.cli import tune as tune_command
from runner.cli.main import cli
from runner.engine import open_store
from runner.tune import facts, kept
from support.devices import import_device
from support.machines import bare_host, container, tree

if TYPE_CHECKING:
    from pathlib import Path

NARROW = {"net/ipv4/ip_local_port_range": "32768\t40000"}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WHATSAPP_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(facts, "ask_kernel_clock", lambda: True)
    return tmp_path / "data"


@pytest.fixture
def host(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with too few ports for 10,000."""
    del data
    monkeypatch.setattr(tune_command, "ROOT", tmp_path / "host")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return bare_host(tmp_path / "host", NARROW)


@pytest.fixture
def box(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A container with too few ports for 10,000."""
    del data
    monkeypatch.setattr(tune_command, "ROOT", tmp_path / "box")
    return container(tmp_path / "box", NARROW)


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, ["tune", *args])


def answer(*args: str) -> Any:  # noqa: ANN401 - JSON
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in report["findings"]}


@pytest.mark.usefixtures("host")
def test_without_a_store_it_judges_for_a_thousand_and_makes_no_store(data: Path) -> None:
    assert (answer()["sessions"], answer()["sessionsFrom"]) == (1000, "default")
    assert not data.exists()


@pytest.mark.usefixtures("host")
def test_with_a_store_it_judges_for_the_sessions_in_it(data: Path) -> None:
    data.mkdir(mode=0o700)
    store = open_store(data / "runner.db", 60.0)
    for number in range(3):
        import_device(store, f"desk-{number}", f"{15550000000 + number}:3@s.whatsapp.net")
    store.close()
    assert (answer()["sessions"], answer()["sessionsFrom"]) == (3, "store")
    assert answer("--sessions", "9")["sessionsFrom"] == "asked"


@pytest.mark.usefixtures("host")
def test_check_tells_fine_advised_and_too_small_apart() -> None:
    assert run("--check", "--sessions", "1000").exit_code == 0
    assert run("--check", "--sessions", "5000").exit_code == 1
    assert run("--check", "--sessions", "10000").exit_code == 8
    assert run("--sessions", "10000").exit_code == 0


def test_looking_changes_nothing(host: Path) -> None:
    before = sorted(path for path in host.rglob("*"))
    for args in (["--sessions", "10000"], ["--check"], ["--explain"], ["--json"]):
        run(*args)
    assert sorted(path for path in host.rglob("*")) == before


def test_apply_says_what_it_changed_and_undo_takes_it_back(host: Path) -> None:
    shown = run("--sessions", "10000", "--apply")
    assert shown.exit_code == 0, shown.output
    assert "net.ipv4.ip_local_port_range: 32768 40000 → 10240 65535, read back" in shown.stdout
    assert by_name(answer("--sessions", "10000"))["ephemeral-ports"]["status"] == "fine"
    assert run("--sessions", "10000", "--apply").stdout == "nothing to change\n"
    undone = run("--undo")
    assert "10240 65535 → 32768 40000, read back" in undone.stdout
    assert by_name(answer("--sessions", "10000"))["ephemeral-ports"]["status"] == "too_small"
    assert not (host / kept.SYSCTL_FILE).exists()
    assert run("--undo").stdout == "nothing to undo\n"


def test_a_container_that_cannot_be_changed_says_where_and_exits_with_9(box: Path) -> None:
    before = sorted(box.rglob("*"))
    shown = run("--sessions", "10000", "--apply")
    assert shown.exit_code == 9
    assert "--sysctl 'net.ipv4.ip_local_port_range=10240 65535'" in shown.stdout
    assert sorted(box.rglob("*")) == before


def test_somebody_elses_file_is_an_error_with_a_remedy(host: Path) -> None:
    tree(host, {str(kept.SYSCTL_FILE): "vm.swappiness = 1\n"})
    shown = run("--sessions", "10000", "--apply")
    assert shown.exit_code == 1
    assert "is not ours" in shown.stderr
    assert "remedy: " in shown.stderr


@pytest.mark.usefixtures("host")
def test_the_table_shows_every_check_and_reasons_only_for_what_is_advised() -> None:
    shown = run("--sessions", "10000").stdout
    for finding in answer("--sessions", "10000")["findings"]:
        assert finding["name"] in shown
    assert "ip-sysctl.rst, ip_local_port_range" in shown
    assert "ip-sysctl.rst, tcp_tw_reuse" not in shown
    assert "ip-sysctl.rst, tcp_tw_reuse" in run("--explain").stdout


@pytest.mark.usefixtures("host")
def test_one_thing_at_a_time() -> None:
    assert run("--check", "--apply").exit_code == 2
    assert run("--apply", "--undo").exit_code == 2
    assert run("--sessions", "0").exit_code == 2
