"""Write xeddsa.json: keys and signatures made by PyPI `xeddsa` (libxeddsa), a foreign implementation.

Run once, with `xeddsa` installed: `python tests/vectors/make_xeddsa.py`. The output is deterministic and
committed; the tests of `rust/xeddsa` replay it, so neither Rust nor CI needs the package.

libxeddsa follows the specification, where the sign of the public Edwards point is an argument, and knows
nothing of Signal's convention, where it travels in the top bit of the signature. Both are recorded:
`signature` is Signal's (the secret as it is, the sign put in), `spec_signature` the specification's (the
secret negated so that the sign is 0). The secrets are clamped, which libxeddsa expects of its caller.
"""

import hashlib
import json
from pathlib import Path

import xeddsa

MESSAGE_LENGTHS = (0, 1, 31, 32, 33, 64, 127, 128, 129, 1000)
KEYS = 24


def expand(label: str, length: int) -> bytes:
    """Deterministic bytes for a label."""
    return hashlib.shake_256(b"runner xeddsa vectors: " + label.encode()).digest(length)


def clamp(secret: bytes) -> bytes:
    """RFC 7748 §5."""
    return bytes([secret[0] & 248, *secret[1:31], secret[31] & 127 | 64])


def vector(index: int) -> dict[str, str | int]:
    """One key, one message and its signatures."""
    secret = clamp(expand(f"secret {index}", xeddsa.PRIV_SIZE))
    message = expand(f"message {index}", MESSAGE_LENGTHS[index % len(MESSAGE_LENGTHS)])
    random = expand(f"random {index}", xeddsa.NONCE_SIZE)
    sign_bit = xeddsa.priv_to_ed25519_pub(secret)[31] & 0x80

    signature = bytearray(xeddsa.ed25519_priv_sign(secret, message, random))
    signature[63] |= sign_bit
    spec_secret = xeddsa.priv_force_sign(secret, set_sign_bit=False)
    return {
        "secret": secret.hex(),
        "public": xeddsa.priv_to_curve25519_pub(secret).hex(),
        "message": message.hex(),
        "random": random.hex(),
        "sign": sign_bit >> 7,
        "signature": signature.hex(),
        "spec_signature": xeddsa.ed25519_priv_sign(spec_secret, message, random).hex(),
    }


def verifies(entry: dict[str, str | int], name: str, *, sign: bool) -> bool:
    """Whether the package itself accepts a signature that it made."""
    key = xeddsa.curve25519_pub_to_ed25519_pub(bytes.fromhex(str(entry["public"])), sign)
    signature = bytearray.fromhex(str(entry[name]))
    signature[63] &= 0x7F
    return xeddsa.ed25519_verify(bytes(signature), key, bytes.fromhex(str(entry["message"])))


def main() -> None:
    """Write the file beside this script."""
    vectors = [vector(index) for index in range(KEYS)]
    if {entry["sign"] for entry in vectors} != {0, 1}:
        raise SystemExit("both signs must occur")
    for entry in vectors:
        if not verifies(entry, "signature", sign=entry["sign"] == 1):
            raise SystemExit("xeddsa does not verify its own signature")
        if not verifies(entry, "spec_signature", sign=False):
            raise SystemExit("xeddsa does not verify its own specification signature")
    document = {"source": f"PyPI xeddsa {xeddsa.__version__}", "vectors": vectors}
    text = json.dumps(document, indent=1) + "\n"
    Path(__file__).with_name("xeddsa.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
