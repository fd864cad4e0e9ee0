"""Where a webhook may go: a guard against being sent to what only this machine can reach.

A name is resolved once, every address is judged, and the connection is made to the address that was judged: a
name that resolves differently a moment later gains nothing. Redirects are not followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from ipaddress import IPv4Network

_NAT64: Final = IPv6Network("64:ff9b::/96")
_LOW_32: Final = 0xFFFF_FFFF


class TargetRefusedError(Exception):
    """The guard does not let a webhook go there."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The exceptions that an operator made."""

    hosts: frozenset[str]
    networks: tuple[IPv4Network | IPv6Network, ...]
    setting: str = "WHATSAPP_ALERT_WEBHOOK_ALLOW"
    """Where he made them."""

    def has(self, host: str, address: IPv4Address | IPv6Address) -> bool:
        """Whether this address under this name is one of them."""
        return host.lower() in self.hosts or any(
            address in network for network in self.networks if network.version == address.version
        )


def allowed_of(entries: Iterable[str], setting: str = "WHATSAPP_ALERT_WEBHOOK_ALLOW") -> Allowed:
    """From the setting: names, addresses, networks."""
    hosts: set[str] = set()
    networks: list[IPv4Network | IPv6Network] = []
    for entry in entries:
        try:
            networks.append(ip_network(entry.strip("[]"), strict=False))
        except ValueError:
            hosts.add(entry.lower())
    return Allowed(frozenset(hosts), tuple(networks), setting)


def chosen(host: str, addresses: Sequence[str], allowed: Allowed) -> str:
    """The address to connect to. Errors: TargetRefusedError when none may be used."""
    for text in addresses:
        address = _unwrapped(text)
        if allowed.has(host, address) or is_public(address):
            return text.partition("%")[0]
    shown = ", ".join(addresses[:3]) or "no address"
    what = host if shown == host.strip("[]") else f"{host} is {shown}, which"
    raise TargetRefusedError(f"{what} is not public; see {allowed.setting}")


def check_literal(host: str, allowed: Allowed) -> None:
    """What can be judged without resolving a name: an address. Errors: TargetRefusedError."""
    try:
        ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return
    chosen(host, [host.strip("[]")], allowed)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether anybody on the internet could mean this address."""
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
    )


def _unwrapped(text: str) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, where it does: the network delivers to that one."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64:
            return IPv4Address(int(address) & _LOW_32)
    return address
