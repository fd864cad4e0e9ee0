"""`runner.wire` over the golden vectors, and nodes that come back as they went out."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.wire import Content, Node, decode_node, encode_node

VECTORS = Path(__file__).parents[1] / "vectors" / "vectors.jsonl"


@cache
def vectors() -> list[dict[str, Any]]:
    return [json.loads(line) for line in VECTORS.read_text().splitlines()]


def node_of(vector: dict[str, Any]) -> Node:
    content: Content = vector.get("content")
    if "content_b64" in vector:
        content = base64.b64decode(vector["content_b64"])
    elif isinstance(content, list):
        content = [node_of(child) for child in vector["content"]]
    return Node(vector["tag"], vector["attrs"], content)


def as_bytes(node: Node) -> Node:
    """The node with every content that bytes can hold as bytes: the wire has one form for both."""
    content = node.content
    if isinstance(content, list):
        content = [as_bytes(child) for child in content]
    elif isinstance(content, str):
        content = content.encode()
    return Node(node.tag, node.attrs, content)


def test_decode_node_reads_every_vector() -> None:
    compared = 0
    for vector in vectors():
        if "error" in vector or "quirk" in vector:
            continue
        expected = node_of(vector.get("decoded") or vector["node"])
        assert decode_node(bytes.fromhex(vector["hex"])) == expected, vector["id"]
        compared += 1
    assert compared == 568


def test_decode_node_refuses_what_is_no_node() -> None:
    refused = [vector for vector in vectors() if "error" in vector]
    assert len(refused) == 20
    for vector in refused:
        with pytest.raises(ValueError, match="at byte"):
            decode_node(bytes.fromhex(vector["hex"]))


def test_encode_node_writes_the_bytes_that_baileys_writes() -> None:
    same_bytes = same_node = 0
    for vector in vectors():
        if "decode_only" in vector or "quirk" in vector:
            continue
        theirs = bytes.fromhex(vector["hex"])
        ours = encode_node(node_of(vector["node"]))
        if ours == theirs:
            same_bytes += 1
        else:  # an address at an unknown server is a JID for Baileys and text for us
            assert as_bytes(decode_node(ours)) == as_bytes(decode_node(theirs)), vector["id"]
            same_node += 1
    assert (same_bytes, same_node) == (537, 7)


def test_encode_node_keeps_what_baileys_loses() -> None:
    for vector in vectors():
        if "quirk" in vector and "decode_only" not in vector:
            node = node_of(vector["node"])
            assert as_bytes(decode_node(encode_node(node))) == as_bytes(node), vector["id"]


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("15550001111@s.whatsapp.net", "faff8615550001111f03"),
        ("15550001111:3@s.whatsapp.net", "f70003ff8615550001111f"),
        ("900000000001:3@lid", "f70103ff06900000000001"),
        ("status@broadcast", "fa0b0d"),
        ("@s.whatsapp.net", "fa0003"),
        ("12345678901234:3@msgr", "f6ff07123456789012340003cc"),
        ("me@home", "fc076d6540686f6d65"),
    ],
)
def test_encode_node_writes_jids_only_for_known_servers(text: str, encoded: str) -> None:
    assert encode_node(Node("to", {"jid": text})).hex() == "00f803110c" + encoded


def test_decode_node_keeps_the_first_of_two_equal_keys() -> None:
    assert decode_node(bytes.fromhex("00f80519082d0855")) == Node("iq", {"id": "0"})


def test_decode_node_replaces_malformed_utf8() -> None:
    assert decode_node(bytes.fromhex("00f8031908fc02ff61")) == Node("iq", {"id": "\ufffda"})


def test_encode_node_refuses_what_the_wire_cannot_hold() -> None:
    deep = Node("leaf")
    for _ in range(128):
        deep = Node("list", {}, [deep])
    too_big = [
        Node(""),
        Node("iq", {str(number): "v" for number in range(32_767)}),
        Node("list", {}, [Node("item")] * 65_536),
        deep,
    ]
    for node in too_big:
        with pytest.raises(ValueError, match=r"too many|without a tag|deep"):
            encode_node(node)
    assert isinstance(deep.content, list)
    assert decode_node(encode_node(deep.content[0])) == deep.content[0]


def test_encode_node_refuses_other_types() -> None:
    with pytest.raises(TypeError):
        encode_node(Node("iq", {"id": 1}))  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        encode_node(Node("iq", {}, 1.5))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="surrogate"):
        encode_node(Node("iq", {"id": "\ud800"}))


texts = st.one_of(
    st.sampled_from(
        ["iq", "type", "s.whatsapp.net", "pair-device", "15550001111:3@lid", "a@b", "@", "a@b@c"]
    ),
    st.from_regex(r"[0-9.-]{1,130}", fullmatch=True),
    st.from_regex(r"[0-9A-F]{1,130}", fullmatch=True),
    st.from_regex(
        r"[0-9]{1,4}(:[1-9][0-9]{0,5})?@(s\.whatsapp\.net|lid|g\.us|msgr|interop|hosted)", fullmatch=True
    ),
    st.text(max_size=40),
)
attrs = st.dictionaries(texts, texts, max_size=5)
tags = texts.filter(bool)
leaves = st.builds(Node, tags, attrs, st.one_of(st.none(), st.binary(max_size=300), texts))
nodes = st.recursive(
    leaves, lambda child: st.builds(Node, tags, attrs, st.lists(child, max_size=4)), max_leaves=12
)


@given(nodes)
def test_encode_node_loses_nothing(node: Node) -> None:
    assert as_bytes(decode_node(encode_node(node))) == as_bytes(node)


@given(st.binary(max_size=100))
def test_decode_node_survives_any_bytes(data: bytes) -> None:
    try:
        node = decode_node(b"\x00" + data)
    except ValueError:
        return
    assert as_bytes(decode_node(encode_node(node))) == as_bytes(node)
