"""A device that moves from Baileys' directory into our core, and back."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from support.signal_peers import Device, Program


def _bytes(value: dict[str, str]) -> str:
    return base64.b64decode(value["data"]).hex()


def named(directory: Path, kind: str) -> dict[str, Path]:
    """Files by the ids in their names."""
    start = f"{kind}-"
    return {path.stem.removeprefix(start): path for path in directory.glob(f"{start}*.json")}


def move_in(device: Device, directory: Path, program: Program) -> None:
    """`device`, until now Baileys' with this directory, goes on in our `program`."""
    creds: dict[str, Any] = json.loads((directory / "creds.json").read_text())
    sender_keys = {}
    for name, path in named(directory, "sender-key").items():
        if not name.startswith("memory-"):
            group, user, _ = name.split("--")
            sender_keys[f"{group} {'' if user == device.name else user}"] = path.read_text()
    program.call(
        "import",
        device.name,
        seed=77,
        identity=_bytes(creds["signedIdentityKey"]["private"]),
        registrationId=creds["registrationId"],
        signedPreKeyId=creds["signedPreKey"]["keyId"],
        signedPreKey=_bytes(creds["signedPreKey"]["keyPair"]["private"]),
        signature=_bytes(creds["signedPreKey"]["signature"]),
        nextPreKeyId=creds["nextPreKeyId"],
        preKeys={id_: path.read_text() for id_, path in named(directory, "pre-key").items()},
        sessions={
            name.removesuffix(".1"): path.read_text() for name, path in named(directory, "session").items()
        },
        senderKeys=sender_keys,
    )
    device.kind, device.program = "runner", program


def move_out(device: Device, directory: Path, program: Program) -> None:
    """`device`, until now ours, goes on in `program`, which is Baileys with this directory."""
    files = device.program.call("export", device.name)
    creds = json.loads((directory / "creds.json").read_text())
    creds["nextPreKeyId"] = files["nextPreKeyId"]
    (directory / "creds.json").write_text(json.dumps(creds))
    for kind in ("pre-key", "session", "sender-key"):
        for name, path in named(directory, kind).items():
            if not name.startswith("memory-"):
                path.unlink()
    for id_, text in files["preKeys"].items():
        (directory / f"pre-key-{id_}.json").write_text(text)
    for peer, text in files["sessions"].items():
        (directory / f"session-{peer}.1.json").write_text(text)
    for name, text in files["senderKeys"].items():
        group, owner = name.split(" ")
        (directory / f"sender-key-{group}--{owner or device.name}--1.json").write_text(text)
    device.kind, device.program = "baileys", program
    program.call("create", device.name)
