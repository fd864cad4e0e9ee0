//! The stanzas that benchmarks compare.

use runner_proto::jid::Jid;
use runner_proto::node::{Node, encode};

/// The commonest stanza.
pub(crate) fn ack_small() -> Vec<u8> {
    let from: Jid = "15550001111@s.whatsapp.net".parse().expect("a jid");
    let node = Node::new("ack")
        .attr("class", "message")
        .attr("id", "3EB085CB7396293D6A11")
        .attr_jid("from", from)
        .attr("t", "1700000000");
    plain(&node)
}

/// The largest stanza that a client sends: 812 pre-keys.
pub(crate) fn pre_key_upload() -> Vec<u8> {
    let key = |id: u32| {
        Node::new("key")
            .child(Node::new("id").bytes(&id.to_be_bytes()[1..]))
            .child(Node::new("value").bytes([id as u8; 32]))
    };
    let node = Node::new("iq")
        .attr("id", "25530.33595-7")
        .attr("xmlns", "encrypt")
        .attr("type", "set")
        .attr_jid("to", Jid::server(runner_proto::jid::Server::Pn))
        .child(Node::new("registration").bytes([0, 0, 0x3A, 0x55]))
        .child(Node::new("type").bytes([5]))
        .child(Node::new("identity").bytes([9; 32]))
        .child(Node::new("list").children((1..=812).map(key)))
        .child(key(1).child(Node::new("signature").bytes([3; 64])));
    plain(&node)
}

/// The stanzas of the vectors: 224, of 250 bytes on average.
pub(crate) fn stanzas() -> Vec<Vec<u8>> {
    super::all().into_iter().filter(|vector| vector.category == "stanza").map(|vector| vector.bytes).collect()
}

fn plain(node: &Node) -> Vec<u8> {
    let mut out = Vec::new();
    encode(node, &mut out);
    out
}
