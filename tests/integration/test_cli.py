"""The commands against a served fleet, and what they do without one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click
import pytest
import trio
from click.testing import CliRunner, Result
from rich.console import Console

from runner.admin.api import application
from runner.admin.client import Client
from runner.admin.guard import Access
from runner.admin.server import AdminServer
from runner.admin.sockets import bind_unix
from runner.admin.tokens import parse
from runner.cli import outgoing, tables, values
from runner.cli.exits import Exit
from runner.cli.fleet import COMMANDS
from runner.cli.main import cli
from runner.errors import AdminError, NotRunningError, RefusedError
from runner.session import State
from runner.supervisor.feed import StatusEvent
from support.fleet import AN_ALERT, FakeAlerts, FakeFleet, a_backend, a_view

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.admin.backend import Backend, Created, NewSession
    from runner.errors import RunnerError


ROOT = Path(__file__).parents[2]


class Served:
    """A runner's admin API on a thread of its own, as the blocking client meets it."""

    def __init__(self, socket_path: Path, views: int = 3) -> None:
        self.path = socket_path
        self.fleet: FakeFleet
        self.backend: Backend
        self._views = views
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._serve,))

    async def _serve(self) -> None:
        views = [a_view(f"desk-{number}") for number in range(1, self._views + 1)]
        views.append(a_view("shop", State.PARKED, "stream_replaced_code"))
        self.fleet = FakeFleet(*views)
        self.backend = a_backend(self.fleet)
        self._token = trio.lowlevel.current_trio_token()
        self.access = Access(parse("a-token-of-the-operator"))
        server = AdminServer(application(self.backend, self.access))
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, [bind_unix(self.path)], self.backend.stopping)
            self._ready.set()

    def count_creates(self) -> list[int]:
        """How many sessions each request to create some brings, from now on."""
        counted: list[int] = []
        create = self.backend.create

        async def counting(wishes: Sequence[NewSession]) -> list[Created | RunnerError]:
            counted.append(len(wishes))
            return await create(wishes)

        self.backend.create = counting
        return counted

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_args: object) -> None:
        self._token.run_sync_soon(self.backend.stopping.set)
        self._thread.join(10)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("WHATSAPP_DATA_DIR", str(tmp_path))
    with Served(tmp_path / "admin.sock") as served:
        yield served


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WHATSAPP_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def auth_dir(tmp_path: Path) -> Path:
    """A directory that Baileys made."""
    return Path(shutil.copytree(ROOT / "tests" / "vectors" / "baileys_auth" / "one", tmp_path / "auth"))


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


def said(result: Result) -> Any:  # noqa: ANN401 - JSON
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_sessions_as_json_are_objects_with_the_promised_names(served: Served) -> None:
    rows = said(run("sessions", "--json"))
    assert [row["id"] for row in rows] == ["desk-1", "desk-2", "desk-3", "shop"]
    assert {
        "id", "state", "reason", "connection", "since", "attempt", "nextRetryAt", "lastDataReceivedAt",
        "lastPongAt", "pongRttMs", "breaker",
    } <= rows[0].keys()  # fmt: skip


def test_sessions_as_a_table_show_ids_and_states(served: Served) -> None:
    shown = run("sessions", "--state", "parked").stdout
    assert "shop" in shown
    assert "stream_replaced_code" in shown
    assert "desk-1" not in shown
    assert run("sessions", "--reason", "none_such").stdout == "no sessions\n"


def test_a_narrow_terminal_leaves_out_columns_and_cuts_no_id(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "screen", lambda: Console(width=50))
    shown = run("sessions").stdout
    assert re.search(r"^shop +parked +stream_replaced_code +- *$", shown, re.MULTILINE)
    assert "no room here for CONN, FOR, ATTEMPT" in shown
    assert "…" not in shown


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("since", 1_700_000_040_000, "2023-11-14T22:14:00Z, 1m00s ago"),
        ("nextRetryAt", 1_700_000_200_000, "2023-11-14T22:16:40Z, in 1m40s"),
        ("breaker.openedAt", None, "-"),
        ("linked", True, "true"),
        ("system.usedMemory", 2**30, "1.0 GiB"),
        ("process.rss", 2**20, "1.0 MiB"),
        ("system.cpuUsage", 0.026, "2.6 %"),
        ("metrics.connectionUptime", 61.2, "1m01s"),
        ("engine.loopLag", 0.00184, "0.00184 s"),
        ("responseTime.p95Ms", 4.139, "4.1 ms"),
        ("averageResponseTime", 0.771, "0.8 ms"),
        ("messagesPerMinute", 2.7333, "2.733"),
        ("engine.panics", 0, "0"),
    ],
)
def test_a_value_is_shown_in_its_unit(name: str, value: object, text: str) -> None:
    assert values.shown(name, value, now=1_700_000_100.0) == text


def test_status_shows_the_system(served: Served) -> None:
    assert "online" in run("status").stdout
    answer = said(run("status", "--json"))
    assert (answer["health"]["ready"], answer["system"]["activeConnections"]) == (True, 1)


@pytest.mark.parametrize("name", ["nobody", "../desk-1", "desk-1/metrics", "", "%2e"])
@pytest.mark.parametrize("command", ["show", "reconnect", "stop"])
def test_what_no_session_is_called_is_an_unknown_session(served: Served, command: str, name: str) -> None:
    result = run(command, name)
    assert result.exit_code == Exit.UNKNOWN_SESSION
    assert f"no session is called {name!r}" in result.stderr


def test_a_wrong_phone_number_makes_no_session(served: Served) -> None:
    result = run("pair", "new-1", "--phone", "12")
    assert (result.exit_code, served.fleet.called) == (Exit.USAGE, [])
    assert "no phone number: 7 to 15 digits" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        "sim --port 99999",
        "sim --control-port -1",
        "sim --sessions -1",
        "alerts silence cpu_high --minutes 1e9",
        "top --every 0",
    ],
)
def test_a_number_out_of_range_is_wrong_usage(served: Served, arguments: str) -> None:
    result = run(*arguments.split())
    assert result.exit_code == Exit.USAGE
    assert "is not in the range" in result.stderr


def test_show_says_what_the_reason_is_about(served: Served) -> None:
    assert re.search(
        r"^reason +stream_replaced_code \(another client took over;", run("show", "shop").stdout, re.MULTILINE
    )
    assert re.search(r"^reason +- *$", run("show", "desk-1").stdout, re.MULTILINE)


def test_show_has_state_and_metrics(served: Served) -> None:
    assert said(run("show", "desk-1", "--json"))["metrics"]["averageResponseTime"] == 12.5
    assert "metrics.connectionUptime" in run("show", "desk-1").stdout


def test_reconnect_prints_the_new_connection(served: Served) -> None:
    assert said(run("reconnect", "desk-1", "--json")) == {
        "id": "desk-1",
        "connection": 2,
        "state": "connecting",
    }
    assert "connection 3" in run("reconnect", "desk-1").stdout


def test_a_refused_reconnect_has_its_own_exit_code(served: Served) -> None:
    refused = run("reconnect", "shop")
    assert refused.exit_code == 5
    assert refused.stderr == "error: shop ended with stream_replaced_code\nremedy: add ?override=true\n"
    as_json = run("reconnect", "shop", "--json")
    assert json.loads(as_json.stderr)["reason"] == "stream_replaced_code"
    assert run("reconnect", "shop", "--override").exit_code == 0


def test_an_unknown_session_has_its_own_exit_code(served: Served) -> None:
    assert run("show", "none").exit_code == 4
    assert run("reset-breaker", "none").exit_code == 4


@pytest.mark.parametrize(
    ("command", "called"),
    [
        (["start", "desk-1"], ("start", "desk-1")),
        (["stop", "desk-1"], ("stop", "desk-1")),
        (["restart", "desk-1"], ("restart", "desk-1")),
        (["logout", "desk-1"], ("logout", "desk-1")),
        (["delete", "desk-1", "--yes"], ("remove", "desk-1")),
        (["reset-breaker", "desk-1"], ("reset_breaker", "desk-1", False)),
        (["reset-breaker", "desk-1", "--penalty"], ("reset_breaker", "desk-1", True)),
    ],
)
def test_each_command_calls_its_one_thing(
    served: Served, command: list[str], called: tuple[object, ...]
) -> None:
    assert run(*command).exit_code == 0
    assert served.fleet.called == [called]


def test_delete_asks_first(served: Served) -> None:
    assert CliRunner().invoke(cli, ["delete", "desk-1"], input="n\n").exit_code == 1
    assert not served.fleet.called


def test_restart_without_an_id_asks_first_and_restarts_the_runner(served: Served) -> None:
    assert CliRunner().invoke(cli, ["restart"], input="n\n").exit_code == 1
    assert not served.fleet.called
    assert "pid 7" in run("restart", "--yes").stdout
    assert said(run("restart", "--yes", "--json"))["restarts"] == 2
    assert served.fleet.called == [("restart_runner",)] * 2


def test_a_restart_that_is_refused_says_why(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused() -> None:
        raise RefusedError("cannot_start", "the new process could not start: port 1 is taken", "free it")

    monkeypatch.setattr(served.backend, "restart", refused)
    result = run("restart", "--yes")
    assert (result.exit_code, result.stderr.splitlines()) == (
        5,
        ["error: the new process could not start: port 1 is taken", "remedy: free it"],
    )


def test_a_new_process_that_never_answers_is_told(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing() -> None:
        return

    monkeypatch.setattr(served.backend, "restart", nothing)
    assert run("restart", "--yes", "--timeout", "0").exit_code == 3


def test_alerts_are_shown_and_worked_on(served: Served) -> None:
    assert said(run("alerts", "--json"))["active"] == [AN_ALERT]
    table = run("alerts").stdout
    assert "disk_full" in table
    assert re.search(r"^al_1  critical  disk_full  -  \d+d\d\dh\n    as injected$", table, re.MULTILINE)
    assert run("alerts", "--history").stdout == "no alerts\n"
    assert "acknowledged by ana" in run("alerts", "ack", "al_1", "--by", "ana", "--note", "on it").stdout
    assert said(run("alerts", "resolve", "al_1", "--json")) == {"id": "al_1", "alert": "disk_full"}
    assert "silent for 5 minutes" in run("alerts", "silence", "disk_full", "--minutes", "5").stdout
    assert "sil_1" in run("alerts", "unsilence", "sil_1").stdout
    assert run("alerts", "ack", "al_9").exit_code != Exit.DONE
    desk = served.backend.alerts
    assert isinstance(desk, FakeAlerts)
    assert ("ack", "al_1", "ana", "on it") in desk.called
    assert ("silence", "disk_full", None, 5.0, "") in desk.called


def test_metrics_as_table_json_and_text(served: Served) -> None:
    assert "desk-1" in run("metrics").stdout
    assert said(run("metrics", "--json"))["system"]["cpuUsage"] == 0.1
    lines = run("metrics", "--prometheus").stdout.splitlines()
    assert lines == [
        'runner_sessions{state="online"} 1',
        "runner_up 1",
    ]


def test_logs_are_printed_for_people_and_for_programs(served: Served) -> None:
    served.backend.logs.append(b'{"ts":"t","level":"info","event":"reconnect scheduled","session":"desk-1"}')
    assert run("logs").stdout == "t info     reconnect scheduled session=desk-1\n"
    assert said(run("logs", "--json"))["event"] == "reconnect scheduled"
    assert run("logs", "--session", "desk-2").stdout == ""


@pytest.mark.parametrize(
    "command",
    [["status"], ["sessions"], ["show", "x"], ["reconnect", "x"], ["metrics"], ["logs"], ["start", "x"]],
)
def test_without_a_runner_every_command_says_so(alone: Path, command: list[str]) -> None:
    result = run(*command)
    assert result.exit_code == 3
    assert str(alone / "admin.sock") in result.stderr
    assert "python -m runner" in result.stderr


def test_wrong_settings_are_a_line_each_and_exit_code_two(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHATSAPP_IK", "perhaps")
    monkeypatch.setenv("WHATSAPP_CONECT_RATE", "1")
    for command in (["sessions"], ["run"], [], ["config", "print"], ["config", "check"]):
        result = run(*command)
        assert result.exit_code == 2, command
        assert len(result.stderr.splitlines()) == 2
        assert "Traceback" not in result.output


def test_config_print_shows_what_is_set_and_masks_secrets(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHATSAPP_PROXY", "http://user:hunter2@proxy:3128")
    monkeypatch.setenv("WHATSAPP_CONNECT_RATE", "3")
    shown = run("config", "print").stdout
    assert "WHATSAPP_CONNECT_RATE=3\n" in shown
    assert "WHATSAPP_PROXY=***\n" in shown
    assert "QUERY_TIMEOUT" not in shown
    assert "WHATSAPP_QUERY_TIMEOUT=60000\n" in run("config", "print", "--effective").stdout


def test_import_uploads_to_a_live_runner(served: Served, tmp_path: Path, auth_dir: Path) -> None:
    result = said(run("import", str(auth_dir), "--id", "new", "--json"))
    assert result == [
        {"id": "new", "source": str(auth_dir), "imported": True, "warnings": ["stop the old program first"]}
    ]
    assert "new" in served.fleet.views
    again = run("import", str(auth_dir), "--id", "desk-1")
    assert again.exit_code == 1
    assert "desk-1 is taken" in again.stderr


def test_import_all_is_a_request_for_each_batch(
    served: Served, tmp_path: Path, auth_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.admin.client.IMPORT_DEVICES", 3)
    parent = tmp_path / "parent"
    for name in ("a", "b", "desk-1", "c", "cut", "d", "e", "f"):
        shutil.copytree(auth_dir, parent / name)
    (parent / "cut" / "creds.json").write_text("{")
    requests = served.count_creates()
    result = run("import", "--all", str(parent), "--json")
    assert result.exit_code == 1
    told = {one["id"]: one.get("error", "imported") for one in json.loads(result.stdout)}
    assert told == {
        "a": "imported",
        "b": "imported",
        "c": "imported",
        "cut": "file_not_json",
        "d": "imported",
        "desk-1": "exists",
        "e": "imported",
        "f": "imported",
    }
    assert requests == [3, 3, 1]
    assert "desk-1 is taken" in run("import", "--all", str(parent)).stderr


def test_the_client_cuts_batches_by_bytes_and_by_what_the_runner_takes(
    served: Served, auth_dir: Path
) -> None:
    files = {"creds.json": b"x" * 4000}
    huge = {"creds.json": b"x" * 20_000}
    devices = [("a", files), ("b", files), ("c", files), ("huge", huge), ("d", files)]
    outcomes = ["imported", "imported", "imported", "body_too_large", "imported"]
    requests = served.count_creates()
    with Client(served.path) as client:
        told = list(client.create_all(devices, limit_bytes=10_000))
        assert [one["id"] for one in told] == [name for name, _ in devices]
        assert [one.get("error", "imported") for one in told] == outcomes
        assert "WHATSAPP_ADMIN_IMPORT_LIMIT" in told[3]["remedy"]
        assert requests == [2, 1, 1]
        served.access.import_limit = 10_000
        requests.clear()
        again = list(client.create_all([(f"{name}-2", content) for name, content in devices]))
        assert [one.get("error", "imported") for one in again] == outcomes
        assert sum(requests) == 4


@pytest.mark.parametrize("size", [100_000, 4_000_000])
def test_a_body_beyond_the_runners_limit_is_told_and_no_broken_pipe(served: Served, size: int) -> None:
    """The runner answers from the length alone and hangs up while the client still sends."""
    served.access.import_limit = 10_000
    with Client(served.path) as client:
        for _ in range(2):
            with pytest.raises(AdminError) as caught:
                client.create("large", {"creds.json": b"x" * size})
            assert (caught.value.status, caught.value.error) == (413, "body_too_large")


def test_import_all_tells_what_a_runner_that_stops_did_not_take(
    served: Served, tmp_path: Path, auth_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.admin.client.IMPORT_DEVICES", 1)
    for name in ("a", "b", "c"):
        shutil.copytree(auth_dir, tmp_path / "parent" / name)
    create = Client._create_batch

    def stops_at_b(self: Client, batch: list[tuple[str, bytes]], limit_bytes: int) -> object:
        if batch[0][0] == "b":
            raise NotRunningError(self._path, "it stopped")
        return create(self, batch, limit_bytes)

    monkeypatch.setattr(Client, "_create_batch", stops_at_b)
    result = run("import", "--all", str(tmp_path / "parent"), "--json")
    assert result.exit_code == 1
    assert [one.get("error", "imported") for one in json.loads(result.stdout)] == [
        "imported",
        "not_running",
        "not_running",
    ]


def test_import_gives_the_session_its_proxy(served: Served, auth_dir: Path) -> None:
    said(
        run("import", str(auth_dir), "--id", "new", "--proxy", "http://user:hunter2@10.0.0.7:3128", "--json")
    )
    assert served.fleet.views["new"].proxy == "http://10.0.0.7:3128"


def test_a_proxy_that_cannot_be_used_is_refused_before_anything_is_imported(
    served: Served, auth_dir: Path
) -> None:
    result = run("import", str(auth_dir), "--id", "new", "--proxy", "ftp://user:hunter2@10.0.0.7:3128")
    assert result.exit_code != 0
    assert "ftp://***@10.0.0.7:3128" in result.stderr
    assert "hunter2" not in result.output
    assert "new" not in served.fleet.views


@pytest.mark.parametrize(
    ("argument", "stdin", "proxy"),
    [
        ("socks5://user:hunter2@10.0.0.7:1080", None, "socks5://user:hunter2@10.0.0.7:1080"),
        ("-", "http://user:hunter2@10.0.0.7:3128\n", "http://user:hunter2@10.0.0.7:3128"),
        ("none", None, None),
    ],
)
def test_set_proxy_asks_the_runner_and_shows_no_password(
    served: Served, argument: str, stdin: str | None, proxy: str | None
) -> None:
    result = CliRunner().invoke(cli, ["set-proxy", "desk-1", argument], input=stdin)
    assert result.exit_code == 0, result.output
    assert served.fleet.called == [("set_proxy", "desk-1", proxy)]
    assert "hunter2" not in result.output
    assert "proxy of the settings" in result.stdout if proxy is None else "@" not in result.stdout


def test_import_says_what_is_damaged_before_it_uploads(served: Served, auth_dir: Path) -> None:
    (auth_dir / "creds.json").write_text('{"noiseKey": ')
    result = run("import", str(auth_dir), "--id", "new")
    assert result.exit_code == 1
    assert str(auth_dir / "creds.json") in result.stderr
    assert "new" not in served.fleet.views


def test_import_of_one_and_of_many_exclude_each_other(alone: Path) -> None:
    assert run("import", "--all", str(alone), "--id", "x").exit_code == 2


def test_the_client_pages_through_a_large_fleet(tmp_path: Path) -> None:
    with Served(tmp_path / "t", views=2500), Client(tmp_path / "t") as client:
        assert len(list(client.sessions())) == 2501
        assert [row["id"] for row in client.sessions(state="parked")] == ["shop"]


def test_the_client_raises_typed_errors(served: Served, tmp_path: Path) -> None:
    with Client(served.path) as client:
        assert client.is_running()
        with pytest.raises(AdminError) as caught:
            client.reconnect("shop")
        assert (caught.value.status, caught.value.reason) == (409, "stream_replaced_code")
        with pytest.raises(AdminError, match="no session"):
            client.session("b?c")
    with Client(tmp_path / "nothing") as client, pytest.raises(NotRunningError):
        client.system()


def test_ids_that_need_quoting_reach_the_runner(served: Served) -> None:
    with Client(served.path) as client:
        assert client.session("desk-1")["id"] == "desk-1"
        with pytest.raises(AdminError, match="'a b#c'"):
            client.session("a b#c")


HEAVY = ("trio", "fastapi", "starlette", "anycorn", "msgspec", "structlog", "runner._core", "rich", "psutil")


@pytest.mark.parametrize("command", [["sessions", "--json"], ["reconnect", "x"], ["logs"], ["--help"]])
def test_client_commands_import_nothing_heavy(alone: Path, command: list[str]) -> None:
    """What a command costs is what it imports; a stopwatch on a shared machine proves nothing."""
    assert imported_by(command, set(HEAVY), code=0 if command == ["--help"] else 3) == []


def imported_by(command: list[str], heavy: set[str], *, code: int) -> list[str]:
    """Which of the heavy modules a process has after that command, which must end with `code`."""
    program = (
        f"import sys; sys.argv = ['runner', *{command!r}]\n"
        "from runner.__main__ import main\n"
        "code = 0\n"
        "try: main()\n"
        "except SystemExit as end: code = int(end.code or 0)\n"
        "print()\n"
        f"print('ENDED', code, *sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
    )
    _, ended, *found = done.stdout.splitlines()[-1].split()
    assert int(ended) == code, done.stderr
    return found


SESSION_ARGUMENTS = {"set-proxy": ["desk-1", "none"], "delete": ["desk-1", "--yes"]}
NO_SESSION = {"status", "sessions", "metrics", "logs"}


@pytest.mark.parametrize("name", [str(command.name) for command in COMMANDS])
def test_no_client_command_imports_trio_or_the_web_framework(served: Served, name: str) -> None:
    """Against a runner that answers, and with a table: what is printed may cost rich, and nothing more."""
    arguments = [] if name in NO_SESSION else SESSION_ARGUMENTS.get(name, ["desk-1"])
    assert imported_by([name, *arguments], set(HEAVY) - {"rich"}, code=0) == []


def test_an_import_into_a_live_runner_imports_neither_trio_nor_the_web_framework(
    served: Served, auth_dir: Path
) -> None:
    heavy = set(HEAVY) - {"runner._core"}  # it checks the keys
    assert imported_by(["import", str(auth_dir), "--id", "new"], heavy, code=0) == []


def commands_of(group: click.Group, *above: str) -> Iterator[tuple[list[str], click.Command]]:
    for command in group.commands.values():
        if command.hidden:
            continue
        yield [*above, str(command.name)], command
        if isinstance(command, click.Group):
            yield from commands_of(command, *above, str(command.name))


def test_every_command_has_examples_and_takes_json() -> None:
    assert "Exit codes:" in run("--help").stdout
    for words, command in commands_of(cli):
        shown = run(*words, "--help").stdout
        assert "Example" in shown, words
        if not isinstance(command, click.Group) and words[0] not in {"run", "sim", "service"}:
            assert "--json" in shown, words


def test_the_readme_names_commands_that_are_there() -> None:
    known = {" ".join(words) for words, _ in commands_of(cli)}
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "admin.md").read_text()
    used = re.findall(r"python -m runner ((?:config )?[a-z][a-z-]*)((?: \| [a-z]+(?= \||  | ID))*)", text)
    named = {word for first, more in used for word in (first, *more.split(" | ")[1:])} - {"config docs"}
    assert named <= known
    assert len(named) > 10


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0, "0s"), (59.9, "59s"), (60, "1m00s"), (3600, "1h00m"), (90_000, "1d01h"), (-5, "0s")],
)
def test_durations_are_short(seconds: float | None, shown: str) -> None:
    assert values.duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(None, "-"), (512, "512 B"), (1536, "1.5 KiB"), (3 * 2**40, "3.0 TiB")]
)
def test_sizes_are_short(count: float | None, shown: str) -> None:
    assert values.size(count) == shown


def test_top_shows_one_frame(served: Served) -> None:
    result = run("top", "--once")
    assert result.exit_code == 0
    assert "shop" in result.output
    assert "stream_replaced_code" in result.output


def test_webhooks_and_dead_letters_from_the_command_line(served: Served) -> None:
    url = "http://127.0.0.1:9/hook"
    made = run("webhooks", "add", url, "--events", "message,session.*", "--header", "X-A: b")
    assert f"message, session.* go to {url}" in made.stdout
    with Client(served.path) as runner:
        (webhook,) = runner.get("/api/webhooks")["webhooks"]
    assert (webhook["events"], webhook["headers"]) == (["message", "session.*"], ["x-a"])
    assert url in run("webhooks", "list").stdout
    tested = run("webhooks", "test", webhook["id"])
    assert (tested.exit_code, "not delivered: ConnectError" in tested.stderr) == (1, True)
    wrong = run("webhooks", "add", url, "--events", "mesage")
    assert (wrong.exit_code, "did you mean message" in wrong.stderr) == (Exit.USAGE, True)
    wrong = run("webhooks", "add", url, "--header", "nothing")
    assert (wrong.exit_code, "is not NAME:VALUE" in wrong.stderr) == (Exit.USAGE, True)
    assert "removed" in run("webhooks", "remove", webhook["id"]).stdout
    assert run("webhooks", "remove", webhook["id"]).exit_code == Exit.UNKNOWN_SESSION
    assert "no webhooks" in run("webhooks", "list").stdout

    assert "no dead letters" in run("dead-letters", "list").stdout
    store = served.fleet.store
    for number in range(3):
        store.receive("desk-1", "chat", "oi")
        store.bury([(number + 1, 5, "ValueError at bot.py:7 in handle")])
    listed = run("dead-letters", "list", "-n", "2").stdout
    assert "ValueError at bot.py:7" in listed
    assert "more: --after 2" in listed
    assert "put back: 1 messages" in run("dead-letters", "redrive", "1").stdout
    assert '{"dropped": 1}' in run("dead-letters", "drop", "2", "--json").stdout
    assert "dropped: 1" in run("dead-letters", "drop", "--all", "--sink", "app").stdout
    for args in ((), ("1", "--all"), ("1", "--sink", "app")):
        assert run("dead-letters", "drop", *args).exit_code == Exit.USAGE


def test_tail_shows_what_comes(served: Served) -> None:
    told: list[dict[str, Any]] = []

    def happen() -> None:
        served.fleet.change("desk-1", state=State.BACKOFF, reason="pong_deadline")
        for text in ("oi\ntudo bem?", "x" * 300):
            who = {"from": "15550001111@s.whatsapp.net", "chatId": "1-2@g.us"}
            payload = {**who, "kind": "text", "body": text}
            served.fleet.feed.publish(StatusEvent("message", "desk-1", 1_700_000_000_000, None, payload))

    with Client(served.path) as runner:
        served.fleet.subscribed = trio.Event()
        lines = runner.events(["desk-1"])
        first = threading.Thread(target=lambda: told.extend([next(lines) for _ in range(3)]))
        first.start()
        trio.from_thread.run(served.fleet.subscribed.wait, trio_token=served._token)
        trio.from_thread.run_sync(happen, trio_token=served._token)
        first.join(10)
        lines.close()
    status, message, long = (outgoing._line(event) for event in told)
    assert "session.status" in status
    assert "backoff pong_deadline" in status
    assert "15550001111@s.whatsapp.net in 1-2@g.us text: oi tudo bem?" in message
    assert len(long) < 300
