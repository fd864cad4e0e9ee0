"""The files for systemd, pm2 and containers: what they promise, and as far as this machine allows, that they
are right."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from runner.app import HARD_STOP_S
from runner.cli.exits import Exit
from runner.cli.main import cli
from runner.config import load, rows
from runner.config_kinds import parse_size
from runner.errors import StartError
from runner.service.files import KINDS, Place, written
from runner.service.unit import install, uninstall, unit_path

PLACE = Place(python=sys.executable, data_dir="/var/lib/wa-runner", user="root")


def unit(place: Place = PLACE) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in written("systemd", place).splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_to_fill_in(kind: str) -> None:
    text = written(kind, PLACE)
    assert "${" not in text
    assert "#[" not in text
    environ = {"WHATSAPP_DATA_DIR": PLACE.data_dir}
    assert CliRunner().invoke(cli, ["service", "print", kind, "--run-as", "root"], env=environ).stdout == text


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_that_is_named_exists(kind: str) -> None:
    for name in set(re.findall(r"WHATSAPP_[A-Z_]+", written(kind, PLACE))):
        assert name.removeprefix("WHATSAPP_") in rows()


def test_the_unit_promises_what_the_runner_does() -> None:
    said = unit()
    assert said["Type"] == ["notify"]
    assert said["ExecStart"] == [f'"{sys.executable}" -m runner run']
    assert said["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert float(said["TimeoutStopSec"][0]) > HARD_STOP_S
    assert float(said["WatchdogSec"][0]) > 120  # sessions survive a blocked Python for two minutes
    assert said["RestartPreventExitStatus"] == [f"{Exit.USAGE:d} {Exit.HELD:d}"]
    assert int(said["LimitNOFILE"][0]) >= 100_000
    assert "AF_NETLINK" in said["RestrictAddressFamilies"][0]  # sock_diag: who calls over TCP


def test_the_unit_of_a_user_asks_for_nothing_that_needs_root() -> None:
    said = unit(replace(PLACE, is_user_unit=True))
    assert said["WantedBy"] == ["default.target"]
    for name in ("User", "ProtectSystem", "PrivateDevices", "CapabilityBoundingSet", "StateDirectory"):
        assert name in unit()
        assert name not in said
    assert "OOMScoreAdjust" not in said


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "wa-runner.service"
    path.write_text(written("systemd", PLACE))
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def booted(tmp_path: Path) -> Path:
    (tmp_path / "run" / "systemd" / "system").mkdir(parents=True)
    return tmp_path


def test_install_writes_enables_and_does_not_start_and_uninstall_takes_it_back(tmp_path: Path) -> None:
    root, called = booted(tmp_path), list[list[str]]()
    path = install(PLACE, root=root, systemctl=called.append)
    assert path.read_text() == written("systemd", PLACE)
    assert called == [["daemon-reload"], ["enable", "wa-runner.service"]]
    called.clear()
    assert uninstall(is_user_unit=False, root=root, systemctl=called.append) == path
    assert not path.exists()
    assert called == [["disable", "--now", "wa-runner.service"], ["daemon-reload"]]
    with pytest.raises(StartError, match="there is no"):
        uninstall(is_user_unit=False, root=root, systemctl=called.append)


def test_without_systemd_install_says_so_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="systemd does not run") as caught:
        install(PLACE, root=tmp_path, systemctl=lambda _args: None)
    assert "pm2" in caught.value.remedy
    assert not unit_path(is_user_unit=False, root=tmp_path).exists()


def test_a_user_that_does_not_exist_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no user nobody-of-that-name") as caught:
        install(
            replace(PLACE, user="nobody-of-that-name"), root=booted(tmp_path), systemctl=lambda _args: None
        )
    assert caught.value.remedy.startswith("make one: useradd")


@pytest.mark.parametrize("path", ['/x"y', "/x'y", "/x\ny", "/x%h", "/x$HOME", "relative"])
def test_a_path_that_would_break_out_of_its_quotes_is_refused(path: str) -> None:
    for kind in ("systemd", "pm2"):
        with pytest.raises(ValueError, match="cannot be written"):
            written(kind, replace(PLACE, data_dir=path))


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_pm2_restarts_below_its_limit_and_waits_for_the_stop() -> None:
    source = json.dumps(written("pm2", PLACE))
    code = f"const m={{}}; (new Function('module', {source}))(m); console.log(JSON.stringify(m.exports))"
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    (app,) = json.loads(done.stdout)["apps"]
    assert (app["script"], app["args"], app["interpreter"]) == (sys.executable, "-m runner run", "none")
    assert app["max_memory_restart"] == "32G"  # the owner's figure
    assert parse_size(app["env"]["WHATSAPP_MAX_MEMORY_RESTART"]) < parse_size("32G")
    assert app["kill_timeout"] > 1000 * HARD_STOP_S
    assert load({name: value for name, value in app["env"].items() if name.startswith("WHATSAPP_")})


# No container engine here, so the Dockerfile is read as its grammar says.

INSTRUCTIONS = "FROM RUN WORKDIR COPY USER VOLUME ENV EXPOSE STOPSIGNAL HEALTHCHECK ENTRYPOINT CMD"


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, rest) of each line, continuations joined, comments dropped."""
    lines = [line for line in written("docker", PLACE).splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def test_the_dockerfile_parses_and_its_second_stage_compiles_nothing() -> None:
    found = dockerfile()
    assert {word for word, _ in found} <= set(INSTRUCTIONS.split())
    stages = [place for place, (word, _) in enumerate(found) if word == "FROM"]
    assert len(stages) == 2
    assert found[stages[0]][1].endswith(" AS build")
    last = found[stages[1] :]
    assert "latest" not in " ".join(rest for word, rest in found if word == "FROM")
    assert ("COPY", "--from=build /wheels /wheels") in last
    assert not [rest for word, rest in last if word == "RUN" and ("apt-get" in rest or "cargo" in rest)]
    for word in ("ENTRYPOINT", "CMD"):
        rest = next(rest for found_word, rest in last if found_word == word)
        assert isinstance(json.loads(rest), list)  # the exec form: signals reach the runner, not a shell


def test_the_container_is_not_root_and_is_asked_whether_it_works() -> None:
    last = dict(dockerfile())
    uid, gid = last["USER"].split(":")
    assert (int(uid) > 0, int(gid) > 0) == (True, True)
    check = last["HEALTHCHECK"].partition("CMD ")[2]
    assert check.startswith("runner monitor ")
    for code, healthy in ((0, True), (1, True), (2, False), (3, False)):
        shell = check.replace("runner monitor --no-log --timeout 10", f"(exit {code})")
        assert (subprocess.run(["sh", "-c", shell]).returncode == 0) is healthy


def test_the_dockerfile_and_the_compose_file_agree() -> None:
    text = written("compose", PLACE)
    last = dict(dockerfile())
    assert f"127.0.0.1:4001:{last['EXPOSE']}" in text
    assert f"- data:{last['VOLUME']}" in text
    assert float(re.findall(r"stop_grace_period: (\d+)s", text)[0]) > HARD_STOP_S
    limit, memory = re.findall(r"MAX_MEMORY_RESTART: (\w+)|mem_limit: (\w+)", text)
    assert parse_size(limit[0]) < parse_size(memory[1])
    path = re.findall(r"dockerfile: (\S+)", text)[0]
    assert (Path(__file__).parents[2] / path).is_file()
