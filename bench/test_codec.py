"""The node codec from Python: what a tool pays for one stanza.

The Rust figures are in rust/proto/benches/node.rs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner import _core
from runner.wire import Node, decode_node, encode_node

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

VECTORS = Path(__file__).parents[1] / "tests" / "vectors" / "vectors.jsonl"
ACK = encode_node(
    Node(
        "ack",
        {
            "class": "message",
            "id": "3EB085CB7396293D",
            "from": "15550001111@s.whatsapp.net",
            "t": "1700000000",
        },
    )
)


def stanzas() -> list[bytes]:
    """The stanzas of the vectors: 224, 250 bytes on average."""
    vectors = [json.loads(line) for line in VECTORS.read_text().splitlines()]
    return [bytes.fromhex(vector["hex"]) for vector in vectors if vector["cat"] == "stanza"]


def test_wire_decode_ack_small(benchmark: BenchmarkFixture) -> None:
    benchmark.name = "wire/decode/ack_small"
    assert benchmark(decode_node, ACK).tag == "ack"


def test_wire_encode_ack_small(benchmark: BenchmarkFixture) -> None:
    benchmark.name = "wire/encode/ack_small"
    assert benchmark(encode_node, decode_node(ACK)) == ACK


def test_core_decode_ack_small(benchmark: BenchmarkFixture) -> None:
    benchmark.name = "core/decode/ack_small"
    assert benchmark(_core.decode_node, ACK).tag == "ack"


@pytest.mark.benchmark(group="stanzas_224")
def test_wire_decode_stanzas(benchmark: BenchmarkFixture) -> None:
    benchmark.name = "wire/decode/stanzas_224"
    inputs = stanzas()
    benchmark(lambda: [decode_node(data) for data in inputs])
    assert len(inputs) == 224


@pytest.mark.benchmark(group="stanzas_224")
def test_wire_encode_stanzas(benchmark: BenchmarkFixture) -> None:
    benchmark.name = "wire/encode/stanzas_224"
    nodes = [decode_node(data) for data in stanzas()]
    encoded = benchmark(lambda: [encode_node(node) for node in nodes])
    assert len(encoded) == 224
