//! Node decoder, writer, tree.

use crate::node::{self, AttrValue, Content, Limits, Node, NodeContent, NodeRef, Scratch, Writer};

/// Any bytes: decoding them ends in a node or an error; a node survives being read, copied and encoded.
pub fn node(data: &[u8]) {
    let limits = Limits { max_nodes: 4096, max_inflated_bytes: 1 << 18, ..Limits::default() };
    let mut scratch = Scratch::new();
    let _head = node::decode_head(data, &limits).map(|head| head.attrs().count());
    let Ok(stanza) = node::decode(data, &mut scratch, &limits) else { return };

    let mut copy = Vec::new();
    let mut writer = Writer::new(&mut copy);
    copy_node(stanza, &mut writer);
    assert!(writer.is_complete());
    let owned = stanza.to_node();
    assert_eq!(owned.check(), Ok(()), "what was decoded can be encoded");
    let mut encoded = Vec::new();
    node::encode(&owned, &mut encoded);

    for bytes in [&copy, &encoded] {
        let mut unused = Scratch::new();
        let again = node::decode(bytes, &mut unused, &limits).map(|again| again.to_node());
        assert!(again.is_ok_and(|again| shape(again) == shape(owned.clone())), "the same node again");
    }
}

fn copy_node(stanza: NodeRef<'_>, writer: &mut Writer<'_>) {
    assert_eq!(stanza.attr_count(), stanza.attrs().count());
    let content = stanza.content();
    writer.node(&stanza.tag().to_cow(), stanza.attr_count(), !matches!(content, Content::None));
    for (key, value) in stanza.attrs() {
        // What compares without unpacking and what is shown must be one thing, where both say something.
        let shown = value.to_string();
        assert!(shown.contains('\u{FFFD}') || value == *shown, "{shown}");
        writer.attr_value(&key.to_cow(), value);
    }
    match content {
        Content::None => {}
        Content::Bytes(bytes) => writer.bytes(bytes),
        Content::Text(text) => writer.value(text),
        Content::Nodes(children) => {
            assert_eq!(children.len(), children.count());
            writer.children(children.len());
            children.for_each(|child| copy_node(child, writer));
        }
    }
}

/// The node with all that encoders may choose taken away: text or bytes, JID or its text.
fn shape(mut node: Node) -> Node {
    for (_, value) in &mut node.attrs {
        *value = AttrValue::Str(value.to_string());
    }
    node.content = match node.content {
        NodeContent::Text(text) => NodeContent::Bytes(text.into_bytes()),
        NodeContent::Jid(jid) => NodeContent::Bytes(jid.to_string().into_bytes()),
        NodeContent::Nodes(children) => NodeContent::Nodes(children.into_iter().map(shape).collect()),
        other => other,
    };
    node
}
