"""The node codec and the Noise cipher for Python: tests, benches and tools.

The runner itself reads, writes and seals in Rust; nothing on its hot path comes through here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from runner import _core

NoiseTransport = _core.NoiseTransport

Content: TypeAlias = "list[Node] | bytes | str | None"
_Encodable: TypeAlias = "tuple[str, dict[str, str], list[_Encodable] | bytes | str | None]"


@dataclass(slots=True)
class Node:
    """One element of WhatsApp's binary XML.

    Attributes have no order on the wire that means anything; the order of `attrs` is the one written.
    An attribute or a text that is exactly a JID of a known server (`15550001111:3@s.whatsapp.net`,
    `@g.us`) is written as a JID; any other text with an `@` in it stays text. Device 0 is not
    written: `1:0@lid` comes back as `1@lid`.
    """

    tag: str
    attrs: dict[str, str] = field(default_factory=dict)
    content: Content = None


def decode_node(data: bytes) -> Node:
    """Decode one node, flag byte in front.

    Bytes and text share a form on the wire: a text that is no token, no digits and no JID comes
    back as bytes.

    Errors: ValueError with what is wrong and the offset; the peer's fault.
    """
    return _from_core(_core.decode_node(data))


def encode_node(node: Node) -> bytes:
    """Encode one node, flag byte in front.

    Errors: ValueError for what the wire cannot hold (an empty tag, more than 32,766 attributes,
    65,535 children or 128 levels); TypeError for values of other types. The caller's fault.
    """
    return _core.encode_node(node.tag, node.attrs, _encodable(node.content))


def _from_core(node: _core.WireNode) -> Node:
    content = node.content
    if isinstance(content, list):
        return Node(node.tag, node.attrs, [_from_core(child) for child in content])
    return Node(node.tag, node.attrs, content)


def _encodable(content: Content) -> list[_Encodable] | bytes | str | None:
    if isinstance(content, list):
        return [(child.tag, child.attrs, _encodable(child.content)) for child in content]
    return content
