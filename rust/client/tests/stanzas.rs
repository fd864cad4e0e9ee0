//! Exactly one terminal answer for every stanza that expects one; messages only once they are durable.

mod support;

use std::time::Duration;

use runner_client::{Command, CommitFailed, Committed, Content, Effect, Write};
use runner_proto::{
    answer::{Expects, TABLE},
    node::{self, Node},
    phase::Phase,
    ws::{self, Opcode},
};
use support::{
    World, device, jid, message,
    peer::{attr, ib, server},
};

/// The terminal answers that the peer got for the stanza with this id.
fn answers<'a>(world: &'a World, id: &str) -> Vec<&'a Node> {
    let is_answer = |stanza: &&Node| match stanza.tag.as_str() {
        "ack" | "receipt" => attr(stanza, "id") == id,
        "iq" => attr(stanza, "id") == id && matches!(attr(stanza, "type").as_str(), "result" | "error"),
        _ => false,
    };
    world.peer.received.iter().filter(is_answer).collect()
}

fn stanza(tag: &str) -> Node {
    Node::new(tag).attr("id", "X1").attr_jid("from", jid("15550002222:4@s.whatsapp.net"))
}

/// Pain 2.
#[test]
fn every_tag_of_the_table_and_unknown_ones_get_what_they_expect() {
    let unknown = ("sticker-storm", Expects::Nack);
    for &(tag, expects) in TABLE.iter().chain(&[unknown]) {
        if matches!(tag, "failure" | "stream:error" | "xmlstreamend") {
            continue; // These end the stream: closing.rs.
        }
        let mut world = World::online();
        world.push(&stanza(tag).attr("type", "get"));
        let answers = answers(&world, "X1");
        let got: Vec<_> = answers.iter().map(|answer| (answer.tag.as_str(), attr(answer, "error"))).collect();
        match expects {
            Expects::Nothing => assert_eq!(got, [], "{tag}"),
            Expects::Ack | Expects::AckWhenDurable => assert_eq!(got, [("ack", String::new())], "{tag}"),
            Expects::Nack => assert_eq!(got, [("ack", "488".to_owned())], "{tag}"),
            Expects::IqAnswer => assert_eq!(got, [("iq", String::new())], "{tag}"),
        }
        assert_eq!(world.client.counters().answers_sent as usize, got.len(), "{tag}");
        assert_eq!(world.client.phase(), Phase::Online);
    }
}

#[test]
fn an_ack_repeats_what_the_server_needs_to_match_it() {
    for tag in ["receipt", "notification", "call"] {
        let mut world = World::online();
        let group = jid("120363000000000001@g.us");
        world.push(
            &Node::new(tag)
                .attr("id", "N1")
                .attr_jid("from", group.clone())
                .attr_jid("participant", jid("900000000009:7@lid"))
                .attr_jid("recipient", jid("15550003333@s.whatsapp.net"))
                .attr("type", "w:gp2")
                .attr("t", "1767225600")
                .child(Node::new("create")),
        );
        let expected = Node::new("ack")
            .attr("id", "N1")
            .attr("class", tag)
            .attr_jid("to", group)
            .attr_jid("participant", jid("900000000009:7@lid"))
            .attr_jid("recipient", jid("15550003333@s.whatsapp.net"))
            .attr("type", "w:gp2");
        assert_eq!(answers(&world, "N1"), [&expected]);
    }
}

#[test]
fn a_message_is_committed_whole_and_answered_only_then() {
    let mut world = World::online();
    world.commits = None;
    world.effects.clear();
    let message = message("3EB0AA").attr_jid("recipient", jid("15550009999@s.whatsapp.net"));
    world.push(&message);
    assert!(answers(&world, "3EB0AA").is_empty(), "not before it is durable");
    let counters = world.client.counters();
    assert_eq!((counters.unanswered, counters.oldest_unanswered), (1, Some(world.now)));

    let Some(Effect::Commit { token, writes }) = world.effects.first() else { panic!("{:?}", world.effects) };
    let token = *token;
    let [Write::Inbox { chat, sender, message_id, stanza, content, received_unix_ms }] = &writes[..] else {
        panic!()
    };
    assert_eq!(chat, "15550009999@s.whatsapp.net", "an own device wrote there");
    assert_eq!(sender, "120363000000000001@newsletter");
    assert_eq!(*content, Content::Plain(b"\x0a\x02hi".to_vec()));
    assert_eq!((message_id.as_str(), *received_unix_ms), ("3EB0AA", world.unix_ms()));
    let kept =
        node::decode(stanza, &mut node::Scratch::new(), &node::Limits::default()).expect("decodes").to_node();
    let without_content = Node::new("plaintext");
    assert_eq!(kept, Node { content: node::NodeContent::Nodes(vec![without_content]), ..message });

    world.call(|client, cx| client.on_committed(token, Ok(Committed::default()), cx));
    world.call(|client, cx| client.on_committed(token, Ok(Committed::default()), cx));
    world.exchange();
    let expected = Node::new("ack")
        .attr("id", "3EB0AA")
        .attr("class", "message")
        .attr_jid("to", jid("120363000000000001@newsletter"))
        .attr_jid("recipient", jid("15550009999@s.whatsapp.net"))
        .attr("type", "text")
        .attr_jid("from", jid("15550001111:3@s.whatsapp.net"));
    assert_eq!(answers(&world, "3EB0AA"), [&expected]);
    let counters = world.client.counters();
    assert_eq!((counters.unanswered, counters.oldest_unanswered, counters.messages_received), (0, None, 1));
}

#[test]
fn a_groups_message_names_its_sender_and_a_direct_chat_no_device() {
    let mut world = World::online();
    let group = Node::new("message")
        .attr("id", "G")
        .attr_jid("from", jid("120363000000000001@g.us"))
        .attr_jid("participant", jid("900000000009:7@lid"));
    world.push(&group);
    let direct = Node::new("message").attr("id", "D").attr_jid("from", jid("15550002222:5@s.whatsapp.net"));
    world.push(&direct);
    let rows: Vec<_> = world
        .writes()
        .filter_map(|write| match write {
            Write::Inbox { chat, sender, .. } => Some((chat.as_str(), sender.as_str())),
            _ => None,
        })
        .collect();
    let expected = [
        ("120363000000000001@g.us", "900000000009:7@lid"),
        ("15550002222@s.whatsapp.net", "15550002222:5@s.whatsapp.net"),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn a_waiting_message_holds_back_neither_pings_nor_other_answers() {
    let mut world = World::online();
    world.commits = None;
    world.push(&message("A"));
    world.push(&stanza("receipt"));
    let pings = world.peer.pings;
    world.advance(Duration::from_secs(25));
    assert_eq!(answers(&world, "X1").len(), 1);
    assert!(world.peer.pings > pings);
    assert!(answers(&world, "A").is_empty());
}

/// Pain 3.
#[test]
fn a_message_whose_commit_failed_is_not_answered_on_this_connection() {
    let mut world = World::online();
    world.commits = Some(Err(CommitFailed::Store));
    world.push(&message("A"));
    world.push(&message("B"));
    world.commits = Some(Ok(()));
    world.push(&message("C"));
    assert_eq!(answers(&world, "A").len() + answers(&world, "B").len(), 0);
    assert_eq!(answers(&world, "C").len(), 1);
    assert_eq!(world.client.counters().unanswered, 2);
}

/// RFC 1950 without compressing anything.
fn stored_zlib(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    for (index, block) in bytes.chunks(0xffff).enumerate() {
        out.push(u8::from((index + 1) * 0xffff >= bytes.len()));
        let len = u16::try_from(block.len()).expect("a chunk");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    out.extend_from_slice(&((b << 16) | a).to_be_bytes());
    out
}

/// A compressed or cut stanza of megabytes must not cost the thread its size for ever.
#[test]
fn what_a_large_stanza_took_to_decode_is_given_back() {
    let large = message("A").child(Node::new("enc").bytes(vec![7; 3_000_000]));
    let mut plain = Vec::new();
    node::encode(&large, &mut plain);
    let packed = [&[2], &stored_zlib(&plain[1..])[..]].concat();
    for (plain, chunk) in [(packed, 0), (plain, 16 * 1024)] {
        let mut world = World::online();
        world.chunk = chunk;
        world.peer.send_plain(plain);
        world.exchange();
        assert_eq!(answers(&world, "A").len(), 1);
        assert!(world.scratch.reserved_bytes() <= 512 * 1024, "{}", world.scratch.reserved_bytes());
        world.push(&message("B"));
        assert_eq!(answers(&world, "B").len(), 1, "and the next one finds room");
    }
}

#[test]
fn answers_go_out_in_the_order_of_the_messages() {
    let mut world = World::online();
    for id in ["A", "B", "C", "D"] {
        world.peer.send(&message(id));
    }
    world.exchange();
    let order: Vec<_> = world.peer.received_with("ack").into_iter().map(|ack| attr(ack, "id")).collect();
    assert_eq!(order, ["A", "B", "C", "D"]);
}

#[test]
fn a_message_that_cannot_be_answered_is_counted_and_not_kept() {
    let mut world = World::online();
    world.effects.clear();
    world.push(&Node::new("message").attr("id", "A"));
    world.push(&Node::new("message").attr_jid("from", server()));
    world.push(&Node::new("receipt").attr("id", "A"));
    assert!(world.effects.is_empty(), "{:?}", world.effects);
    assert!(world.peer.received.is_empty());
    assert_eq!(world.client.counters().stanzas_malformed, 3);
}

#[test]
fn the_servers_ping_is_answered_and_other_requests_are_declined() {
    let mut world = World::online();
    let ping = Node::new("iq").attr("id", "P").attr_jid("from", server()).attr("type", "get");
    world.push(&ping.attr("xmlns", "urn:xmpp:ping").child(Node::new("ping")));
    let result = Node::new("iq").attr_jid("to", server()).attr("type", "result").attr("id", "P");
    assert_eq!(answers(&world, "P"), [&result]);

    let set =
        Node::new("iq").attr("id", "Q").attr_jid("from", server()).attr("type", "set").attr("xmlns", "md");
    world.push(&set.child(Node::new("pair-device")));
    let error = Node::new("error").attr("code", "501").attr("text", "feature-not-implemented");
    let declined =
        Node::new("iq").attr_jid("to", server()).attr("type", "error").attr("id", "Q").child(error);
    assert_eq!(answers(&world, "Q"), [&declined]);
}

/// Pain 2.
#[test]
fn a_malformed_stanza_is_refused_when_it_can_be_addressed_and_the_connection_stays() {
    let refused =
        [("message", "487"), ("receipt", "487"), ("notification", "487"), ("status", "487"), ("iq", "400")];
    for (tag, error) in refused {
        let mut world = World::online();
        let mut plain = Vec::new();
        node::encode(&stanza(tag).attr("type", "get").bytes([1; 100]), &mut plain);
        plain.truncate(plain.len() - 10);
        world.peer.send_plain(plain);
        world.exchange();
        let got = answers(&world, "X1");
        assert_eq!(got.len(), 1, "{tag}");
        let code =
            got[0].find_child("error").map_or_else(|| attr(got[0], "error"), |error| attr(error, "code"));
        assert_eq!(code, error, "{tag}");
        assert_eq!(world.client.counters().stanzas_malformed, 1);
        world.push(&stanza("receipt"));
        assert_eq!(world.client.phase(), Phase::Online, "the next frame still opens");
    }
}

/// A message whose content is cut off: head and sender can be read.
fn undecodable(body: usize) -> Vec<u8> {
    let mut plain = Vec::new();
    node::encode(&stanza("message").bytes(vec![1; body]), &mut plain);
    plain.truncate(plain.len() - 1);
    plain
}

/// Pain 2.
#[test]
fn a_message_that_does_not_decode_is_kept_as_it_came_before_it_is_refused() {
    let mut world = World::online();
    world.commits = None;
    let plain = undecodable(100);
    world.peer.send_plain(plain.clone());
    world.exchange();
    assert!(answers(&world, "X1").is_empty(), "not before it is durable");
    assert_eq!(world.client.counters().unanswered, 1);
    let kept = world.writes().find_map(|write| match write {
        Write::DeadLetter { message_id, frame, .. } => Some((message_id.clone(), frame.clone())),
        _ => None,
    });
    assert_eq!(kept, Some(("X1".to_owned(), plain)));
    world.commits = Some(Ok(()));
    world.exchange();
    let got = answers(&world, "X1");
    assert_eq!((got.len(), attr(got[0], "error")), (1, "487".to_owned()));
    let counters = world.client.counters();
    assert_eq!((counters.messages_undecodable, counters.messages_received, counters.unanswered), (1, 0, 0));
}

#[test]
fn a_message_that_does_not_decode_stays_unanswered_when_it_cannot_be_kept() {
    let mut world = World::online();
    world.commits = Some(Err(CommitFailed::Store));
    world.peer.send_plain(undecodable(100));
    world.exchange();
    assert!(answers(&world, "X1").is_empty());
    assert_eq!(world.client.counters().unanswered, 1);
}

#[test]
fn a_message_that_is_too_long_to_keep_is_refused_at_once() {
    const MAX: usize = 1024 * 1024;
    let head = undecodable(MAX / 2).len() - MAX / 2;
    for (len, is_kept) in [(MAX, true), (MAX + 1, false)] {
        let mut world = World::online();
        let plain = undecodable(len - head);
        assert_eq!(plain.len(), len);
        world.peer.send_plain(plain);
        world.exchange();
        assert_eq!(answers(&world, "X1").len(), 1);
        assert_eq!(world.writes().any(|write| matches!(write, Write::DeadLetter { .. })), is_kept, "{len}");
        assert_eq!(world.client.counters().messages_undecodable, 1);
    }
}

#[test]
fn what_cannot_be_read_at_all_is_counted_and_the_connection_stays() {
    let mut world = World::online();
    // Nothing, a bare flag byte, no zlib stream, an unknown tag byte.
    for plain in [vec![], vec![0], vec![2, 1, 2, 3], vec![0, 0xf8, 1, 0xf1]] {
        world.peer.send_plain(plain);
    }
    world.exchange();
    assert_eq!(world.client.counters().stanzas_malformed, 4);
    assert!(world.peer.received.is_empty());
    world.push(&stanza("receipt"));
    assert_eq!(answers(&world, "X1").len(), 1);
}

#[test]
fn websocket_pings_are_ponged_and_text_is_ignored() {
    let mut world = World::online();
    ws::write_control(&mut world.peer.out, Opcode::Ping, b"hello", None);
    ws::write_message(&mut world.peer.out, Opcode::Text, b"what", None);
    ws::write_message(&mut world.peer.out, Opcode::Binary, b"", None);
    world.exchange();
    assert_eq!((world.peer.pongs, world.client.phase()), (1, Phase::Online));
}

#[test]
fn routing_info_is_kept_and_opens_the_next_connection() {
    let mut world = World::online();
    world.effects.clear();
    let info = vec![8, 2, 8, 5];
    let routing = Node::new("edge_routing").child(Node::new("routing_info").bytes(info.clone()));
    world.push(&ib(routing));
    assert_eq!(world.writes().collect::<Vec<_>>(), [&Write::RoutingInfo(info.clone())]);

    let mut next = device();
    next.routing_info = Some(info.clone());
    let mut world = World::new(next);
    world.open();
    assert_eq!(world.peer.routing_info, Some(info));
    assert_eq!(world.client.phase(), Phase::Online);
}

#[test]
fn routing_info_that_would_shut_the_device_out_is_not_kept() {
    let mut world = World::online();
    world.effects.clear();
    let routing = Node::new("edge_routing").child(Node::new("routing_info").bytes(vec![7; 2 * 1024 * 1024]));
    world.push(&ib(routing));
    assert_eq!(world.writes().count(), 0);
    assert_eq!(world.client.phase(), Phase::Online);
}

#[test]
fn a_known_lid_is_not_written_again() {
    let mut known = device();
    known.lid = Some("900000000001:3@lid".to_owned());
    let mut world = World::new(known);
    world.open();
    assert!(!world.writes().any(|write| matches!(write, Write::Lid(_))));
}

#[test]
fn dirty_and_unknown_news_are_tolerated() {
    let mut world = World::online();
    world.push(&ib(Node::new("dirty").attr("type", "account_sync").attr("timestamp", "1")));
    world.push(&ib(Node::new("recovery_nonce")));
    world.push(&Node::new("presence").attr("type", "unavailable"));
    assert!(world.peer.received.is_empty());
    assert_eq!(world.client.phase(), Phase::Online);
}

#[test]
fn the_backlog_is_asked_for_in_batches_until_it_ends() {
    let mut world = World::new(device());
    world.peer.script.ends_backlog = false;
    world.open();
    let batches = |world: &World| {
        let batch = |stanza: &&Node| stanza.find_child("offline_batch").is_some();
        world.peer.received.iter().filter(batch).count()
    };
    world.push(&ib(Node::new("offline_preview").attr("count", "150").attr("message", "150")));
    assert_eq!(batches(&world), 1);
    assert!(!world.peer.received.iter().any(|stanza| attr(stanza, "xmlns") == "abt"), "settings can wait");
    for id in 0..150 {
        world.push(&message(&format!("M{id}")).attr("offline", "1"));
    }
    world.advance(Duration::from_millis(100));
    assert_eq!(batches(&world), 2);
    world.push(&ib(Node::new("offline").attr("count", "150")));
    world.advance(Duration::from_secs(5));
    assert_eq!(batches(&world), 2);
    assert_eq!(world.peer.received_with("ack").len(), 150);
    assert!(world.peer.received.iter().any(|stanza| attr(stanza, "xmlns") == "abt"));
}

#[test]
fn a_send_goes_out_as_it_is_and_not_before_the_login() {
    let mut plain = Vec::new();
    let sent = Node::new("message").attr("id", "S").attr_jid("to", jid("15550002222@s.whatsapp.net"));
    node::encode(&sent, &mut plain);
    let mut world = World::new(device());
    world.peer.script.login = None;
    world.open();
    world.command(Command::Send { node: plain.clone() });
    assert!(world.peer.received.is_empty());

    let mut world = World::online();
    world.command(Command::Send { node: plain });
    assert_eq!(world.peer.received_with("message"), [&sent]);
    assert_eq!(world.client.counters().responses.count(), 6, "five requests and the send");
}
