"""Writes a session as Baileys' `useMultiFileAuthState` keeps it, so that a program built on Baileys goes on
with it.

Signal records come from the store in Baileys' form already (`_core.ExportedDevice.files`); here they get
their file names, and `creds.json` is made: the one that the session was imported from, brought up to date,
or a new one for a device that a phone linked here.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
from typing import TYPE_CHECKING, Any, Final

from runner._core import x25519_public_key as public_key
from runner.baileys import CREDENTIALS_FILE, UNKNOWN_TYPE
from runner.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner._core import ExportedDevice

GO_ON_THERE: Final = (
    "from here on only the other program may use this device: two programs on one device replace each other "
    "for ever, and their keys drift apart until messages cannot be read. The session is parked here, as "
    "exported"
)
"""What the operator must be told with every export."""

_ACCOUNT: Final = ("details", "accountSignatureKey", "accountSignature", "deviceSignature")
"""Fields 1 to 4 of ADVSignedDeviceIdentity."""


def files_of(device: ExportedDevice) -> dict[str, bytes]:
    """File name to content. Pure, but for the pairing key of a device that was linked here, which nobody
    needs."""
    files = {CREDENTIALS_FILE: json.dumps(_credentials(device), separators=(",", ":")).encode()}
    for kind, record_id, content in device.files:
        stem = record_id if kind == UNKNOWN_TYPE else f"{kind}-{record_id}"
        files[stem.replace("/", "__").replace(":", "-") + ".json"] = content
    return files


def write_directory(directory: Path, files: Mapping[str, bytes]) -> None:
    """All of them or nothing, in a directory for the owner alone. Blocking.

    Errors: StartError when the directory is there and not empty, or cannot be written.
    """
    check_empty(directory)
    making = directory.parent / f".{directory.name}.{os.getpid()}.partial"
    try:
        making.mkdir(mode=0o700)
        for name, content in files.items():
            handle = os.open(making / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        making.replace(directory)  # over an empty one, if it is there
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise StartError(
            f"{directory} cannot be written: {error.strerror}", "name another directory and export again"
        ) from error


def check_empty(directory: Path) -> None:
    """Errors: StartError when something is in the way."""
    try:
        is_free = not directory.exists() or (directory.is_dir() and not any(directory.iterdir()))
        has_parent = directory.absolute().parent.is_dir()
    except OSError as error:
        raise StartError(f"{directory} cannot be read: {error.strerror}") from error
    if not is_free:
        raise StartError(
            f"{directory} is not empty: files of another device, or older ones of this, would be mixed in",
            "name a directory that does not exist",
        )
    if not has_parent:
        raise StartError(f"{directory.absolute().parent} does not exist", "make it first")


def _credentials(device: ExportedDevice) -> dict[str, Any]:
    creds = dict(json.loads(device.source)) if device.source else _new_credentials(device)
    key_id, secret, signature = device.signed_pre_key
    creds["signedPreKey"] = {"keyPair": _pair(secret), "signature": _buffer(signature), "keyId": key_id}
    if device.pre_key_ids is not None:
        # Ours begin far above those of the import: the other program goes on above ours.
        following, unconfirmed = device.pre_key_ids
        creds["nextPreKeyId"] = max(following, int(creds.get("nextPreKeyId") or 1))
        creds["firstUnuploadedPreKeyId"] = min(unconfirmed, creds["nextPreKeyId"])
    if device.routing_info is not None:
        creds["routingInfo"] = _buffer(device.routing_info)
    if device.lid is not None and not creds["me"].get("lid"):
        creds["me"]["lid"] = device.lid
    return creds


def _new_credentials(device: ExportedDevice) -> dict[str, Any]:
    """Of a device that a phone linked here."""
    me = {"id": device.jid, "lid": device.lid, "name": device.push_name}
    account = dict(zip(_ACCOUNT, _fields(device.account or b""), strict=True))
    own = (device.lid or device.jid).partition("@")
    identity = {
        "identifier": {"name": f"{own[0].partition(':')[0]}:0@{own[2]}", "deviceId": 0},
        "identifierKey": _buffer(b"\x05" + account["accountSignatureKey"]),
    }
    return {
        "noiseKey": _pair(device.noise_secret),
        "pairingEphemeralKeyPair": _pair(secrets.token_bytes(32)),
        "signedIdentityKey": _pair(device.identity_secret),
        "registrationId": device.registration_id,
        "advSecretKey": base64.b64encode(device.adv_secret).decode(),
        "processedHistoryMessages": [],
        "nextPreKeyId": 1,
        "firstUnuploadedPreKeyId": 1,
        # At 0 Baileys holds all messages back for 20 s, until the phone tells the history; it told it here.
        "accountSyncCounter": 1,
        "accountSettings": {"unarchiveChats": False},
        "registered": True,
        "me": {key: value for key, value in me.items() if value is not None},
        "account": {name: _buffer(value) for name, value in account.items()},
        "signalIdentities": [identity],
        "platform": device.platform,
    }


def _fields(encoded: bytes) -> list[bytes]:
    """Fields 1 to 4 of a protobuf message that has only such, as bytes; empty where there is none."""
    found = [b""] * len(_ACCOUNT)
    at = 0
    while at < len(encoded):
        number, at = encoded[at] >> 3, at + 1
        size = shift = 0
        while True:
            byte, at = encoded[at], at + 1
            size, shift = size | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                break
        if 1 <= number <= len(found):
            found[number - 1] = encoded[at : at + size]
        at += size
    return found


def _pair(secret: bytes) -> dict[str, Any]:
    return {"private": _buffer(secret), "public": _buffer(public_key(secret))}


def _buffer(content: bytes) -> dict[str, str]:
    return {"type": "Buffer", "data": base64.b64encode(content).decode()}
