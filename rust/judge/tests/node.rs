//! The node codec against `wacore-binary` (MIT): both read the same bytes as the same tree, and it reads ours.

#[path = "../../proto/tests/nodes/mod.rs"]
mod nodes;
#[path = "../../proto/tests/vectors/mod.rs"]
mod vectors;

use std::collections::BTreeMap;

use proptest::prelude::*;
use runner_proto::jid::{Jid, Server};
use runner_proto::node::{AttrValue, Content, Limits, Node, NodeContent, NodeRef, Scratch, decode, encode};
use wacore_binary::marshal::{marshal_ref, unmarshal_ref};
use wacore_binary::node::ValueRef;
use wacore_binary::{NodeContentRef, NodeRef as ForeignRef};

/// A tree without what is a matter of taste: text is bytes, a JID its text, a server's address has no `@` in front,
/// an empty list is no content.
#[derive(Debug, PartialEq)]
struct Tree {
    tag: String,
    attrs: Vec<(String, String)>,
    content: Option<Body>,
}

#[derive(Debug, PartialEq)]
enum Body {
    Bytes(Vec<u8>),
    Trees(Vec<Tree>),
}

fn plain_text(text: &str) -> String {
    text.strip_prefix('@').filter(|server| !server.contains('@')).unwrap_or(text).to_owned()
}

fn ours(node: NodeRef<'_>) -> Tree {
    Tree {
        tag: node.tag().to_string(),
        attrs: node.attrs().map(|(key, value)| (key.to_string(), plain_text(&value.to_string()))).collect(),
        content: match node.content() {
            Content::None => None,
            Content::Bytes(bytes) => Some(Body::Bytes(bytes.to_vec())),
            Content::Text(text) => Some(Body::Bytes(plain_text(&text.to_string()).into_bytes())),
            Content::Nodes(children) if children.len() == 0 => None,
            Content::Nodes(children) => Some(Body::Trees(children.map(ours).collect())),
        },
    }
}

fn theirs(node: &ForeignRef<'_>) -> Tree {
    Tree {
        tag: node.tag.to_string(),
        attrs: node.attrs_iter().map(|(key, value)| (key.to_string(), foreign_text(value))).collect(),
        content: match node.content.as_ref() {
            None => None,
            Some(NodeContentRef::Bytes(bytes)) => Some(Body::Bytes(bytes.to_vec())),
            Some(NodeContentRef::String(text)) => Some(Body::Bytes(plain_text(text).into_bytes())),
            Some(NodeContentRef::Nodes(children)) if children.is_empty() => None,
            Some(NodeContentRef::Nodes(children)) => Some(Body::Trees(children.iter().map(theirs).collect())),
        },
    }
}

/// Its text of an interop JID leaves the integrator out; it is in the value.
fn foreign_text(value: &ValueRef<'_>) -> String {
    match value.as_jid() {
        Some(jid) if jid.integrator != 0 => format!("{}-{jid}", jid.integrator),
        _ => plain_text(&value.as_str()),
    }
}

/// Both read it alike, or neither does; the foreign one takes the node without flag byte.
fn compare(plain: &[u8]) -> Result<bool, String> {
    let mut scratch = Scratch::new();
    let ours = decode(plain, &mut scratch, &Limits::default()).map(ours);
    let theirs = unmarshal_ref(&plain[1..]).map(|node| theirs(&node));
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) if ours == theirs => Ok(true),
        (Err(_), Err(_)) => Ok(false),
        (ours, theirs) => Err(format!("ours {ours:?}\ntheirs {theirs:?}")),
    }
}

#[test]
fn both_read_the_vectors_alike() {
    let (mut same, mut refused) = (0, 0);
    let mut differences = BTreeMap::new();
    for vector in vectors::all().iter().filter(|vector| vector.bytes[0] == 0) {
        match compare(&vector.bytes) {
            Ok(true) => same += 1,
            Ok(false) => refused += 1,
            // Its list of servers is closed, ours is not.
            Err(difference) if difference.contains("unknown server") => {}
            Err(difference) => drop(differences.insert(vector.id.clone(), difference)),
        }
    }
    // It demands the name behind an interop JID; we take the JID without, as Baileys does.
    assert_eq!(differences.into_keys().collect::<Vec<_>>(), ["decode.interop.noserver"]);
    assert_eq!((same, refused), (558, 23));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_reads_what_we_write(node in nodes::any_node()) {
        let node = with_known_servers(node);
        let mut plain = Vec::new();
        encode(&node, &mut plain);
        prop_assert_eq!(compare(&plain), Ok(true));
    }

    #[test]
    fn we_read_what_it_writes(node in nodes::any_node()) {
        let mut plain = Vec::new();
        encode(&with_known_servers(node), &mut plain);
        let foreign = unmarshal_ref(&plain[1..]).unwrap();
        let written = marshal_ref(&foreign).unwrap();
        let mut scratch = Scratch::new();
        let read = decode(&written, &mut scratch, &Limits::default()).map(ours);
        prop_assert_eq!(read, Ok(theirs(&foreign)));
    }
}

/// The part of our nodes that it can hold: its list of servers is closed, and nobody has no devices.
fn with_known_servers(mut node: Node) -> Node {
    let known = |jid: &mut Jid| {
        if let Server::Other(_) = jid.server {
            jid.server = Server::Newsletter;
        }
        // Its writer drops a Messenger device; the vector `decode.fb.1` has one for its reader.
        if jid.user.is_empty() || jid.server == Server::Messenger {
            jid.device = 0;
        }
    };
    // It guesses JIDs in tags, keys and any text with an `@`, and writes some that nobody reads, itself included.
    node.tag = node.tag.replace('@', "a");
    for (key, value) in &mut node.attrs {
        *key = key.replace('@', "");
        match value {
            AttrValue::Jid(jid) => known(jid),
            AttrValue::Str(text) => *text = text.replace('@', ""),
        }
    }
    node.content = match node.content {
        NodeContent::Jid(mut jid) => {
            known(&mut jid);
            // A content is a text to it, without integrator.
            if jid.server == Server::Interop {
                jid.device = 0;
            }
            NodeContent::Jid(jid)
        }
        NodeContent::Nodes(children) => {
            NodeContent::Nodes(children.into_iter().map(with_known_servers).collect())
        }
        NodeContent::Text(text) => NodeContent::Text(text.replace('@', "")),
        other => other,
    };
    node
}
