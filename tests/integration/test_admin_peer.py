"""Who is at the other end of a connection, by the kernel's word."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from runner.admin import peer
from runner.admin.peer import Peer, tcp_peer, unix_peer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Pair = tuple[socket.socket, socket.socket]


def connected(family: int, address: tuple[str, int]) -> Pair:
    with socket.socket(family) as listener:
        listener.bind(address)
        listener.listen()
        client = socket.create_connection(listener.getsockname()[:2])
        return listener.accept()[0], client


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        server, client = connected(family, (request.param, 0))
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with server, client:
        yield server, client


def test_the_uid_of_a_tcp_peer_is_found(pair: Pair) -> None:
    address = pair[0].getpeername()[0]
    assert tcp_peer(pair[0]) == Peer("tcp", os.getuid(), address=address)


def test_both_ways_of_asking_agree(pair: Pair) -> None:
    theirs, ours = pair[0].getpeername()[:2], pair[0].getsockname()[:2]
    assert peer._uid_by_proc(theirs, ours, peer.Path("/proc/net")) == os.getuid()
    assert peer._uid_by_sock_diag(theirs, ours) == os.getuid()


def test_a_peer_on_a_dual_stack_socket_is_found() -> None:
    with socket.socket(socket.AF_INET) as listener, socket.socket(socket.AF_INET6) as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        client.connect(("::ffff:127.0.0.1", listener.getsockname()[1]))
        server, _ = listener.accept()
        with server:
            theirs, ours = server.getpeername(), server.getsockname()
            assert tcp_peer(server).uid == os.getuid()
            assert peer._uid_by_proc(theirs, ours, peer.Path("/proc/net")) == os.getuid()


def test_a_socket_that_nobody_owns_any_more_is_not_root(pair: Pair) -> None:
    """The kernel reports uid 0 for it; a stranger who closes at once must not pass as root."""
    server, client = pair
    theirs, ours = server.getpeername()[:2], server.getsockname()[:2]
    client.close()
    assert tcp_peer(server).uid is None
    assert peer._uid_by_proc(theirs, ours, peer.Path("/proc/net")) is None


def test_a_peer_that_is_gone_is_not_known(pair: Pair) -> None:
    server, client = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()  # a reset: the server's socket has no peer any more
    assert tcp_peer(server).uid is None


def test_without_netlink_proc_is_asked(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_args: object) -> int:
        raise PermissionError("netlink is blocked")

    monkeypatch.setattr(peer, "_uid_by_sock_diag", refused)
    assert tcp_peer(pair[0]).uid == os.getuid()


def test_proc_lines_of_other_users_are_told_apart(tmp_path: Path) -> None:
    head = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    )
    line = (
        "   0: 0100007F:{port} 0100007F:0FA1 01 00000000:00000000 00:00000000 00000000  {uid} 0 {inode} 1\n"
    )
    (tmp_path / "tcp").write_text(
        head + line.format(port="C350", uid=1001, inode=77) + line.format(port="C351", uid=0, inode=0)
    )
    ours = ("127.0.0.1", 4001)
    assert peer._uid_by_proc(("127.0.0.1", 50_000), ours, tmp_path) == 1001
    assert peer._uid_by_proc(("127.0.0.1", 50_001), ours, tmp_path) is None
    assert peer._uid_by_proc(("127.0.0.1", 50_002), ours, tmp_path) is None


def test_a_unix_peer_is_known_with_its_process() -> None:
    server, client = socket.socketpair()
    with server, client:
        assert unix_peer(server) == Peer("unix", os.getuid(), os.getpid())
