//! The fuzz target's body on its corpus, and on sequences that mean something more often than random bytes do.

mod support;

use std::path::Path;

use proptest::prelude::*;
use runner_client::fuzz::{message_ops, session_ops};
use runner_proto::node::{self, Node};
use support::{jid, message, peer};

#[test]
#[expect(clippy::disallowed_methods, reason = "the test reads files, what it tests does not")]
fn the_corpora_of_the_fuzz_targets_are_survived() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for name in ["session_ops", "message_ops"] {
        let mut inputs = 0;
        for entry in std::fs::read_dir(corpora.join(name)).expect("the corpus is there") {
            let input = std::fs::read(entry.expect("an entry").path()).expect("readable");
            if name == "session_ops" {
                session_ops(&input)
            } else {
                message_ops(&input)
            }
            inputs += 1;
        }
        assert!(inputs >= 20, "{inputs} inputs of {name}");
    }
}

/// Stanzas that a server sends, with ids that meet ours now and then.
fn stanzas() -> Vec<Node> {
    let ping = Node::new("iq").attr("id", "P").attr_jid("from", peer::server()).attr("type", "get");
    // What `Ids` makes of the fuzz target's entropy.
    let result = |n: u32| Node::new("iq").attr("type", "result").attr("id", format!("29094.45020-{n}"));
    let mut stanzas = vec![
        peer::success(),
        message("A"),
        message("B").attr("offline", "1"),
        peer::ib(Node::new("offline_preview").attr("count", "7")),
        peer::ib(Node::new("offline").attr("count", "7")),
        peer::ib(Node::new("edge_routing").child(Node::new("routing_info").bytes([1, 2]))),
        ping.attr("xmlns", "urn:xmpp:ping").child(Node::new("ping")),
        Node::new("receipt").attr("id", "R").attr_jid("from", jid("1@s.whatsapp.net")).attr("type", "read"),
        Node::new("ack").attr("class", "message").attr("id", "S"),
        Node::new("stream:error").attr("code", "503"),
        Node::new("failure").attr("reason", "401"),
        Node::new("whatever").attr("id", "W").attr_jid("from", jid("1@lid")),
    ];
    stanzas.extend((1..=12).map(result));
    stanzas
}

fn operation() -> impl Strategy<Value = Vec<u8>> {
    let stanza = prop::sample::select(stanzas()).prop_map(|stanza| {
        let mut plain = Vec::new();
        node::encode(&stanza, &mut plain);
        [&[0, u8::try_from(plain.len()).expect("short")], &plain[..]].concat()
    });
    let sent = Node::new("message").attr("id", "S").attr_jid("to", jid("1@s.whatsapp.net"));
    let mut send = vec![12, 0];
    node::encode(&sent, &mut send);
    send[1] = u8::try_from(send.len() - 2).expect("short");
    prop_oneof![
        8 => stanza,
        1 => Just(send),
        6 => (6..=11u8, any::<u8>()).prop_map(|(kind, argument)| vec![kind, argument]),
        1 => prop::collection::vec(any::<u8>(), 2..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_keeps_the_promises(ops in prop::collection::vec(operation(), 0..60)) {
        let login = {
            let mut plain = Vec::new();
            node::encode(&peer::success(), &mut plain);
            [&[0, u8::try_from(plain.len()).expect("short")], &plain[..]].concat()
        };
        session_ops(&ops.concat());
        session_ops(&[login, ops.concat()].concat());
    }

    #[test]
    fn any_messages_keep_the_promises(data in prop::collection::vec(any::<u8>(), 0..200)) {
        message_ops(&data);
    }

    #[test]
    fn any_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..2000)) {
        session_ops(&data);
    }
}
