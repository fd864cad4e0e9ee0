"""Reads what Baileys' `useMultiFileAuthState` wrote: one directory for each linked device.

A directory holds `creds.json` (keys, registration) and a file `<type>-<id>.json` for each Signal record, with
`__` for `/` and `-` for `:` in the id. Nothing here writes, locks or moves: the source stays as it is.

- Credentials are checked in full, since a device with wrong keys would be logged out on its first connection.
- Signal records are carried over byte by byte under the id in their file name. (The replacements cannot be
  undone: an id may hold `-` and `__` itself.) One that is no longer JSON is carried over as well and named
  in `BaileysDevice.warnings`; Baileys itself treats such a file as missing.
"""

from __future__ import annotations

import base64
import binascii
import errno
import json
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypedDict

from runner._core import x25519_public_key as public_key
from runner.baileys_errors import (
    CredentialsMissingError,
    FieldBase64Error,
    FieldLengthError,
    FieldMissingError,
    FieldRangeError,
    FieldTypeError,
    FileEmptyError,
    FileForbiddenError,
    FileNotJsonError,
    FileUnreadableError,
    ImportSourceError,
    KeyMismatchError,
    NotAnAuthStateError,
    NotRegisteredError,
    SameDeviceTwiceError,
    SourceInUseError,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

STOP_OLD_PROGRAM: Final = (
    "stop the program that used this device before you start it here, and do not start it again: two "
    "programs on one device replace each other for ever, and their keys drift apart until messages "
    "cannot be read"
)
"""What the operator must be told with every import."""

KEY_TYPES: Final = (
    "app-state-sync-key",
    "app-state-sync-version",
    "sender-key-memory",
    "sender-key",
    "identity-key",
    "device-list",
    "lid-mapping",
    "pre-key",
    "session",
    "tctoken",
)
"""Baileys' record types; a longer one stands before its own prefix."""

UNKNOWN_TYPE: Final = "unknown"
"""The type of a record whose file name begins with none of `KEY_TYPES`; its id is the whole name."""

FIRST_PRE_KEY_ID: Final = 0x40_0000
"""Where the ids of pre-keys made here begin (docs/protocol.md, "Pre-keys")."""

CREDENTIALS_FILE: Final = "creds.json"
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""Larger files are not read; ours. Damaged ones of 6 MB have been seen."""


@dataclass(frozen=True, slots=True)
class SignalRecord:
    """One Signal record, as the file holds it."""

    type: str
    id: str
    value: bytes = field(repr=False)


class DeviceFields(TypedDict):
    """The arguments of `_core.DeviceRecord`."""

    jid: str
    lid: str | None
    push_name: str | None
    platform: str | None
    registration_id: int
    noise_secret: bytes
    identity_secret: bytes
    signed_pre_key_id: int
    signed_pre_key_secret: bytes
    signed_pre_key_signature: bytes
    adv_secret: bytes
    account: bytes | None
    routing_info: bytes | None
    source: bytes


@dataclass(frozen=True, slots=True)
class BaileysDevice:
    """One linked device, checked. Its repr shows no secrets."""

    directory: Path
    fields: DeviceFields = field(repr=False)
    records: tuple[SignalRecord, ...] = field(repr=False)
    warnings: tuple[str, ...]
    """What was carried over although something is wrong with it, for the operator."""

    @property
    def keys(self) -> list[tuple[str, str, bytes]]:
        """As `_core.Store.import_device` takes them."""
        return [(record.type, record.id, record.value) for record in self.records]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return len(self.fields["source"]) + sum(len(record.value) for record in self.records)


def read_device(directory: Path) -> BaileysDevice:
    """Reads and checks one directory. Blocking; changes nothing.

    Errors: ImportSourceError, one class for each kind of damage; whose fault is the source's.
    """
    return device_of(directory, read_files(directory))


def read_files(directory: Path) -> dict[str, bytes]:
    """What Baileys wrote into one directory: file name to content, not looked into. Blocking.

    Errors: ImportSourceError.
    """
    names = _json_files(directory)
    path = directory / CREDENTIALS_FILE
    _check_names(directory, names)
    before = _stamp(path)
    files = {name: _read(directory / name) for name in names}
    if _stamp(path) != before:
        raise SourceInUseError(path, "changed while it was read")
    return files


def device_of(directory: Path, files: Mapping[str, bytes]) -> BaileysDevice:
    """The device that these files hold, checked. Pure; `directory` is only the name that errors give.

    Errors: ImportSourceError.
    """
    _check_names(directory, files)
    source = files[CREDENTIALS_FILE]
    fields = _device_fields(directory / CREDENTIALS_FILE, source)
    records, warnings = _records(files)
    records.extend(_pre_key_ids(source))
    return BaileysDevice(directory, fields, tuple(records), tuple(warnings))


def _check_names(directory: Path, names: Collection[str]) -> None:
    if CREDENTIALS_FILE in names:
        return
    if not any(_record_name(name)[0] != UNKNOWN_TYPE for name in names):
        raise NotAnAuthStateError(directory, f"has no {CREDENTIALS_FILE} and no Signal records")
    path = directory / CREDENTIALS_FILE
    raise CredentialsMissingError(path, "is missing beside the Signal records of its device")


def discover(parent: Path) -> list[Path]:
    """The directories right below `parent` that look like an auth state, damaged or not; sorted by name.

    Errors: NotAnAuthStateError when there is none; FileUnreadableError.
    """
    found = [entry for entry in _entries(parent) if entry.is_dir() and _looks_like_auth_state(entry)]
    if not found:
        raise NotAnAuthStateError(parent, "no directory below it is an auth state")
    return found


def read_all(parent: Path) -> tuple[list[BaileysDevice], list[ImportSourceError]]:
    """Reads every directory that `discover` finds; a damaged one does not hold up the others.

    Of directories with the same device none is taken: each is reported.
    """
    devices: list[BaileysDevice] = []
    problems: list[ImportSourceError] = []
    for directory in discover(parent):
        try:
            devices.append(read_device(directory))
        except ImportSourceError as problem:
            problems.append(problem)
    twice = same_device_twice(devices)
    taken = {problem.path for problem in twice}
    return [device for device in devices if device.directory not in taken], [*problems, *twice]


def same_device_twice(devices: Sequence[BaileysDevice]) -> list[SameDeviceTwiceError]:
    """One error for each of `devices` whose device is also in another directory.

    The same device is the same JID, or the same Noise key (a copied directory).
    """
    places: dict[str | bytes, list[Path]] = {}
    for device in devices:
        for identity in _identities(device):
            places.setdefault(identity, []).append(device.directory)
    problems = []
    for device in devices:
        found = {place for identity in _identities(device) for place in places[identity]}
        if others := sorted(found - {device.directory}):
            problem = f"holds the same device as {', '.join(map(str, others))}"
            problems.append(SameDeviceTwiceError(device.directory, problem))
    return problems


def _identities(device: BaileysDevice) -> tuple[str, bytes]:
    return device.fields["jid"], device.fields["noise_secret"]


# Files


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except NotADirectoryError as error:
        raise NotAnAuthStateError(directory, "is not a directory") from error
    except FileNotFoundError as error:
        raise NotAnAuthStateError(directory, "does not exist") from error
    except OSError as error:
        raise _unreadable(directory, error) from error


def _json_files(directory: Path) -> list[str]:
    return [entry.name for entry in _entries(directory) if entry.name.endswith(".json")]


def _looks_like_auth_state(directory: Path) -> bool:
    try:
        names = _json_files(directory)
    except FileForbiddenError:
        return True  # reading it names the reason
    return CREDENTIALS_FILE in names or any(_record_name(name)[0] != UNKNOWN_TYPE for name in names)


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileUnreadableError(path, "is not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(content) > MAX_FILE_BYTES:
        raise FileUnreadableError(path, f"is larger than {MAX_FILE_BYTES} bytes")
    return content


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return found.st_mtime_ns, found.st_size, found.st_ino


def _unreadable(path: Path, error: OSError) -> FileUnreadableError:
    reason = error.strerror or str(error)
    kind = FileForbiddenError if error.errno in (errno.EACCES, errno.EPERM) else FileUnreadableError
    return kind(path, f"cannot be read: {reason.lower()}")


def _record_name(file_name: str) -> tuple[str, str]:
    """The type and the id that a record's file name gives."""
    stem = file_name.removesuffix(".json")
    for known in KEY_TYPES:
        if stem.startswith(f"{known}-"):
            return known, stem[len(known) + 1 :]
    return UNKNOWN_TYPE, stem


def _records(files: Mapping[str, bytes]) -> tuple[list[SignalRecord], list[str]]:
    records, warnings = [], []
    for name, value in files.items():
        if name == CREDENTIALS_FILE:
            continue
        try:
            json.loads(value)
        except (ValueError, RecursionError):
            what = "is not JSON" if value else "is empty"
            warnings.append(f"{name} {what}; it is carried over as it is")
        records.append(SignalRecord(*_record_name(name), value))
    return records, warnings


def _pre_key_ids(source: bytes) -> list[SignalRecord]:
    """A device that was exported from here goes on with the ids that it was given, so that none is given
    twice."""
    following = json.loads(source).get("nextPreKeyId")
    ours = type(following) is int and following >= FIRST_PRE_KEY_ID
    return [SignalRecord("pre-key-ids", "", str(following).encode())] if ours else []


# Credentials


class _Fields:
    """Typed access to one JSON object; every error names the file and the path of the value."""

    def __init__(self, path: Path, prefix: str, values: object) -> None:
        if not isinstance(values, dict):
            raise FieldTypeError(path, prefix or "the file", f"is {_type_name(values)}, not an object")
        self._path = path
        self._prefix = prefix
        self._values: dict[str, object] = values

    def at(self, name: str) -> str:
        return f"{self._prefix}.{name}" if self._prefix else name

    def raw(self, name: str) -> object:
        """The value; None when it is null or not there, which Baileys does not tell apart."""
        return self._values.get(name)

    def nested(self, name: str) -> _Fields:
        return _Fields(self._path, self.at(name), self._required(name))

    def text(self, name: str) -> str:
        value = self._required(name)
        if not isinstance(value, str):
            raise FieldTypeError(self._path, self.at(name), f"is {_type_name(value)}, not text")
        return value

    def optional_text(self, name: str) -> str | None:
        return None if self.raw(name) is None else self.text(name)

    def number(self, name: str, most: int) -> int:
        value = self._required(name)
        if type(value) is not int:  # True is an int to isinstance
            raise FieldTypeError(self._path, self.at(name), f"is {_type_name(value)}, not a whole number")
        if not 0 <= value <= most:
            raise FieldRangeError(self._path, self.at(name), f"{value} is not in 0..{most}")
        return value

    def binary(self, name: str, length: int | None = None) -> bytes:
        """Bytes in any of the forms that Baileys has written over the years."""
        value = _to_bytes(self._path, self.at(name), self._required(name))
        if length is not None and len(value) != length:
            raise FieldLengthError(self._path, self.at(name), f"has {len(value)} bytes, not {length}")
        return value

    def optional_binary(self, name: str) -> bytes | None:
        return None if self.raw(name) is None else self.binary(name)

    def key_pair(self, name: str) -> bytes:
        """The secret of a pair whose halves belong together."""
        pair = self.nested(name)
        secret, public = pair.binary("private", 32), pair.binary("public")
        if len(public) == 33 and public[0] == 5:
            public = public[1:]  # the Signal wire form carries a type byte
        if len(public) != 32:
            raise FieldLengthError(self._path, pair.at("public"), f"has {len(public)} bytes, not 32")
        if public_key(secret) != public:
            raise KeyMismatchError(self._path, pair.at("public"), "does not belong to the secret beside it")
        return secret

    def _required(self, name: str) -> object:
        value = self.raw(name)
        if value is None:
            raise FieldMissingError(self._path, self.at(name), "is missing")
        return value


def _device_fields(path: Path, source: bytes) -> DeviceFields:
    creds = _Fields(path, "", _parse(path, source))
    if creds.raw("me") is None:
        raise NotRegisteredError(path, "the device is not linked to an account (no `me`)")
    if creds.raw("account") is None and creds.raw("registered") is not True:
        # With a pairing code Baileys writes `me` before the phone has confirmed.
        raise NotRegisteredError(path, "pairing was started and not finished")
    jid, lid = _own_jids(path, creds.nested("me"))
    signed = creds.nested("signedPreKey")
    return DeviceFields(
        jid=jid,
        lid=lid,
        push_name=creds.nested("me").optional_text("name"),
        platform=creds.optional_text("platform"),
        registration_id=creds.number("registrationId", 0xFFFF_FFFF),
        noise_secret=creds.key_pair("noiseKey"),
        identity_secret=creds.key_pair("signedIdentityKey"),
        signed_pre_key_id=signed.number("keyId", 0xFF_FFFF),
        signed_pre_key_secret=signed.key_pair("keyPair"),
        signed_pre_key_signature=signed.binary("signature", 64),
        adv_secret=creds.binary("advSecretKey", 32),
        account=None if creds.raw("account") is None else _account(creds.nested("account")),
        routing_info=creds.optional_binary("routingInfo"),
        source=source,
    )


def _parse(path: Path, content: bytes) -> object:
    if not content.strip(b" \t\r\n\0"):
        raise FileEmptyError(path, "is empty")
    try:
        parsed: object = json.loads(content)
    except (ValueError, RecursionError) as error:
        where = f" at byte {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise FileNotJsonError(path, f"is cut off or not JSON{where}") from None
    return parsed


_PN: Final = re.compile(r"[0-9]{5,20}(:[0-9]{1,5})?@(s\.whatsapp\.net|c\.us|hosted)")
_LID: Final = re.compile(r"[0-9]{1,20}(:[0-9]{1,5})?@(lid|hosted\.lid)")


def _own_jids(path: Path, me: _Fields) -> tuple[str, str | None]:
    """The phone-number JID and the LID, whichever of the two `me.id` is."""
    own = me.text("id")
    if _PN.fullmatch(own):
        jid, lid, at = own, me.optional_text("lid"), "id"
    elif _LID.fullmatch(own) and me.raw("phoneNumber") is not None:
        jid, lid, at = me.text("phoneNumber"), own, "phoneNumber"
    else:
        raise FieldRangeError(path, me.at("id"), "is not the address of a linked device")
    if not _PN.fullmatch(jid):
        raise FieldRangeError(path, me.at(at), "is not a phone-number address")
    if lid is not None and not _LID.fullmatch(lid):
        raise FieldRangeError(path, me.at("lid"), "is not a LID address")
    return jid, lid


def _account(account: _Fields) -> bytes:
    """The serialized ADVSignedDeviceIdentity: details, account key, account signature, device signature."""
    names = ("details", "accountSignatureKey", "accountSignature", "deviceSignature")
    parts = []
    for number, name in enumerate(names, start=1):
        value = account.optional_binary(name)
        if value:  # an empty protobuf field is left out
            parts.append(bytes([number << 3 | 2]) + _varint(len(value)) + value)
    return b"".join(parts)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _to_bytes(path: Path, at: str, value: object) -> bytes:
    """`{"type":"Buffer","data":…}` with base64 or numbers, bare base64, a list, or `{"0":…,"1":…}`."""
    if isinstance(value, dict) and value.get("type") == "Buffer":
        value = value.get("data")
    if isinstance(value, str):
        return _base64(path, at, value)
    if isinstance(value, dict) and value and all(isinstance(k, str) and k.isdecimal() for k in value):
        value = [value[k] for k in sorted(value, key=int)]
    if isinstance(value, list):
        return bytes(_octets(path, at, value))
    raise FieldTypeError(path, at, f"is {_type_name(value)}, not bytes")


def _base64(path: Path, at: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise FieldBase64Error(path, at, "is not base64") from None


def _octets(path: Path, at: str, values: list[object]) -> Iterator[int]:
    for value in values:
        if type(value) is not int or not 0 <= value <= 0xFF:
            raise FieldTypeError(path, at, "is a list of something else than bytes")
        yield value


def _type_name(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
