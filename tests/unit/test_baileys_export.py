"""What is written for Baileys: names, rights, credentials; that Baileys goes on with it is in
tests/interop."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner import _core
from runner.baileys import device_of, read_device
from runner.baileys_export import check_empty, files_of, write_directory
from runner.engine import open_store
from runner.errors import StartError

AUTH = Path(__file__).parent.parent / "vectors" / "baileys_auth" / "one"


@dataclass
class Linked:
    """As `_core.ExportedDevice`, of a device that a phone linked here."""

    jid: str = "15550001111:7@s.whatsapp.net"
    lid: str | None = "100000000000001:7@lid"
    push_name: str | None = "Shop"
    platform: str | None = "android"
    registration_id: int = 4711
    noise_secret: bytes = bytes([1]) * 32
    identity_secret: bytes = bytes([2]) * 32
    adv_secret: bytes = bytes([3]) * 32
    account: bytes | None = (
        b"\x0a\x02de\x12\x20" + bytes([4]) * 32 + b"\x1a\x40" + bytes([5]) * 64 + b"\x22\x01s"
    )
    routing_info: bytes | None = b"\x08\x02"
    source: bytes = b""
    signed_pre_key: tuple[int, bytes, bytes] = (9, bytes([6]) * 32, bytes([7]) * 64)
    pre_key_ids: tuple[int, int] | None = (0x40_0330, 0x40_0330)
    files: list[tuple[str, str, bytes]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def creds_of(device: Any) -> dict[str, Any]:  # noqa: ANN401 - stands for _core.ExportedDevice
    return dict(json.loads(files_of(device)["creds.json"]))


def test_a_device_that_was_linked_here_can_be_read_as_baileys_reads_it() -> None:
    device: Any = Linked()
    read = device_of(Path("x"), files_of(device)).fields
    expected = {
        "jid": device.jid,
        "lid": device.lid,
        "push_name": "Shop",
        "platform": "android",
        "registration_id": 4711,
        "noise_secret": device.noise_secret,
        "identity_secret": device.identity_secret,
        "signed_pre_key_id": 9,
        "signed_pre_key_secret": device.signed_pre_key[1],
        "signed_pre_key_signature": device.signed_pre_key[2],
        "adv_secret": device.adv_secret,
        "account": device.account,
        "routing_info": device.routing_info,
    }
    assert {name: value for name, value in read.items() if name != "source"} == expected
    creds = creds_of(device)
    (identity,) = creds["signalIdentities"]
    assert identity["identifier"] == {"name": "100000000000001:0@lid", "deviceId": 0}
    assert base64.b64decode(identity["identifierKey"]["data"]) == b"\x05" + bytes([4]) * 32
    assert (creds["nextPreKeyId"], creds["firstUnuploadedPreKeyId"]) == (0x40_0330, 0x40_0330)
    assert creds["accountSyncCounter"] == 1, "Baileys waits for no history"


def test_what_was_imported_comes_back_as_it_was(tmp_path: Path) -> None:
    before = read_device(AUTH)
    store = open_store(tmp_path / "store.db", 60.0)
    store.import_device("one", _core.DeviceRecord(**before.fields), before.keys)
    device = store.export("one")
    store.close()
    files = files_of(device)
    same = {path.name: path.read_bytes() for path in AUTH.glob("*.json") if path.name != "creds.json"}
    assert {name: content for name, content in files.items() if name != "creds.json"} == same
    assert json.loads(files["creds.json"]) == json.loads((AUTH / "creds.json").read_text())
    assert device.left_out == []


def test_ids_that_were_given_here_are_given_by_nobody_else(tmp_path: Path) -> None:
    source = json.dumps(json.loads((AUTH / "creds.json").read_text()) | {"nextPreKeyId": 813})
    device: Any = Linked(source=source.encode(), pre_key_ids=(0x40_0400, 0x40_0100))
    creds = creds_of(device)
    assert (creds["nextPreKeyId"], creds["firstUnuploadedPreKeyId"]) == (0x40_0400, 0x40_0100)
    assert creds["signedPreKey"]["keyId"] == 9
    # And taken over again, it goes on above them.
    again = device_of(Path("x"), files_of(device))
    assert ("pre-key-ids", "", str(0x40_0400).encode()) in again.keys
    store = open_store(tmp_path / "store.db", 60.0)
    store.import_device("again", _core.DeviceRecord(**again.fields), again.keys)
    exported = store.export("again")
    store.close()
    assert json.loads(files_of(exported)["creds.json"])["nextPreKeyId"] == 0x40_0400
    assert not any("ids" in name for name in files_of(exported))


def test_names_of_files_are_those_of_baileys() -> None:
    device: Any = Linked(
        files=[
            ("app-state-sync-key", "a/b+c=", b"1"),
            ("unknown", "of-tomorrow", b"2"),
            ("session", "9_1.0", b"3"),
        ]
    )
    assert set(files_of(device)) == {
        "creds.json",
        "app-state-sync-key-a__b+c=.json",
        "of-tomorrow.json",
        "session-9_1.0.json",
    }


def test_a_directory_is_whole_private_and_never_mixed(tmp_path: Path) -> None:
    target = tmp_path / "auth"
    target.mkdir()
    write_directory(target, {"a.json": b"1", "b.json": b"2"})
    assert target.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"a.json": b"1", "b.json": b"2"}
    assert {path.stat().st_mode & 0o777 for path in target.iterdir()} == {0o600}
    with pytest.raises(StartError, match="is not empty"):
        write_directory(target, {"c.json": b"3"})
    assert len(list(target.iterdir())) == 2
    with pytest.raises(StartError, match="does not exist"):
        check_empty(tmp_path / "no" / "parent")
    with pytest.raises(StartError, match="is not empty"):
        check_empty(target / "a.json")
    with pytest.raises(StartError, match="cannot be written"):
        write_directory(tmp_path / "broken", {"no/such.json": b"1"})
    assert [path.name for path in tmp_path.iterdir()] == ["auth"], "nothing half-done is left"
