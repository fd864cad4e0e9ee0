"""Opens a tunnel through a SOCKS5 proxy (RFC 1928, user and password by RFC 1929). Blocking.

For the one request that does not go through the engine (`client_version`). Like the engine's own
conversation: the endpoint's name goes to the proxy unresolved, so that it resolves where traffic leaves.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from runner.errors import RunnerError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

DEFAULT_PORT: Final = 1080
_VERSION: Final = 5
_NO_LOGIN, _LOGIN, _NONE_ACCEPTED = 0x00, 0x02, 0xFF
_CONNECT: Final = 1
_IPV4: Final = 1
_NAME: Final = 3
_IPV6: Final = 4
_REPLIES: Final = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}


class ProxyRefusedError(RunnerError):
    """The proxy, or what answers in its place, opens no tunnel. The message holds no password."""

    slug = "proxy_failed"


def open_tunnel(proxy: SplitResult, host: str, port: int, timeout_s: float) -> socket.socket:
    """A connection to `host` through `proxy`, `socks5://[user:password@]host[:port]`.

    `timeout_s` is for each step, and stays on the socket.
    Errors: ProxyRefusedError; OSError (the proxy is down, or silent). No socket is left open then.
    """
    link = socket.create_connection((proxy.hostname or "", proxy.port or DEFAULT_PORT), timeout_s)
    try:
        _log_in(link, unquote_to_bytes(proxy.username or ""), unquote_to_bytes(proxy.password or ""))
        link.sendall(bytes([_VERSION, _CONNECT, 0]) + _address(host) + port.to_bytes(2, "big"))
        _await_tunnel(link)
    except BaseException:
        link.close()
        raise
    return link


def _log_in(link: socket.socket, user: bytes, password: bytes) -> None:
    methods = bytes([_NO_LOGIN, _LOGIN]) if user else bytes([_NO_LOGIN])
    link.sendall(bytes([_VERSION, len(methods)]) + methods)
    version, method = _exactly(link, 2)
    if version != _VERSION:
        raise ProxyRefusedError(f"the proxy does not speak SOCKS5: it answered with version {version}")
    if method == _NONE_ACCEPTED or method not in methods:
        wants = "wants a user and a password" if not user else "takes no user and password"
        raise ProxyRefusedError(f"the proxy {wants} (SOCKS method {method})")
    if method == _LOGIN:
        link.sendall(b"\x01" + bytes([len(user)]) + user + bytes([len(password)]) + password)
        if _exactly(link, 2)[1] != 0:
            raise ProxyRefusedError("the proxy refused its user and password")


def _address(host: str) -> bytes:
    try:
        known = ip_address(host)
    except ValueError:
        name = host.encode("idna")
        return bytes([_NAME, len(name)]) + name
    return bytes([_IPV4 if isinstance(known, IPv4Address) else _IPV6]) + known.packed


def _await_tunnel(link: socket.socket) -> None:
    version, reply, _, kind = _exactly(link, 4)
    if version != _VERSION or reply != 0:
        raise ProxyRefusedError(f"the proxy opened no tunnel: {_REPLIES.get(reply, f'reply {reply}')}")
    # The address that it dials from is of no use here, but its bytes come before the endpoint's.
    size = {_IPV4: 4, _IPV6: 16}.get(kind)
    if size is None:
        if kind != _NAME:
            raise ProxyRefusedError("the proxy answered with an address of an unknown kind")
        size = _exactly(link, 1)[0]
    _exactly(link, size + 2)


def _exactly(link: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = link.recv(size - len(found))
        if not piece:
            raise ProxyRefusedError("the proxy hung up before the tunnel was open")
        found += piece
    return found
