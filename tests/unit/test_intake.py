"""Taking a Baileys directory into a store, and what is refused at the door."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.data_dir import STORE_FILE, prepare
from runner.engine import open_store
from runner.errors import ImportRefusedError, LeaseHeldError, RunnerError, StartError
from runner.intake import Intake, checked_id, uploaded
from runner.reconnect.history import from_json
from runner.reconnect.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner import _core

VECTORS = Path(__file__).parents[1] / "vectors" / "baileys_auth"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[_core.Store]:
    opened = open_store(tmp_path / STORE_FILE, 60.0)
    yield opened
    opened.close()


def take_over(store: _core.Store, session_id: str, directory: Path) -> tuple[str, ...] | RunnerError:
    ((_, _, outcome),) = Intake(store).take_over_all([(session_id, directory)])
    return outcome


def kind_of(outcome: object) -> str:
    """Why it was refused, or that it was not."""
    return str(getattr(outcome, "kind", None) or getattr(outcome, "slug", "taken over"))


def test_a_directory_is_taken_over_with_its_keys(store: _core.Store) -> None:
    warnings = take_over(store, "desk-1", VECTORS / "one")
    (session,) = store.sessions()
    assert session.session_id == "desk-1"
    files = [path for path in (VECTORS / "one").glob("*.json") if path.name != "creds.json"]
    assert len(store.signal_keys("desk-1")) == len(files)
    assert isinstance(warnings, tuple)
    assert "stop the program" in warnings[-1]


def test_an_id_that_is_taken_is_refused(store: _core.Store) -> None:
    take_over(store, "desk-1", VECTORS / "one")
    assert kind_of(take_over(store, "desk-1", VECTORS / "two")) == "exists"
    assert len(store.sessions()) == 1


def test_a_device_that_is_here_already_is_refused(store: _core.Store) -> None:
    take_over(store, "desk-1", VECTORS / "one")
    refusal = take_over(store, "desk-2", VECTORS / "one")
    assert kind_of(refusal) == "same_device"
    assert "'desk-1'" in str(refusal)


@pytest.mark.parametrize("name", ["a", "Desk-1", "15550001111", "a.b_c-d", "x" * 64])
def test_an_id_that_fits_a_url_a_label_and_a_log_line_is_taken(name: str) -> None:
    assert checked_id(name) == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "ä", "x" * 65, "a\n", '"'])
def test_an_id_that_does_not_is_refused(name: str) -> None:
    with pytest.raises(ImportRefusedError) as caught:
        checked_id(name)
    assert caught.value.kind == "id_wrong"


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def take_over_uploads(
    store: _core.Store, *uploads: tuple[str, dict[str, bytes]]
) -> list[tuple[str, ...] | RunnerError]:
    return Intake(store).take_over_each([(name, partial(uploaded, name, files)) for name, files in uploads])


def test_uploads_are_taken_over_in_one_commit_and_told_in_their_order(
    store: _core.Store, tmp_path: Path
) -> None:
    wanted = copies([f"desk-{number}" for number in range(10)], tmp_path / "source")
    before = store.health().commits_total
    told = take_over_uploads(store, *((name, files_of(directory)) for name, directory in wanted))
    assert all("stop the program" in outcome[-1] for outcome in told if isinstance(outcome, tuple))
    assert [kind_of(outcome) for outcome in told] == ["taken over"] * 10
    assert store.health().commits_total - before == 1
    assert len(store.signal_keys("desk-7")) == len(files_of(VECTORS / "one")) - 1


def test_of_many_uploads_one_that_is_refused_or_damaged_costs_only_itself(
    store: _core.Store, tmp_path: Path
) -> None:
    take_over(store, "taken", VECTORS / "two")
    (_, one), (_, two), (_, three) = copies(["one", "two", "three"], tmp_path / "source")
    uploads = [
        ("a", files_of(one)),
        ("cut", files_of(two) | {"creds.json": b'{"noiseKey": '}),
        ("empty", {}),
        ("keys-only", {"session-1.json": b"{}"}),
        ("twin", files_of(one)),
        ("a", files_of(two)),
        ("taken", files_of(two)),
        ("b", files_of(three)),
        ("../b", {"creds.json": b"{}"}),
    ]
    told = take_over_uploads(store, *uploads)
    assert [kind_of(outcome) for outcome in told] == [
        "taken over",
        "file_not_json",
        "not_an_auth_state",
        "credentials_missing",
        "same_device",
        "exists",
        "exists",
        "taken over",
        "id_wrong",
    ]
    assert str(told[1]).startswith("cut/creds.json: ")
    assert [known.session_id for known in store.sessions()] == ["a", "b", "taken"]


@pytest.mark.parametrize("name", ["../x.json", "a/b.json", "..", ".", "", "a\0.json", "x" * 256])
def test_an_upload_with_a_name_that_no_file_can_have_is_refused(store: _core.Store, name: str) -> None:
    (told,) = take_over_uploads(store, ("a", files_of(VECTORS / "one") | {name: b"{}"}))
    assert kind_of(told) == "file_name_wrong"
    assert store.sessions() == []


def test_a_store_has_one_owner(store: _core.Store, tmp_path: Path) -> None:
    with pytest.raises(LeaseHeldError) as caught:
        open_store(tmp_path / STORE_FILE, 60.0)
    assert "WHATSAPP_DATA_DIR" in caught.value.remedy


def test_the_data_directory_is_private(tmp_path: Path) -> None:
    prepare(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_data_directory_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError) as caught:
        prepare(tmp_path / "file" / "below")
    assert "WHATSAPP_DATA_DIR" in caught.value.remedy


def test_a_store_that_is_damaged_is_explained_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "runner.db"
    shutil.copy(VECTORS / "one" / "creds.json", path)
    before = path.read_bytes()
    with pytest.raises(StartError, match=r"runner\.db is damaged"):
        open_store(tmp_path / STORE_FILE, 60.0)
    assert path.read_bytes() == before


def copies(names: list[str], folder: Path) -> list[tuple[str, Path]]:
    """Devices of their own below `folder`: the same keys under another number each."""
    made = []
    for number, name in enumerate(names):
        directory = folder / name
        shutil.copytree(VECTORS / "one", directory)
        creds = json.loads((directory / "creds.json").read_text())
        creds["me"]["id"] = f"1555000{number:04}:1@s.whatsapp.net"
        (directory / "creds.json").write_text(json.dumps(creds))
        made.append((name, directory))
    return made


def test_many_are_taken_over_in_a_commit_for_each_batch(
    store: _core.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.intake.BATCH_DEVICES", 4)
    wanted = copies([f"desk-{number}" for number in range(10)], tmp_path / "source")
    before = store.health().commits_total
    told = list(Intake(store).take_over_all(wanted))
    assert [(session_id, directory) for session_id, directory, _ in told] == wanted
    assert all("stop the program" in outcome[-1] for *_, outcome in told if isinstance(outcome, tuple))
    assert store.health().commits_total - before == 3
    assert {known.session_id for known in store.sessions()} == {session_id for session_id, _ in wanted}
    assert len(store.signal_keys("desk-7")) == len(list((VECTORS / "one").glob("*.json"))) - 1


def test_of_many_one_that_is_refused_or_damaged_costs_only_itself(store: _core.Store, tmp_path: Path) -> None:
    wanted = copies(["a", "b", "c", "d"], tmp_path / "source")
    take_over(store, "taken", VECTORS / "two")
    (tmp_path / "source" / "b" / "creds.json").write_text("{")
    told = {
        session_id: outcome
        for session_id, _, outcome in Intake(store).take_over_all(
            [
                *wanted,
                ("twin", tmp_path / "source" / "c"),
                ("taken", VECTORS / "one"),
                ("no id", VECTORS / "one"),
            ]
        )
    }
    assert {session_id: kind_of(outcome) for session_id, outcome in told.items()} == {
        "a": "taken over",
        "b": "file_not_json",
        "c": "taken over",
        "d": "taken over",
        "twin": "same_device",
        "taken": "exists",
        "no id": "id_wrong",
    }
    assert [known.session_id for known in store.sessions()] == ["a", "c", "d", "taken"]


def test_when_a_batch_cannot_be_committed_each_of_it_is_told(store: _core.Store, tmp_path: Path) -> None:
    intake = Intake(store)
    store.close()
    outcomes = [outcome for *_, outcome in intake.take_over_all(copies(["a", "b"], tmp_path / "source"))]
    assert [getattr(outcome, "kind", None) for outcome in outcomes] == ["closed", "closed"]


def test_a_proxy_for_many_is_in_the_durable_state_of_each(store: _core.Store, tmp_path: Path) -> None:
    list(Intake(store, "socks5://u:p@10.0.0.7:1080").take_over_all(copies(["a", "b"], tmp_path / "source")))
    assert store.flush(10.0)
    for known in store.sessions():
        durable, problem = from_json(known.policy, 0.0, 0, Policy())
        assert (durable.proxy, durable.desired, problem) == ("socks5://u:p@10.0.0.7:1080", True, None)


def test_what_is_imported_without_starting_is_stopped_at_the_next_run(store: _core.Store) -> None:
    """The old program may still run: a device that is dialled all the same knocks it off."""
    list(Intake(store, start=False).take_over_all([("desk-1", VECTORS / "one")]))
    assert store.flush(10.0)
    (session,) = store.sessions()
    assert session.policy is not None
    durable, problem = from_json(session.policy, 0.0, 0, Policy())
    assert (durable.desired, durable.proxy, problem) == (False, None, None)
