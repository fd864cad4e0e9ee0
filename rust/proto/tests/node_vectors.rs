//! The node codec against bytes that real Baileys wrote.

mod vectors;

use runner_proto::node::{DecodeErrorKind, Limits, Node, NodeContent, NodeRef, Scratch, decode, encode};
use serde_json::Value;
use vectors::{Vector, content_as_bytes, decode_json, to_node};

fn encoded(node: &Node) -> Vec<u8> {
    assert_eq!(node.check(), Ok(()));
    let mut out = Vec::new();
    encode(node, &mut out);
    out
}

#[test]
fn every_vector_decodes_to_the_same_node() {
    let mut compared = 0;
    for vector in vectors::all().iter().filter(|vector| !vector.is_error && !vector.is_quirk) {
        let expected = vector.decoded.as_ref().or(vector.node.as_ref()).unwrap();
        assert_eq!(decode_json(&vector.bytes).as_ref(), Ok(expected), "{}", vector.id);
        compared += 1;
    }
    assert_eq!(compared, 568);
}

#[test]
fn every_vector_that_baileys_refuses_is_refused() {
    let errors: Vec<Vector> = vectors::all().into_iter().filter(|vector| vector.is_error).collect();
    assert_eq!(errors.len(), 20);
    for vector in errors {
        assert!(decode_json(&vector.bytes).is_err(), "{}", vector.id);
    }
}

#[test]
fn every_node_encodes_to_the_same_bytes() {
    let (mut same_bytes, mut same_node) = (0, Vec::new());
    for vector in vectors::all().iter().filter(|vector| !vector.is_decode_only && !vector.is_quirk) {
        let ours = encoded(&to_node(vector.node.as_ref().unwrap()));
        if ours == vector.bytes {
            same_bytes += 1;
            continue;
        }
        // Baileys takes anything with an @ for a JID; to us an unknown server makes it a text.
        let text = vector.node.as_ref().unwrap().to_string();
        assert!(text.contains("@") && text.contains(".example") || vector.id == "jid.26", "{}", vector.id);
        let (ours, theirs) = (decode_json(&ours).unwrap(), decode_json(&vector.bytes).unwrap());
        assert_eq!(content_as_bytes(ours), content_as_bytes(theirs), "{}", vector.id);
        same_node.push(vector.id.clone());
    }
    assert_eq!((same_bytes, same_node.len()), (537, 7), "{same_node:?}");
}

#[test]
fn what_baileys_loses_is_kept_or_refused() {
    for vector in vectors::all().iter().filter(|vector| vector.is_quirk) {
        // The bytes hold what Baileys lost before it wrote them, or are no node: they are read without invention.
        if let Ok(read) = decode_json(&vector.bytes) {
            let expected = [vector.node.as_ref(), vector.decoded.as_ref()];
            let expected: Vec<_> = expected.into_iter().flatten().cloned().map(content_as_bytes).collect();
            assert!(expected.contains(&content_as_bytes(read.clone())), "{}: {read}", vector.id);
        }
        // Encoding the node ourselves keeps all of it.
        if !vector.is_decode_only {
            let node = vector.node.clone().unwrap();
            let ours = decode_json(&encoded(&to_node(&node))).unwrap();
            assert_eq!(content_as_bytes(ours), content_as_bytes(node), "{}", vector.id);
        }
    }
}

#[test]
fn decoded_nodes_encode_to_bytes_that_decode_the_same() {
    let mut scratch = Scratch::new();
    for vector in vectors::all() {
        let Ok(node) = decode(&vector.bytes, &mut scratch, &Limits::default()) else { continue };
        let owned = node.to_node();
        let again = encoded(&owned);
        let mut unused = Scratch::new();
        let again = decode(&again, &mut unused, &Limits::default()).unwrap();
        assert_eq!(
            content_as_bytes(vectors::to_json(again)),
            content_as_bytes(vectors::to_json(node)),
            "{}",
            vector.id
        );
    }
}

#[test]
fn copying_value_by_value_gives_the_same_bytes() {
    // Tags, keys and texts of the encoder's choosing, so only what an encoder wrote; values as they were.
    for vector in vectors::all().iter().filter(|vector| !vector.is_decode_only && !vector.is_quirk) {
        let mut scratch = Scratch::new();
        let node = decode(&vector.bytes, &mut scratch, &Limits::default()).unwrap();
        let mut out = Vec::new();
        let mut writer = runner_proto::node::Writer::new(&mut out);
        copy(node, &mut writer);
        assert!(writer.is_complete());
        if vector.bytes[0] == 0 {
            assert_eq!(out, vector.bytes, "{}", vector.id);
        } else {
            assert_eq!(out[1..], *node.encoded(), "{}", vector.id);
        }
    }
}

fn copy(node: NodeRef<'_>, writer: &mut runner_proto::node::Writer<'_>) {
    use runner_proto::node::Content;
    let content = node.content();
    writer.node(&node.tag().to_cow(), node.attr_count(), !matches!(content, Content::None));
    for (key, value) in node.attrs() {
        writer.attr_value(&key.to_cow(), value);
    }
    match content {
        Content::None => {}
        Content::Bytes(bytes) => writer.bytes(bytes),
        Content::Text(text) => writer.value(text),
        Content::Nodes(children) => {
            writer.children(children.len());
            children.for_each(|child| copy(child, writer));
        }
    }
}

#[test]
fn content_lengths_around_each_prefix_round_trip() {
    let prefixes: [(usize, &[u8]); 7] = [
        (0, &[0xFC, 0]),
        (255, &[0xFC, 0xFF]),
        (256, &[0xFD, 0, 1, 0]),
        ((1 << 20) - 1, &[0xFD, 0x0F, 0xFF, 0xFF]),
        (1 << 20, &[0xFE, 0, 0x10, 0, 0]),
        ((1 << 20) + 1, &[0xFE, 0, 0x10, 0, 1]),
        ((1 << 20) + 4096, &[0xFE, 0, 0x10, 0x10, 0]),
    ];
    for (len, prefix) in prefixes {
        let content: Vec<u8> = (0..len).map(|at| (at * 31 + at / 251) as u8).collect();
        let plain = encoded(&Node::new("enc").bytes(content.clone()));
        assert_eq!(plain[..4], [0, 0xF8, 2, 0x1D]);
        assert_eq!(&plain[4..4 + prefix.len()], prefix, "{len}");
        let mut scratch = Scratch::new();
        let node = decode(&plain, &mut scratch, &Limits::default()).unwrap();
        assert_eq!(node.bytes(), Some(&content[..]), "{len}");
        assert_eq!(node.to_node().content, NodeContent::Bytes(content));
    }
}

#[test]
fn only_twenty_bits_of_a_three_byte_length_count() {
    let plain = [0, 0xF8, 2, 0x1D, 0xFD, 0xF0, 0, 2, b'h', b'i'];
    let mut scratch = Scratch::new();
    assert_eq!(decode(&plain, &mut scratch, &Limits::default()).unwrap().bytes(), Some(&b"hi"[..]));
}

#[test]
fn every_truncation_of_every_vector_is_refused() {
    let mut cuts = 0;
    for vector in vectors::all().iter().filter(|vector| !vector.is_error) {
        let mut scratch = Scratch::new();
        if decode(&vector.bytes, &mut scratch, &Limits::default()).is_err() {
            continue;
        }
        // The one optional tail: the server of an interop JID.
        for len in (0..vector.bytes.len()).step_by(if vector.bytes.len() > 4096 { 7 } else { 1 }) {
            let error = decode(&vector.bytes[..len], &mut scratch, &Limits::default()).expect_err(&vector.id);
            assert!(error.at <= len || vector.bytes[0] != 0, "{}: {error}", vector.id);
            cuts += 1;
        }
    }
    assert!(cuts > 100_000, "{cuts}");
}

#[test]
fn bytes_behind_the_node_are_refused() {
    for vector in vectors::all().iter().filter(|vector| !vector.is_error && vector.bytes[0] == 0) {
        let mut longer = vector.bytes.clone();
        longer.push(0);
        let mut scratch = Scratch::new();
        if let Err(error) = decode(&longer, &mut scratch, &Limits::default()) {
            assert!(error.kind == DecodeErrorKind::Trailing || vector.is_quirk, "{}: {error}", vector.id);
        } else {
            panic!("{}", vector.id);
        }
    }
}

#[test]
fn tokens_have_the_published_digest() {
    use sha2::{Digest as _, Sha256};
    let tokens: Value = serde_json::from_str(&vectors::read("tokens.json")).unwrap();
    let join = |list: &Value| {
        list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect::<Vec<_>>().join("\n")
    };
    let double = tokens["double"].as_array().unwrap().iter().map(join).collect::<Vec<_>>().join("\n\n");
    let text = format!("{}\n\n{double}", join(&tokens["single"]));
    let digest: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "1c35d77c0d8e5b960ef922aee68ef47bbe59af70ad9c7f96b194e0d37d5f3060");
}
