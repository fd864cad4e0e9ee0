"""Who is at the other end of an admin connection: the uid, from the kernel and never from the peer.

Unix sockets carry it (SO_PEERCRED). For loopback TCP the kernel is asked which uid owns the socket whose
local end is the peer's address and whose remote end is ours: by sock_diag (one look-up, whatever the number
of sockets), or by reading /proc/net/tcp where netlink is not to be had.

An orphaned or TIME_WAIT socket is reported with uid 0, the same as root's: a stranger who connects, writes
and closes at once would look like root. Such an answer carries no inode, and counts as "not known".
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Final

_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_NLMSG_HEADER: Final = struct.Struct("=IHHII")
_ANSWER_TAIL: Final = struct.Struct("=IIIII")  # expires, rqueue, wqueue, uid, inode
_NO_COOKIE: Final = 0xFFFF_FFFF
_ALL_STATES: Final = 0xFFFF_FFFF

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection. `uid` is None when the kernel could not say for sure."""

    transport: str  # "unix" or "tcp"
    uid: int | None = None
    pid: int | None = None
    address: str = ""
    """Of TCP, as the kernel writes it."""

    def is_trusted(self, own_uid: int) -> bool:
        """Whether this peer needs no token: the runner's own user, or root."""
        return self.uid is not None and self.uid in (own_uid, 0)

    @property
    def caller(self) -> str:
        """Whose wrong tokens are counted together: those of a local user, else of an address.

        Of IPv6 the /64: one host may have every address in it.
        """
        if self.uid is not None:
            return f"uid {self.uid}"
        if not self.address:
            return "unknown"
        address = ip_address(self.address.partition("%")[0])
        if address.version == 6:
            return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False))
        return str(address)


def unix_peer(connection: socket.socket) -> Peer:
    """The peer of a Unix socket, as it was when it connected."""
    pid, uid, _gid = struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Peer("unix", uid, pid)


def tcp_peer(connection: socket.socket) -> Peer:
    """The peer of a loopback TCP connection. Blocking for microseconds; milliseconds in the fallback."""
    try:
        theirs, ours = connection.getpeername()[:2], connection.getsockname()[:2]
    except OSError:  # gone already
        return Peer("tcp")
    try:
        uid = _uid_by_sock_diag(theirs, ours)
    except (OSError, struct.error):
        uid = _uid_by_proc(theirs, ours, Path("/proc/net"))
    return Peer("tcp", uid, address=theirs[0])


def _uid_by_sock_diag(theirs: Address, ours: Address) -> int | None:
    """Ask netlink for exactly one socket. None: there is no such socket, or nobody owns it."""
    source, target = ip_address(theirs[0]), ip_address(ours[0])
    family = socket.AF_INET6 if source.version == 6 else socket.AF_INET
    socket_id = (
        struct.pack("!HH", theirs[1], ours[1])
        + source.packed.ljust(16, b"\0")
        + target.packed.ljust(16, b"\0")
        + struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)
    )
    query = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES) + socket_id
    header = _NLMSG_HEADER.pack(_NLMSG_HEADER.size + len(query), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 4) as netlink:  # 4: NETLINK_SOCK_DIAG
        netlink.settimeout(0.1)
        netlink.send(header + query)
        answer = netlink.recv(4096)
    _length, kind, _flags, _sequence, _port = _NLMSG_HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        (code,) = struct.unpack_from("=i", answer, _NLMSG_HEADER.size)
        if -code == errno.ENOENT:
            return None
        raise OSError(-code, "sock_diag")
    _expires, _rqueue, _wqueue, uid, inode = _ANSWER_TAIL.unpack_from(answer, _NLMSG_HEADER.size + 4 + 48)
    return int(uid) if inode else None


def _uid_by_proc(theirs: Address, ours: Address, proc_net: Path) -> int | None:
    """The same answer from /proc/net/tcp and tcp6. None: not found, or nobody owns it."""
    source, target = ip_address(theirs[0]), ip_address(ours[0])
    candidates = [("tcp6" if source.version == 6 else "tcp", source.packed, target.packed)]
    if source.version == 4:  # a dual-stack socket of the peer stands in tcp6, its addresses mapped
        mapped = [IPv6Address(f"::ffff:{address}").packed for address in (theirs[0], ours[0])]
        candidates.append(("tcp6", mapped[0], mapped[1]))
    for name, near, far in candidates:
        wanted = [_proc_address(near, theirs[1]), _proc_address(far, ours[1])]
        try:
            lines = (proc_net / name).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[1:3] == wanted:
                return int(columns[7]) if columns[9] != "0" else None
    return None


def _proc_address(packed: bytes, port: int) -> str:
    """An address as /proc/net/tcp writes it: 32-bit words in the machine's byte order."""
    words = struct.unpack(f"!{len(packed) // 4}I", packed)
    return "".join(f"{socket.htonl(word) & 0xFFFFFFFF:08X}" for word in words) + f":{port:04X}"
