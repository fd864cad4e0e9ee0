"""Applying and undoing on machines that are directories, and what happens when a step fails."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.tune import changes, kept
from runner.tune.finding import OpenFiles, Sysctl
from runner.tune.kept import MARK, TuneError
from support.machines import bare_host, tree

if TYPE_CHECKING:
    from pathlib import Path

    from runner.tune.finding import Change

PORTS = Sysctl("net.ipv4.ip_local_port_range", "10240 65535")
FILES = Sysctl("fs.file-max", "4000000")
LIMIT = OpenFiles(65_536)


def value(root: Path, name: str) -> str:
    return " ".join((root / "proc/sys" / name.replace(".", "/")).read_text().split())


def snapshot(root: Path) -> dict[str, str]:
    """Every file, blanks made one."""
    return {
        str(path.relative_to(root)): " ".join(path.read_text().split())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return bare_host(tmp_path)


def test_changes_hold_now_and_after_a_boot(host: Path) -> None:
    outcomes = changes.apply(host, [PORTS, LIMIT], ["whatsapp.service"])
    assert all(outcome.done for outcome in outcomes)
    assert outcomes[0].text == "32768 60999 → 10240 65535, read back"
    assert value(host, PORTS.name) == PORTS.value
    assert (host / kept.SYSCTL_FILE).read_text() == f"{MARK}{PORTS.name} = {PORTS.value}\n"
    assert "* - nofile 65536\nroot - nofile 65536\n" in (host / kept.LIMITS_FILE).read_text()
    drop_in = host / "etc/systemd/system/whatsapp.service.d/60-runner-tune.conf"
    assert drop_in.read_text() == f"{MARK}[Service]\nLimitNOFILE=65536\n"
    assert stat.S_IMODE((host / kept.SYSCTL_FILE).stat().st_mode) == 0o644
    assert stat.S_IMODE((host / kept.STATE_FILE).parent.stat().st_mode) == 0o700


def test_undo_leaves_the_machine_as_it_was(host: Path) -> None:
    before = snapshot(host)
    changes.apply(host, [PORTS, FILES, LIMIT], ["whatsapp.service"])
    assert snapshot(host) != before
    assert all(outcome.done for outcome in changes.undo(host))
    assert snapshot(host) == before
    assert changes.undo(host) == []


@settings(deadline=None, max_examples=25)  # each example writes to a disk
@given(rounds=st.lists(st.lists(st.sampled_from([PORTS, FILES, LIMIT, Sysctl(PORTS.name, "20000 65535")]))))
def test_undo_goes_back_to_before_the_first_of_many(
    rounds: list[list[Change]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    host = bare_host(tmp_path_factory.mktemp("host"))
    before = snapshot(host)
    for wanted in rounds:
        changes.apply(host, wanted)
    changes.undo(host)
    assert snapshot(host) == before


def test_a_second_apply_keeps_what_the_first_one_set(host: Path) -> None:
    changes.apply(host, [PORTS])
    changes.apply(host, [FILES])
    text = (host / kept.SYSCTL_FILE).read_text()
    assert PORTS.name in text
    assert FILES.name in text


def test_a_value_that_does_not_take_is_put_back_and_not_kept(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = changes._put

    def stubborn(root: Path, name: str, text: str) -> None:
        really(root, name, "9999" if (name, text) == (FILES.name, FILES.value) else text)

    monkeypatch.setattr(changes, "_put", stubborn)
    outcomes = {outcome.what: outcome for outcome in changes.apply(host, [FILES, PORTS])}
    assert outcomes[FILES.name].text == "stays 2466170: the kernel made 9999 of 4000000"
    assert not outcomes[FILES.name].done
    assert outcomes[PORTS.name].done
    assert value(host, FILES.name) == "2466170"
    assert FILES.name not in (host / kept.SYSCTL_FILE).read_text()
    assert FILES.name not in (host / kept.STATE_FILE).read_text()


def test_a_value_that_the_kernel_refuses_stays(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(_root: Path, _name: str, _text: str) -> None:
        raise PermissionError(1, "operation not permitted")

    monkeypatch.setattr(changes, "_put", refusing)
    before = snapshot(host)
    outcomes = changes.apply(host, [PORTS])
    assert [(outcome.done, outcome.text) for outcome in outcomes] == [
        (False, "stays 32768 60999: operation not permitted")
    ]
    assert snapshot(host) == before


def test_when_a_file_cannot_be_written_the_values_go_back(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(host)
    really = kept.write

    def full(path: Path, text: str) -> None:
        if path == host / kept.LIMITS_FILE:
            raise TuneError(f"{path} cannot be written: no space left on device")
        really(path, text)

    monkeypatch.setattr(kept, "write", full)
    outcomes = changes.apply(host, [PORTS, LIMIT])
    assert not all(outcome.done for outcome in outcomes)
    assert snapshot(host) == before


def test_a_failed_second_run_leaves_the_first_in_force(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes.apply(host, [PORTS])
    after_first = snapshot(host)
    really = kept.write

    def full(path: Path, text: str) -> None:
        if path == host / kept.LIMITS_FILE:
            raise TuneError(f"{path} cannot be written: no space left on device")
        really(path, text)

    monkeypatch.setattr(kept, "write", full)
    changes.apply(host, [FILES, LIMIT])
    assert snapshot(host) == after_first


@pytest.mark.parametrize("file", [kept.SYSCTL_FILE, kept.LIMITS_FILE])
def test_a_file_of_somebody_else_is_never_touched(host: Path, file: Path) -> None:
    tree(host, {str(file): "vm.swappiness = 1\n"})
    before = snapshot(host)
    with pytest.raises(TuneError, match="is not ours"):
        changes.apply(host, [PORTS, LIMIT])
    assert snapshot(host) == before


def test_a_value_changed_by_somebody_else_since_is_left_alone(host: Path) -> None:
    changes.apply(host, [PORTS])
    (host / "proc/sys/net/ipv4/ip_local_port_range").write_text("2000\t65000\n")
    (outcome, *_) = changes.undo(host)
    assert outcome.text == "left at 2000 65000: somebody else has changed it since"
    assert value(host, PORTS.name) == "2000 65000"


def test_undo_keeps_what_it_could_not_do(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes.apply(host, [PORTS, FILES])
    really = changes._put

    def refusing(root: Path, name: str, text: str) -> None:
        if name == PORTS.name:
            raise PermissionError(1, "operation not permitted")
        really(root, name, text)

    monkeypatch.setattr(changes, "_put", refusing)
    assert {outcome.what: outcome.done for outcome in changes.undo(host)} == {
        PORTS.name: False,
        FILES.name: True,
        str(kept.SYSCTL_FILE): True,
    }
    monkeypatch.undo()
    changes.undo(host)
    assert value(host, PORTS.name) == "32768 60999"
    assert not (host / kept.STATE_FILE).exists()


def test_a_crash_after_the_state_was_written_can_be_undone(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(host)

    def crash(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(changes, "_write_files", crash)
    with pytest.raises(KeyboardInterrupt):
        changes.apply(host, [PORTS])
    assert value(host, PORTS.name) == PORTS.value
    changes.undo(host)
    assert snapshot(host) == before


@pytest.mark.parametrize(
    "state",
    [
        "{",
        "[]",
        json.dumps(
            {"sysctls": {"kernel.core_pattern": ["core", "|/tmp/evil"]}, "openFiles": None, "files": []}
        ),
        json.dumps({"sysctls": {"fs.file-max": ["1; reboot", "2"]}, "openFiles": None, "files": []}),
        json.dumps({"sysctls": {}, "openFiles": None, "files": ["/etc/passwd"]}),
        json.dumps({"sysctls": {}, "openFiles": None, "files": ["etc/../../passwd"]}),
    ],
)
def test_root_does_not_obey_a_state_that_it_did_not_write(host: Path, state: str) -> None:
    tree(host, {str(kept.STATE_FILE): state})
    before = snapshot(host)
    with pytest.raises(TuneError, match="cannot be used") as caught:
        changes.undo(host)
    assert caught.value.remedy
    assert snapshot(host) == before


def test_a_plain_user_is_told_that_undo_is_roots(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes.apply(host, [PORTS])
    really = type(host).read_text

    def hidden(path: Path, encoding: str | None = None, errors: str | None = None) -> str:
        if path == host / kept.STATE_FILE:
            raise PermissionError(13, "permission denied")
        return really(path, encoding, errors)

    monkeypatch.setattr(type(host), "read_text", hidden)
    with pytest.raises(TuneError, match="root's alone") as caught:
        changes.undo(host)
    assert "sudo" in caught.value.remedy
