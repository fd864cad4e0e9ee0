//! Nodes and JIDs that come back as they went out, and bytes that mean harm.

mod nodes;
mod vectors;

use nodes::{any_jid, any_node};
use proptest::prelude::*;
use runner_proto::fuzz;
use runner_proto::jid::Jid;
use runner_proto::node::{Limits, Node, NodeContent, Scratch, Writer, decode, encode};
use runner_proto::token;

/// What the wire makes of a node: text that has no shorter form is bytes.
fn as_received(mut node: Node) -> Node {
    node.content = match node.content {
        NodeContent::Text(text) if !has_short_form(&text) => NodeContent::Bytes(text.into_bytes()),
        NodeContent::Nodes(children) => NodeContent::Nodes(children.into_iter().map(as_received).collect()),
        other => other,
    };
    node
}

fn has_short_form(text: &str) -> bool {
    let all = |alphabet: &str| text.chars().all(|character| alphabet.contains(character));
    let packs = (1..=127).contains(&text.len()) && (all("0123456789-.") || all("0123456789ABCDEF"));
    packs || token::find(text.as_bytes()).is_some()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_node_comes_back_as_it_was(node in any_node(), before in prop::collection::vec(any::<u8>(), 0..4)) {
        let mut out = before.clone();
        encode(&node, &mut out);
        prop_assert!(out.starts_with(&before), "encode appends");
        let mut scratch = Scratch::new();
        let decoded = decode(&out[before.len()..], &mut scratch, &Limits::default()).unwrap();
        prop_assert_eq!(decoded.encoded(), &out[before.len() + 1..]);
        prop_assert_eq!(decoded.to_node(), as_received(node));
        fuzz::node(&out[before.len()..]);
    }

    #[test]
    fn a_jid_comes_back_from_its_text(jid in any_jid()) {
        let text = jid.to_string();
        prop_assert_eq!(text.parse::<Jid>(), Ok(jid.clone()));
        prop_assert_eq!(Jid::recognise(&text).is_some(), jid.server.name().is_ok());
    }

    #[test]
    fn a_jid_comes_back_from_the_wire(jid in any_jid()) {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.node("to", 1, false);
        writer.attr_jid("jid", &jid);
        prop_assert!(writer.is_complete());
        let mut scratch = Scratch::new();
        let decoded = decode(&out, &mut scratch, &Limits::default()).unwrap();
        let value = decoded.attr("jid").unwrap();
        prop_assert_eq!(value.to_jid(), Some(jid.clone()));
        prop_assert!(value == *jid.to_string());
        prop_assert_eq!(value.to_string(), jid.to_string());
        prop_assert!(value.as_jid().is_some_and(|read| read == jid && read.is_same_user(&jid.to_non_ad())));
    }

    #[test]
    fn a_number_is_read_as_it_was_written(number in any::<u64>()) {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.node("iq", 1, false);
        writer.attr_u64("t", number);
        let mut scratch = Scratch::new();
        let decoded = decode(&out, &mut scratch, &Limits::default()).unwrap();
        prop_assert_eq!(decoded.attr("t").unwrap().parse_u64(), Some(number));
        prop_assert!(decoded.attr("t").unwrap() == *number.to_string());
    }

    #[test]
    fn any_bytes_decode_or_are_refused(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz::node(&data);
    }

    #[test]
    fn any_lists_and_tokens_decode_or_are_refused(
        data in prop::collection::vec(prop_oneof![3 => 240u8..=255, 2 => 0u8..4, 2 => any::<u8>()], 0..60)
    ) {
        let mut plain = vec![0, 0xF8, 4];
        plain.extend(data);
        fuzz::node(&plain);
    }
}

#[test]
fn every_byte_of_every_vector_can_be_flipped() {
    let mut flipped = 0u32;
    for vector in vectors::all() {
        // The long ones have nothing that the short ones lack.
        if vector.bytes.len() > 400 {
            continue;
        }
        let mut bytes = vector.bytes;
        for at in 0..bytes.len() {
            for mask in [0xFF, 0x01, 0x80] {
                bytes[at] ^= mask;
                fuzz::node(&bytes);
                bytes[at] ^= mask;
                flipped += 1;
            }
        }
    }
    assert!(flipped > 100_000, "{flipped}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test reads files, the library does not")]
fn the_corpus_of_the_fuzz_target_passes() {
    let folder = format!("{}/../fuzz/corpus/node", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        fuzz::node(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 100, "{count}");
}
