"""Taking over what Baileys wrote. The directories under vectors/baileys_auth were made by Baileys itself
(tests/interop/baileys/make_auth.mjs), with test keys."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import baileys, baileys_errors
from runner._core import x25519_public_key as public_key

if TYPE_CHECKING:
    from collections.abc import Callable

VECTORS = Path(__file__).parent.parent / "vectors" / "baileys_auth"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A linked device that a test may damage."""
    return Path(shutil.copytree(VECTORS / "one", tmp_path / "one"))


def edit(directory: Path, change: Callable[[dict], None]) -> None:
    path = directory / "creds.json"
    creds = json.loads(path.read_bytes())
    change(creds)
    path.write_text(json.dumps(creds))


def tree_digest(directory: Path) -> dict[str, str]:
    """Content, rights and times of every file."""
    return {
        str(path.relative_to(directory)): f"{path.stat().st_mode} {path.stat().st_mtime_ns} "
        + (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in sorted(directory.rglob("*"))
    }


def test_device_has_everything_that_a_login_needs() -> None:
    device = baileys.read_device(VECTORS / "one")
    creds = json.loads((VECTORS / "one" / "creds.json").read_bytes())
    assert device.fields["jid"] == "15550001111:3@s.whatsapp.net"
    assert device.fields["lid"] == "100000000000001:3@lid"
    assert device.fields["push_name"] == "Shop 15550001111"
    assert device.fields["platform"] == "android"
    assert device.fields["registration_id"] == creds["registrationId"]
    assert device.fields["routing_info"] == bytes.fromhex("08020805")
    assert device.fields["signed_pre_key_id"] == 1
    assert len(device.fields["adv_secret"]) == 32
    assert device.fields["source"] == (VECTORS / "one" / "creds.json").read_bytes()
    assert device.warnings == ()


def test_account_is_serialized_in_field_order() -> None:
    account = baileys.read_device(VECTORS / "one").fields["account"]
    parts = [(0x0A, 20, 0x11), (0x12, 32, 0x22), (0x1A, 64, 0x33), (0x22, 64, 0x44)]
    assert account == b"".join(bytes([tag, size]) + bytes([fill]) * size for tag, size, fill in parts)


def test_missing_routing_info_is_none() -> None:
    assert baileys.read_device(VECTORS / "two").fields["routing_info"] is None


def test_every_record_is_carried_over_byte_by_byte_also_of_unknown_types() -> None:
    device = baileys.read_device(VECTORS / "one")
    files = {path.name: path.read_bytes() for path in (VECTORS / "one").iterdir()}
    del files["creds.json"]
    rebuilt = {
        (f"{id_}.json" if type_ == baileys.UNKNOWN_TYPE else f"{type_}-{id_}.json"): value
        for type_, id_, value in device.keys
    }
    assert rebuilt == files
    types = {type_ for type_, _, _ in device.keys}
    assert types == {*baileys.KEY_TYPES, baileys.UNKNOWN_TYPE}


@pytest.mark.parametrize(
    ("file_name", "expected"),
    [
        ("sender-key-memory-1@g.us.json", ("sender-key-memory", "1@g.us")),
        ("sender-key-1@g.us--2--0.json", ("sender-key", "1@g.us--2--0")),
        ("app-state-sync-key-AAAAAK__h.json", ("app-state-sync-key", "AAAAAK__h")),
        ("session-1.0.json", ("session", "1.0")),
        ("sessions.json", ("unknown", "sessions")),
    ],
)
def test_record_name_prefers_the_longer_type(file_name: str, expected: tuple[str, str]) -> None:
    assert baileys._record_name(file_name) == expected


def test_reading_leaves_the_source_untouched(copy: Path) -> None:
    (copy / "session-broken.json").write_text("{")
    before = tree_digest(copy.parent)
    baileys.read_all(copy.parent)
    assert tree_digest(copy.parent) == before


@pytest.mark.parametrize("directory", ["one", "two"])
def test_repr_shows_no_secret(directory: str) -> None:
    shown = repr(baileys.read_device(VECTORS / directory))
    assert "secret" not in shown
    assert "source" not in shown


# Encodings that Baileys has written over the years


def as_numbers(data: bytes) -> object:
    return {"type": "Buffer", "data": list(data)}


def as_indexed_object(data: bytes) -> object:
    return {str(index): octet for index, octet in enumerate(data)}


def as_text(data: bytes) -> object:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("encode", [as_numbers, as_indexed_object, as_text, lambda data: list(data)])
def test_bytes_are_read_in_every_form(copy: Path, encode: Callable[[bytes], object]) -> None:
    expected = baileys.read_device(copy).fields["noise_secret"]
    edit(copy, lambda creds: creds["noiseKey"].update(private=encode(expected)))
    assert baileys.read_device(copy).fields["noise_secret"] == expected


def test_public_key_may_carry_the_signal_type_byte(copy: Path) -> None:
    secret = baileys.read_device(copy).fields["identity_secret"]
    prefixed = as_text(b"\x05" + public_key(secret))
    edit(copy, lambda creds: creds["signedIdentityKey"].update(public=prefixed))
    assert baileys.read_device(copy).fields["identity_secret"] == secret


def test_lid_may_stand_in_the_place_of_the_phone_number(copy: Path) -> None:
    me = {"id": "100000000000001:3@lid", "phoneNumber": "15550001111:3@s.whatsapp.net", "name": "Shop"}
    edit(copy, lambda creds: creds.update(me=me))
    fields = baileys.read_device(copy).fields
    assert (fields["jid"], fields["lid"]) == ("15550001111:3@s.whatsapp.net", "100000000000001:3@lid")


def test_device_without_lid_is_taken_over(copy: Path) -> None:
    edit(copy, lambda creds: creds["me"].pop("lid"))
    assert baileys.read_device(copy).fields["lid"] is None


# Damage: one class each


def remove(directory: Path) -> None:
    (directory / "creds.json").unlink()


def empty(directory: Path) -> None:
    (directory / "creds.json").write_bytes(b"")


def fill_with_zeros(directory: Path) -> None:
    (directory / "creds.json").write_bytes(bytes(512))


def cut(directory: Path) -> None:
    path = directory / "creds.json"
    path.write_bytes(path.read_bytes()[:-40])


def not_utf8(directory: Path) -> None:
    (directory / "creds.json").write_bytes(b'{"me": "\xff"}')


def too_deep(directory: Path) -> None:
    (directory / "creds.json").write_bytes(b"[" * 200_000)


def make_directory_of_it(directory: Path) -> None:
    remove(directory)
    (directory / "creds.json").mkdir()


def dangling_link(directory: Path) -> None:
    remove(directory)
    (directory / "creds.json").symlink_to("nowhere")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (remove, baileys_errors.CredentialsMissingError),
        (empty, baileys_errors.FileEmptyError),
        (fill_with_zeros, baileys_errors.FileEmptyError),
        (cut, baileys_errors.FileNotJsonError),
        (not_utf8, baileys_errors.FileNotJsonError),
        (too_deep, baileys_errors.FileNotJsonError),
        (make_directory_of_it, baileys_errors.FileUnreadableError),
        (dangling_link, baileys_errors.FileUnreadableError),
    ],
)
def test_damaged_file_is_named_with_a_remedy(
    copy: Path, damage: Callable[[Path], None], error: type[baileys_errors.ImportSourceError]
) -> None:
    damage(copy)
    with pytest.raises(error) as raised:
        baileys.read_device(copy)
    assert type(raised.value) is error
    assert "creds.json" in str(raised.value)
    assert raised.value.remedy


def put(path: str, value: object) -> Callable[[dict], None]:
    def change(creds: dict) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            creds = creds[parent]
        if value is ...:
            del creds[last]
        else:
            creds[last] = value

    return change


BUFFER = {"type": "Buffer", "data": "AAAA"}


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        ("noiseKey", ..., baileys_errors.FieldMissingError),
        ("noiseKey", [], baileys_errors.FieldTypeError),
        ("noiseKey.private", ..., baileys_errors.FieldMissingError),
        ("noiseKey.private", 7, baileys_errors.FieldTypeError),
        ("noiseKey.private", {"type": "Buffer", "data": [1, 256]}, baileys_errors.FieldTypeError),
        ("noiseKey.private", {"type": "Buffer", "data": [1, True]}, baileys_errors.FieldTypeError),
        ("noiseKey.private", {"type": "Buffer", "data": "?"}, baileys_errors.FieldBase64Error),
        ("noiseKey.private", {"type": "Buffer", "data": "é"}, baileys_errors.FieldBase64Error),
        ("noiseKey.private", BUFFER, baileys_errors.FieldLengthError),
        ("noiseKey.public", BUFFER, baileys_errors.FieldLengthError),
        ("signedIdentityKey.public", as_text(bytes(32)), baileys_errors.KeyMismatchError),
        ("signedPreKey.keyPair.public", as_text(bytes(32)), baileys_errors.KeyMismatchError),
        ("signedPreKey.signature", BUFFER, baileys_errors.FieldLengthError),
        ("signedPreKey.keyId", "1", baileys_errors.FieldTypeError),
        ("signedPreKey.keyId", 0x100_0000, baileys_errors.FieldRangeError),
        ("registrationId", True, baileys_errors.FieldTypeError),
        ("registrationId", -1, baileys_errors.FieldRangeError),
        ("advSecretKey", "AAAA", baileys_errors.FieldLengthError),
        ("advSecretKey", "***", baileys_errors.FieldBase64Error),
        ("account", "text", baileys_errors.FieldTypeError),
        ("account.details", "=", baileys_errors.FieldBase64Error),
        ("routingInfo", 1, baileys_errors.FieldTypeError),
        ("me.id", 5, baileys_errors.FieldTypeError),
        ("me.id", "someone", baileys_errors.FieldRangeError),
        ("me.id", "120363000000000001@g.us", baileys_errors.FieldRangeError),
        ("me.id", "100000000000001:3@lid", baileys_errors.FieldRangeError),
        ("me.lid", "15550001111:3@s.whatsapp.net", baileys_errors.FieldRangeError),
    ],
)
def test_damaged_value_is_named(
    copy: Path, path: str, value: object, error: type[baileys_errors.FieldError]
) -> None:
    edit(copy, put(path, value))
    with pytest.raises(error) as raised:
        baileys.read_device(copy)
    assert type(raised.value) is error
    assert raised.value.field.startswith(path)
    assert path in str(raised.value)


def test_credentials_that_are_no_object_are_refused(copy: Path) -> None:
    (copy / "creds.json").write_text("[]")
    with pytest.raises(baileys_errors.FieldTypeError, match="not an object"):
        baileys.read_device(copy)


def test_unlinked_device_is_refused() -> None:
    with pytest.raises(baileys_errors.NotRegisteredError, match="not linked"):
        baileys.read_device(VECTORS / "unpaired")


def test_half_finished_pairing_is_refused(copy: Path) -> None:
    def change(creds: dict) -> None:
        del creds["account"]
        creds.update(registered=False, pairingCode="ABCD1234")

    edit(copy, change)
    with pytest.raises(baileys_errors.NotRegisteredError, match="not finished"):
        baileys.read_device(copy)


@pytest.mark.parametrize("content", [b"", b'{"private":'])
def test_damaged_record_is_carried_over_and_named(copy: Path, content: bytes) -> None:
    (copy / "pre-key-2.json").write_bytes(content)
    device = baileys.read_device(copy)
    assert ("pre-key", "2", content) in device.keys
    assert len(device.warnings) == 1
    assert device.warnings[0].startswith("pre-key-2.json")


def test_directory_without_baileys_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text("{}")
    with pytest.raises(baileys_errors.NotAnAuthStateError):
        baileys.read_device(tmp_path)


@pytest.mark.parametrize("name", ["absent", "a_file"])
def test_path_that_is_no_directory_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a_file").write_text("")
    with pytest.raises(baileys_errors.NotAnAuthStateError):
        baileys.read_device(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_forbidden_file_is_told_from_a_broken_one(copy: Path) -> None:
    (copy / "creds.json").chmod(0)
    with pytest.raises(baileys_errors.FileForbiddenError):
        baileys.read_device(copy)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(13, "Permission denied"), baileys_errors.FileForbiddenError),
        (OSError(5, "Input/output error"), baileys_errors.FileUnreadableError),
    ],
)
def test_refusal_of_the_operating_system_is_typed(
    copy: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, expected: type[Exception]
) -> None:
    def refuse(self: Path, mode: str) -> None:
        raise error

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(expected, match="cannot be read") as raised:
        baileys.read_device(copy)
    assert type(raised.value) is expected


def test_source_that_changes_while_read_is_in_use(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = baileys._read

    def save_in_between(path: Path) -> bytes:
        content = whole(path)
        if path.name == "creds.json":
            edit(copy, lambda creds: creds.update(accountSyncCounter=2))
        return content

    monkeypatch.setattr(baileys, "_read", save_in_between)
    with pytest.raises(baileys_errors.SourceInUseError) as raised:
        baileys.read_device(copy)
    assert "stop the program" in raised.value.remedy


def test_file_beyond_the_limit_is_not_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (copy / "creds.json").stat().st_size
    monkeypatch.setattr(baileys, "MAX_FILE_BYTES", size)
    baileys.read_device(copy)
    monkeypatch.setattr(baileys, "MAX_FILE_BYTES", size - 1)
    with pytest.raises(baileys_errors.FileUnreadableError, match="larger"):
        baileys.read_device(copy)


# Many


def test_read_all_takes_the_good_and_reports_the_rest() -> None:
    devices, problems = baileys.read_all(VECTORS)
    assert [device.directory.name for device in devices] == ["one", "two"]
    assert [type(problem) for problem in problems] == [baileys_errors.NotRegisteredError]


@pytest.mark.parametrize("changed", [None, "me", "noiseKey"])
def test_same_device_in_two_directories_is_refused_for_both(copy: Path, changed: str | None) -> None:
    """The same JID is enough, and so is the same Noise key."""
    twin = Path(shutil.copytree(copy, copy.parent / "twin"))
    other = json.loads((VECTORS / "two" / "creds.json").read_bytes())
    if changed is not None:
        edit(twin, lambda creds: creds.update({changed: other[changed]}))
    devices, problems = baileys.read_all(copy.parent)
    assert devices == []
    assert [(type(problem), problem.path.name) for problem in problems] == [
        (baileys_errors.SameDeviceTwiceError, "one"),
        (baileys_errors.SameDeviceTwiceError, "twin"),
    ]
    assert "twin" in str(problems[0])


def test_discover_finds_damaged_directories_and_ignores_others(copy: Path) -> None:
    (copy.parent / "node_modules").mkdir()
    (copy.parent / "node_modules" / "package.json").write_text("{}")
    (copy.parent / "notes.txt").write_text("")
    remove(Path(shutil.copytree(copy, copy.parent / "without_creds")))
    assert [found.name for found in baileys.discover(copy.parent)] == ["one", "without_creds"]


def test_discover_without_any_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(baileys_errors.NotAnAuthStateError):
        baileys.discover(tmp_path)


def test_operator_is_told_to_stop_the_old_program() -> None:
    assert "stop the program" in baileys.STOP_OLD_PROGRAM


# The check of key pairs


def test_public_key_agrees_with_the_rfc() -> None:
    """RFC 7748 §6.1, Bob."""
    secret = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    assert public_key(secret).hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*/pre-key-*.json")), ids=lambda path: str(path.name))
def test_public_key_agrees_with_baileys(path: Path) -> None:
    pair = json.loads(path.read_bytes())
    secret, public = (base64.b64decode(pair[half]["data"]) for half in ("private", "public"))
    assert public_key(secret) == public


@given(st.binary(min_size=32, max_size=32))
def test_public_key_ignores_the_bits_that_clamping_sets(secret: bytes) -> None:
    clamped = bytearray(secret)
    clamped[0] &= 0xF8
    clamped[31] = clamped[31] & 0x7F | 0x40
    assert public_key(secret) == public_key(bytes(clamped))


@given(st.binary(max_size=300))
def test_any_content_gives_a_device_or_a_typed_error(content: bytes) -> None:
    with pytest.raises(baileys_errors.ImportSourceError):
        baileys._device_fields(Path("creds.json"), content)
