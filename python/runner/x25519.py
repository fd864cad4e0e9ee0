"""Public keys from X25519 secrets, to tell a damaged credentials file from a good one.

Python integers leak timing. That does not matter where this is used: once, offline, on files the operator
owns. Keys that speak to a server are handled in Rust.
"""

from __future__ import annotations

from typing import Final

_PRIME: Final = 2**255 - 19
_A24: Final = 121665
_BASE_POINT: Final = 9


def public_key(secret: bytes) -> bytes:
    """The public key of `secret`.

    Shape: 32 bytes in, 32 bytes out, little-endian. Source: RFC 7748 §5.
    """
    scalar = int.from_bytes(secret, "little")
    scalar = (scalar & ~7 & (2**255 - 1)) | 2**254
    x2, z2, x3, z3 = 1, 0, _BASE_POINT, 1
    swapped = 0
    for position in range(254, -1, -1):
        bit = (scalar >> position) & 1
        if bit != swapped:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swapped = bit
        x2, z2, x3, z3 = _ladder_step(x2, z2, x3, z3)
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, _PRIME - 2, _PRIME) % _PRIME).to_bytes(32, "little")


def _ladder_step(x2: int, z2: int, x3: int, z3: int) -> tuple[int, int, int, int]:
    """Doubles the first point and adds the two, whose difference is the base point."""
    total, difference = x2 + z2, x2 - z2
    total_squared, difference_squared = total * total % _PRIME, difference * difference % _PRIME
    gap = total_squared - difference_squared
    cross_up, cross_down = (x3 - z3) * total, (x3 + z3) * difference
    return (
        total_squared * difference_squared % _PRIME,
        gap * (total_squared + _A24 * gap) % _PRIME,
        pow(cross_up + cross_down, 2, _PRIME),
        _BASE_POINT * pow(cross_up - cross_down, 2, _PRIME) % _PRIME,
    )
