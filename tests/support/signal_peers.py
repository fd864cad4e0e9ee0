"""Programs that hold devices and encrypt end to end: our crate, real Baileys, and whatsmeow's library.

Each speaks JSON lines over stdin and stdout, one answer to each request. Requests have `op` and `device`;
bytes are hex.

    create {seed, lease}                     bundle {oneTime}          start {peer, bundle}
    encrypt {peer, plaintext} -> type bytes  decrypt {peer, type, bytes} -> plaintext
    distribution {group} -> bytes            accept {peer, group, bytes}
    groupEncrypt {group, plaintext} -> bytes groupDecrypt {peer, group, bytes} -> plaintext

An answer with `error` means that nothing was done.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).parents[2]
BAILEYS = ROOT / "tests/interop/baileys"
WHATSMEOW = ROOT / "tests/interop/whatsmeow"


class PeerError(Exception):
    """The program refused a request; the message is its own."""


class Program:
    """One process that holds devices."""

    def __init__(self, command: list[str], directory: Path, stderr: int | None = subprocess.DEVNULL) -> None:
        """`stderr` as `subprocess.Popen` has it."""
        self._process = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def call(self, op: str, device: str, **arguments: object) -> dict[str, Any]:
        """One request and its answer. Errors: PeerError."""
        stdin, stdout = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        stdin.write(json.dumps({"op": op, "device": device, **arguments}).encode() + b"\n")
        stdin.flush()
        line = stdout.readline()
        assert line, f"the program ended during {op}"
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer


def missing(kind: str) -> str | None:
    """What a kind of program lacks here, or None."""
    if kind == "baileys" and (
        shutil.which("node") is None or not (BAILEYS / "node_modules/baileys").is_dir()
    ):
        return "needs Node.js, and `npm ci` in tests/interop/baileys"
    if kind == "whatsmeow" and shutil.which("go") is None:
        return "needs Go 1.25"
    return None


def build(kind: str, directory: Path) -> list[str]:
    """The command of a kind of program, compiled first if need be; `directory` takes what it makes."""
    if kind == "baileys":
        return ["node", str(BAILEYS / "signal_peer.mjs"), str(directory)]
    if kind == "whatsmeow":
        binary = directory / "peer"
        subprocess.run(["go", "build", "-o", str(binary), "."], cwd=WHATSMEOW, check=True)
        return [str(binary)]
    # Without `-p`, so that what `cargo test` has built is used again.
    subprocess.run(["cargo", "build", "--locked", "--quiet", "--example", "peer"], cwd=ROOT, check=True)
    return [str(ROOT / "target/debug/examples/peer")]


@dataclass(slots=True)
class Sent:
    """A message on its way, and what it must come out as."""

    type: str
    data: str
    plaintext: str

    @property
    def ratchet_key(self) -> str:
        """The sender's ratchet key, in hex."""
        inner = bytes.fromhex(self.data)
        return _field(_field(inner, 4), 1).hex() if self.type == "pkmsg" else _field(inner, 1).hex()


def _field(message: bytes, wanted: int) -> bytes:
    """The last bytes field with that number, of a version byte and a protobuf."""
    at, found = 1, b""
    while at < len(message):
        tag, at = _varint(message, at)
        value, at = _varint(message, at)
        if tag & 7 == 2:
            if tag >> 3 == wanted:
                found = message[at : at + value]
                if wanted == 1:
                    return found
            at += value
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return value | data[at] << shift, at + 1


@dataclass(slots=True)
class Device:
    """One device of one program."""

    kind: str
    """`runner`, `baileys` or `whatsmeow`."""
    program: Program
    name: str
    is_ordered: bool = False
    """Whether it must get a group's messages in their order."""
    opened: dict[str, list[str]] = field(default_factory=dict)
    """Ratchet keys of each peer, in the order in which they came."""

    def create(self, seed: int, lease: int = 1) -> None:
        self.program.call("create", self.name, seed=seed, lease=lease)

    def start(self, peer: Device, *, one_time: bool) -> None:
        """A session from a bundle of `peer`, as after asking the server for it."""
        bundle = peer.program.call("bundle", peer.name, oneTime=one_time)
        self.program.call("start", self.name, peer=peer.name, bundle=bundle)

    def encrypt(self, peer: Device, plaintext: bytes) -> Sent:
        answer = self.program.call("encrypt", self.name, peer=peer.name, plaintext=plaintext.hex())
        return Sent(answer["type"], answer["bytes"], plaintext.hex())

    def decrypt(self, peer: Device, sent: Sent) -> str:
        """The plaintext in hex. Errors: PeerError."""
        answer = self.program.call("decrypt", self.name, peer=peer.name, type=sent.type, bytes=sent.data)
        opened = self.opened.setdefault(peer.name, [])
        if sent.ratchet_key not in opened:
            opened.append(sent.ratchet_key)
        return str(answer["plaintext"])

    def crash(self) -> None:
        """kill -9 and a new start; only our own program can."""
        self.program.call("crash", self.name)


class Programs:
    """One process of each kind, started when first asked for and ended with the `with` block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[str, Program] = {}
        self._devices = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def device(self, kind: str, lease: int = 1) -> Device:
        """A new device, with a name that no other has."""
        if kind not in self._running:
            own = self._directory / kind
            own.mkdir()
            self._running[kind] = self._stack.enter_context(Program(build(kind, own), own))
        self._devices += 1
        name = str(15550000000 + self._devices)
        device = Device(kind, self._running[kind], name, is_ordered=kind == "baileys")
        device.create(self._devices, lease)
        return device
