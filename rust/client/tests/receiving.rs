//! End-to-end messages: opened in order, kept once, answered when durable, asked for again within bounds.

mod support;

use std::{collections::VecDeque, time::Duration};

use runner_client::{
    CommitFailed, Committed, Content, Effect, Event, RecordBytes, RecordKey, RecordKind, Write,
};
use runner_proto::node::{self, Node, NodeContent};
use runner_signal::{PreKey, session};
use support::{
    World,
    contact::{Contact, field, text_message},
    device, device_keys, jid,
};

const PN: &str = "15550002222:3@s.whatsapp.net";
const LID: &str = "700000000002:3@lid";

fn contact() -> Contact {
    let mut contact = Contact::new(PN, 21);
    contact.begin(&device_keys(), None);
    contact
}

fn pre_key(id: u32) -> PreKey {
    PreKey::generate(id, &mut |bytes| bytes.fill(id as u8))
}

fn put(world: &mut World, kind: RecordKind, id: &str, value: Vec<u8>) {
    world.store.records.insert(RecordKey { kind, id: id.into() }, (value.into(), false));
}

fn record(world: &World, kind: RecordKind, id: &str) -> Option<RecordBytes> {
    world.store.records.get(&RecordKey { kind, id: id.into() }).map(|(value, _)| value.clone())
}

/// Ids and texts in the order in which they were stored.
fn delivered(world: &World) -> Vec<(String, String)> {
    let text = |name| {
        let content: &Vec<u8> =
            world.store.inbox.get(name).and_then(|row| row.as_ref().ok()).expect("stored");
        String::from_utf8(content[2..].to_vec()).expect("text")
    };
    world.store.delivered.iter().map(|name| (name.2.clone(), text(name))).collect()
}

/// What the server was told under an id, as (tag, type, error).
fn answers(world: &World, id: &str) -> Vec<(String, String, String)> {
    let attr = |node: &Node, key: &str| node.find_attr(key).map(ToString::to_string).unwrap_or_default();
    let of = world.peer.received.iter().filter(|node| attr(node, "id") == id);
    of.map(|node| (node.tag.clone(), attr(node, "type"), attr(node, "error"))).collect()
}

fn told(tag: &str, kind: &str) -> (String, String, String) {
    (tag.to_owned(), kind.to_owned(), String::new())
}

fn retries(world: &World) -> Vec<&Node> {
    let is_retry = |node: &&Node| support::peer::attr(node, "type") == "retry";
    world.peer.received.iter().filter(|node| node.tag == "receipt").filter(is_retry).collect()
}

fn child<'a>(node: &'a Node, tag: &str) -> Option<&'a Node> {
    match &node.content {
        NodeContent::Nodes(children) => children.iter().find(|child| child.tag == tag),
        _ => None,
    }
}

#[test]
fn first_contact_is_read_kept_and_then_receipted() {
    let mut world = World::online();
    let one_time = pre_key(7);
    put(&mut world, RecordKind::PreKey, "7", one_time.to_record().into_bytes());
    let mut contact = Contact::new(PN, 21);
    contact.begin(&device_keys(), Some(&one_time));
    world.commits = None;
    world.push(&contact.message("A", "hello"));
    assert!(answers(&world, "A").is_empty(), "not before it is durable");
    let written: Vec<_> = world.writes().cloned().collect();
    assert!(
        written.contains(&Write::RemoveRecord(RecordKey { kind: RecordKind::PreKey, id: "7".into() })),
        "in one transaction: {written:?}"
    );
    let Some(Write::Inbox { chat, sender, stanza, content, .. }) = written.last() else { panic!() };
    assert_eq!((chat.as_str(), sender.as_str()), ("15550002222@s.whatsapp.net", PN));
    assert_eq!(*content, Content::Plain(text_message("hello")));
    let mut scratch = node::Scratch::new();
    let kept = node::decode(stanza, &mut scratch, &node::Limits::default()).expect("a node").to_node();
    assert_eq!(
        child(&kept, "enc").map(|enc| &enc.content),
        Some(&NodeContent::None),
        "without its ciphertext"
    );
    world.commits = Some(Ok(()));
    world.exchange();
    assert_eq!(answers(&world, "A"), [told("receipt", "")], "one terminal answer, no ack beside it");
    assert_eq!(delivered(&world), [("A".into(), "hello".into())]);
    assert!(record(&world, RecordKind::PreKey, "7").is_none());
    let counters = world.client.counters();
    assert_eq!((counters.messages_received, counters.messages_undecrypted, counters.unanswered), (1, 0, 0));
}

#[test]
fn a_burst_loads_a_session_once_and_keeps_the_order() {
    let mut world = World::online();
    let mut contact = contact();
    world.commits = None;
    world.forget_effects();
    for n in 0..100 {
        world.push(&contact.message(&format!("M{n}"), &format!("text {n}")));
    }
    let loads = world.effects.iter().filter(|effect| matches!(effect, Effect::Load { .. })).count();
    assert!(loads <= 2, "{loads}");
    world.commits = Some(Ok(()));
    world.exchange();
    let expected: Vec<_> = (0..100).map(|n| (format!("M{n}"), format!("text {n}"))).collect();
    assert_eq!(delivered(&world), expected);
}

#[test]
fn messages_that_overtake_each_other_are_read() {
    let mut world = World::online();
    let mut contact = contact();
    let mut sent: Vec<_> = (0..20).map(|n| contact.message(&format!("M{n}"), "x")).collect();
    sent.reverse();
    sent.iter().for_each(|message| world.push(message));
    assert_eq!(delivered(&world).len(), 20);
}

/// Pain 3: the server did not hear the answer.
#[test]
fn a_message_given_again_is_receipted_and_kept_once() {
    let mut world = World::online();
    let mut contact = contact();
    let message = contact.message("A", "once");
    world.push(&message);
    world.push(&message);
    assert_eq!(delivered(&world).len(), 1);
    assert_eq!(answers(&world, "A"), [told("receipt", ""), told("receipt", "")]);
    // The same id, encrypted anew: its sender did not hear of it.
    world.push(&contact.message("A", "once"));
    assert_eq!(delivered(&world).len(), 1);
    assert_eq!(answers(&world, "A").len(), 3);
    assert!(retries(&world).is_empty());
}

/// So many of a chain are skipped that the oldest keys go: what comes late then is no twin of anything.
#[test]
fn a_message_whose_key_is_gone_is_asked_for_and_not_taken_for_one_that_was_read() {
    let mut world = World::online();
    let mut contact = contact();
    let late = contact.message("late", "it was not lost");
    for n in 0..2 {
        // Each jump skips as many as may be skipped, and there is room for no more than one jump.
        (0..1_500).for_each(|_| drop(contact.message("lost", "x")));
        world.push(&contact.message(&format!("J{n}"), "x"));
    }
    assert_eq!(delivered(&world).len(), 2);
    world.push(&late);
    let asked = retries(&world);
    assert_eq!(asked.len(), 1, "{:?}", answers(&world, "late"));
    let retry = child(asked[0], "retry").expect("retry");
    assert_eq!(retry.find_attr("error").map(ToString::to_string), Some("9".into()), "invalid message key");
    assert_eq!(
        answers(&world, "late").last().map(|last| last.0.as_str()),
        Some("ack"),
        "the server has its answer"
    );
    // The sender encrypts it again.
    world.push(&contact.message("late", "it was not lost"));
    assert_eq!(delivered(&world).last(), Some(&("late".into(), "it was not lost".into())));
    // One that was read is known by its name, however late its twin comes.
    world.push(&late);
    assert_eq!(answers(&world, "late").last(), Some(&told("receipt", "")));
    assert_eq!((delivered(&world).len(), retries(&world).len()), (3, 1));
}

/// A twin is answered when what it is the twin of is durable, and not before.
#[test]
fn a_duplicate_waits_for_the_message_whose_twin_it_is() {
    let mut world = World::online();
    let mut contact = contact();
    let message = contact.message("A", "once");
    world.commits = None;
    world.push(&message);
    world.push(&message);
    assert!(answers(&world, "A").is_empty());
    world.commits = Some(Err(CommitFailed::Store));
    world.exchange();
    assert!(answers(&world, "A").is_empty(), "neither is known to be kept");
}

/// Pain 4.
#[test]
fn what_cannot_be_read_is_kept_answered_and_asked_for_with_keys_from_the_second_time() {
    let mut world = World::online();
    let unreadable = |id: &str| {
        let mut other = Contact::new(PN, 99);
        other.begin(&device_keys(), Some(&pre_key(1000)));
        other.message(id, "for a key that is gone")
    };
    for attempt in 1..=7_u64 {
        world.push(&unreadable("A"));
        let asked = retries(&world);
        assert_eq!(asked.len() as u64, attempt.min(5), "five a message");
        let last = asked.last().expect("one");
        let retry = child(last, "retry").expect("retry");
        assert_eq!(retry.find_attr("count").map(ToString::to_string), Some(attempt.min(5).to_string()));
        assert_eq!(retry.find_attr("error").map(ToString::to_string), Some("3".into()), "invalid key id");
        assert_eq!(child(last, "keys").is_some(), attempt >= 2);
        assert!(child(last, "registration").is_some());
    }
    let acks: Vec<_> = answers(&world, "A").into_iter().filter(|(tag, ..)| tag == "ack").collect();
    assert_eq!(acks.len(), 7, "each time one terminal answer");
    let counters = world.client.counters();
    assert_eq!((counters.messages_received, counters.messages_undecrypted), (0, 7));
    assert_eq!(world.store.inbox.values().collect::<Vec<_>>(), [&Err(7)]);
    // The sender begins anew with the keys that it was given, under the same id.
    let keys = child(retries(&world)[1], "keys").expect("keys");
    let id = child(child(keys, "key").expect("key"), "id").expect("id");
    let NodeContent::Bytes(id) = &id.content else { panic!("{id:?}") };
    let id = u32::from_be_bytes([0, id[0], id[1], id[2]]);
    let offered = record(&world, RecordKind::PreKey, &id.to_string()).expect("durable before it left");
    let offered = PreKey::from_record(offered.expose()).expect("a pre-key");
    let mut again = Contact::new(PN, 99);
    again.begin(&device_keys(), Some(&offered));
    world.push(&again.message("A", "at last"));
    assert_eq!(delivered(&world), [("A".into(), "at last".into())]);
    assert_eq!(answers(&world, "A").last(), Some(&told("receipt", "")));
}

#[test]
fn the_key_of_a_retry_receipt_is_durable_before_it_leaves() {
    let mut world = World::online();
    let message = support::ciphertext("A");
    world.push(&message);
    world.commits = None;
    world.push(&message);
    assert_eq!(retries(&world).len(), 1, "the first attempt's");
    // The second failure is durable, the key is not yet.
    let Some(Effect::Commit { token, .. }) = world.effects.last() else { panic!() };
    let token = *token;
    world.call(|client, cx| client.on_committed(token, Ok(Committed { attempts: 2 }), cx));
    assert_eq!(retries(&world).len(), 1);
    let Some(Effect::Commit { token: next, writes }) = world.effects.last() else { panic!() };
    assert!(*next > token && matches!(&writes[..], [Write::PutRecord { .. }]));
    let next = *next;
    world.call(|client, cx| client.on_committed(next, Ok(Committed::default()), cx));
    world.exchange();
    assert_eq!(retries(&world).len(), 2);
    assert!(child(retries(&world)[1], "keys").is_some());
}

/// Pain 4: a storm of failures is answered, and fed no further.
#[test]
fn twenty_failures_a_second_for_an_hour_end_no_stream_and_ask_seldom() {
    let mut world = World::online();
    for second in 0..3600 {
        for n in 0..20 {
            world.peer.send(&support::ciphertext(&format!("F{second}-{n}")));
        }
        world.exchange();
        world.advance(Duration::from_secs(1));
        world.forget_effects();
        world.peer.received.retain(|node| node.tag == "receipt");
    }
    assert_eq!(world.client.counters().messages_undecrypted, 72_000);
    assert_eq!(world.client.counters().unanswered, 0);
    let asked = retries(&world).len();
    assert!((3_600..=3_700).contains(&asked), "{asked}");
}

/// Nobody asks for a message that its server was told of as kept, but we: so it is asked for later, not never.
#[test]
fn what_fails_in_a_burst_is_all_asked_for_in_the_end_each_once() {
    let mut world = World::online();
    for n in 0..500 {
        world.peer.send(&support::ciphertext(&format!("F{n}")));
    }
    world.exchange();
    assert_eq!(retries(&world).len(), 60);
    world.advance(Duration::from_secs(5));
    assert_eq!(retries(&world).len(), 65);
    world.push(&support::ciphertext("late"));
    world.advance(Duration::from_secs(450));
    let asked: Vec<_> = retries(&world).into_iter().map(|node| support::peer::attr(node, "id")).collect();
    let expected: Vec<_> = (0..500).map(|n| format!("F{n}")).chain(["late".into()]).collect();
    assert_eq!(asked, expected, "in their order");
    assert_eq!(world.client.counters().messages_undecrypted, 501, "counted once");
}

/// What was opened behind a commit that failed was opened with records that do not exist.
#[test]
fn a_failed_commit_takes_the_records_with_it() {
    let mut world = World::online();
    let mut contact = contact();
    world.push(&contact.message("A", "a"));
    let (b, c) = (contact.message("B", "b"), contact.message("C", "c"));
    world.commits = Some(Err(CommitFailed::Store));
    world.push(&b);
    world.push(&c);
    assert!(answers(&world, "B").is_empty() && answers(&world, "C").is_empty());
    assert_eq!(world.client.counters().unanswered, 2);
    world.commits = Some(Ok(()));
    world.push(&contact.message("D", "d"));
    assert_eq!(answers(&world, "D"), [told("receipt", "")]);
    // The next connection gets them again.
    let mut next = World::online();
    next.store = std::mem::take(&mut world.store);
    next.push(&b);
    next.push(&c);
    let ids: Vec<_> = delivered(&next).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["A", "D", "B", "C"], "nothing was used up by what failed");
}

#[test]
fn a_session_moves_from_the_phone_number_to_the_lid() {
    let mut world = World::online();
    let mut contact = contact();
    world.push(&contact.message("A", "by number"));
    assert!(record(&world, RecordKind::Session, "15550002222.3").is_some());
    // The same device, from its other address.
    contact.jid = jid(LID);
    let moved = contact.message("B", "by lid").attr_jid("sender_pn", jid("15550002222@s.whatsapp.net"));
    world.push(&moved);
    assert!(record(&world, RecordKind::Session, "15550002222.3").is_none());
    assert!(record(&world, RecordKind::Session, "700000000002_1.3").is_some());
    // And back, when the stanza says nothing of the other: the mapping does.
    contact.jid = jid(PN);
    world.push(&contact.message("C", "by number again"));
    assert_eq!(delivered(&world).len(), 3);
    assert!(record(&world, RecordKind::Session, "15550002222.3").is_none());
    assert!(world.events().all(|event| !matches!(event, Event::IdentityChanged { .. })));
}

#[test]
fn another_identity_is_read_and_reported() {
    let mut world = World::online();
    world.push(&contact().message("A", "the old phone"));
    let mut anew = Contact::new(PN, 22);
    anew.begin(&device_keys(), None);
    world.push(&anew.message("B", "the new phone"));
    assert_eq!(delivered(&world).len(), 2);
    let changed: Vec<_> =
        world.events().filter(|event| matches!(event, Event::IdentityChanged { .. })).collect();
    assert_eq!(changed, [&Event::IdentityChanged { jid: PN.into() }]);
}

#[test]
fn a_groups_messages_are_read_with_the_key_that_came_first() {
    const GROUP: &str = "120363000000000009@g.us";
    let mut world = World::online();
    let mut contact = contact();
    let stanza = |id: &str| {
        Node::new("message")
            .attr("id", id)
            .attr_jid("from", jid(GROUP))
            .attr_jid("participant", jid(PN))
            .attr("type", "text")
            .attr("t", "1767225600")
    };
    let key = contact.distribution(GROUP);
    let first = stanza("G1").child(contact.enc(&key)).child(contact.group_enc(&text_message("to all")));
    world.push(&first);
    assert_eq!(delivered(&world), [("G1".into(), "to all".into())]);
    world.push(&stanza("G2").child(contact.group_enc(&text_message("more"))));
    assert_eq!(delivered(&world).len(), 2);
    assert_eq!(answers(&world, "G2"), [told("receipt", "")]);
    // A key alone is ours to keep, and nobody's to read.
    let key = contact.distribution(GROUP);
    world.push(&stanza("G3").child(contact.enc(&key)));
    assert_eq!((delivered(&world).len(), answers(&world, "G3")), (2, vec![told("receipt", "")]));
    // Without the key, the sender is asked.
    let mut other = Contact::new("15550003333@s.whatsapp.net", 31);
    other.distribution(GROUP);
    let unknown = Node::new("message")
        .attr("id", "G4")
        .attr_jid("from", jid(GROUP))
        .attr_jid("participant", jid("15550003333@s.whatsapp.net"))
        .child(other.group_enc(&text_message("who am I")));
    world.push(&unknown);
    assert_eq!(delivered(&world).len(), 2);
    assert_eq!(retries(&world).len(), 1);
}

#[test]
fn a_groups_key_lies_under_the_address_that_the_group_uses_and_is_found_under_either() {
    const GROUP: &str = "120363000000000009@g.us";
    const LID: &str = "778899:3@lid";
    let mut world = World::online();
    let mut contact = contact();
    let stanza = |id: &str, by: &str, other: (&'static str, &str)| {
        let message = Node::new("message").attr("id", id).attr_jid("from", jid(GROUP));
        message.attr_jid("participant", jid(by)).attr_jid(other.0, jid(other.1))
    };
    let by_pn = |id| stanza(id, PN, ("participant_lid", LID));
    let key = contact.distribution(GROUP);
    let words = contact.group_enc(&text_message("by the number"));
    world.push(&by_pn("G1").child(contact.enc(&key)).child(words));
    let kept = |world: &World| {
        let keys = world.store.records.keys().filter(|key| key.kind == RecordKind::SenderKey);
        keys.map(|key| key.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(kept(&world), [format!("{GROUP}--15550002222--3")], "not where the session lies");
    assert!(record(&world, RecordKind::Session, "778899_1.3").is_some());
    // The group goes over to the other addresses.
    let words = contact.group_enc(&text_message("by the LID"));
    world.push(&stanza("G2", LID, ("participant_pn", PN)).child(words));
    assert_eq!(delivered(&world).len(), 2);
}

#[test]
fn an_own_other_devices_message_is_receipted_as_the_senders() {
    let mut world = World::online();
    let mut own = Contact::new("15550001111@s.whatsapp.net", 41);
    own.begin(&device_keys(), None);
    let message = own.enc(&text_message("from my phone"));
    let stanza = own.stanza("O").attr_jid("recipient", jid("15550009999@s.whatsapp.net")).child(message);
    world.push(&stanza);
    assert_eq!(answers(&world, "O"), [told("receipt", "sender")]);
    assert_eq!(world.store.delivered[0].0, "15550009999@s.whatsapp.net", "the chat");
    let receipt = world.peer.received.iter().find(|node| node.tag == "receipt").expect("a receipt");
    assert_eq!(
        receipt.find_attr("recipient").map(ToString::to_string),
        Some("15550009999@s.whatsapp.net".into())
    );
}

/// `Message.protocolMessage`: of a type, with the field that the type has.
fn protocol(kind: u8, content: &[u8]) -> Vec<u8> {
    field(12, &[vec![2 << 3, kind], content.to_vec()].concat())
}

#[test]
fn what_the_phone_tells_its_devices_is_kept_for_later_and_not_for_the_consumer() {
    let mut world = World::online();
    let mut phone = Contact::new("15550001111@s.whatsapp.net", 41);
    phone.begin(&device_keys(), None);
    let mut tell = |id: &str, message: &[u8]| {
        let enc = phone.enc(message);
        world.push(&phone.stanza(id).attr("category", "peer").child(enc));
        assert_eq!(answers(&world, id), [told("receipt", "peer_msg")]);
    };
    let data = field(1, &[7; 32]);
    let key = |id: &[u8]| field(1, &[field(1, &field(1, id)), field(2, &data)].concat());
    tell("K", &protocol(6, &field(7, &[key(&[0, 0, 0, 0, 1, 2]), key(&[0, 0, 0, 0, 1, 3])].concat())));
    tell("H", &protocol(5, &field(6, b"where it lies")));
    tell("M", &protocol(6, &field(7, &[0xff; 9])));
    tell("L", &protocol(6, &field(7, &key(&[9; 33]))));
    tell("O", &protocol(17, b""));
    assert!(world.store.delivered.is_empty(), "nothing of it is a message to anybody");
    for id in ["AAAAAAEC", "AAAAAAED"] {
        let kept = record(&world, RecordKind::AppStateKey, id).expect("kept");
        assert_eq!(kept.expose(), data);
    }
    let notice = record(&world, RecordKind::HistoryNotice, "H").expect("kept");
    assert_eq!(notice.expose(), b"where it lies");
    let kept = world
        .store
        .records
        .keys()
        .filter(|key| matches!(key.kind, RecordKind::AppStateKey | RecordKind::HistoryNotice));
    assert_eq!(kept.count(), 3, "none of what is malformed, or too long");
}

#[test]
fn a_stranger_shares_no_keys() {
    let mut world = World::online();
    let mut stranger = contact();
    let key = field(1, &[field(1, &field(1, b"forged")), field(2, &field(1, &[7; 32]))].concat());
    let enc = stranger.enc(&protocol(6, &field(7, &key)));
    world.push(&stranger.stanza("F").attr("category", "peer").child(enc));
    assert_eq!(answers(&world, "F"), [told("receipt", "")]);
    assert!(!world.store.records.keys().any(|key| key.kind == RecordKind::AppStateKey));
    assert_eq!(world.store.delivered.len(), 1, "a message like any other");
}

#[test]
fn a_device_that_is_not_shown_online_says_so() {
    let mut world = World::new(runner_client::DeviceState { push_name: None, ..device() });
    world.open();
    world.peer.received.clear();
    world.push(&contact().message("A", "psst"));
    assert_eq!(answers(&world, "A"), [told("receipt", "inactive")]);
}

#[test]
fn what_was_never_encrypted_is_taken_from_newsletters_only() {
    let mut world = World::online();
    let forged = Node::new("message")
        .attr("id", "F")
        .attr_jid("from", jid(PN))
        .child(Node::new("plaintext").bytes(text_message("send me money")));
    world.push(&forged);
    assert!(delivered(&world).is_empty());
    assert_eq!(world.client.counters().messages_undecrypted, 1);
}

/// The backlog of issue 1.
#[test]
fn what_an_earlier_version_kept_is_read_in_order_before_what_comes() {
    let mut contact = contact();
    let old: Vec<_> = (0..250).map(|n| contact.message(&format!("OLD{n}"), &format!("{n}"))).collect();
    let mut world = World::new(runner_client::DeviceState { has_ciphertexts: true, ..device() });
    world.ciphertexts = old
        .iter()
        .enumerate()
        .map(|(n, message)| {
            let mut bytes = Vec::new();
            node::encode(message, &mut bytes);
            (n as u64 + 1, bytes, 1_700_000_000_000)
        })
        .collect::<VecDeque<_>>();
    world.open();
    assert_eq!(delivered(&world).len(), 250, "without anything coming");
    world.push(&contact.message("LIVE", "250"));
    let ids: Vec<_> = delivered(&world).into_iter().map(|(id, _)| id).collect();
    let expected: Vec<_> = (0..250).map(|n| format!("OLD{n}")).chain(["LIVE".to_owned()]).collect();
    assert_eq!(ids, expected);
    // The server has its answer; the sender gets its receipt now.
    assert_eq!(answers(&world, "OLD7"), [told("receipt", "")]);
    let counters = world.client.counters();
    assert!(counters.answers_sent < 100, "{}", counters.answers_sent);
}

#[test]
fn keys_are_made_a_few_at_a_time() {
    let mut world = World::new(device());
    world.peer.script.pre_key_count = Some(0);
    world.is_manual = true;
    world.open();
    let mut slices = 0;
    while let Some(answer) = world.store.answer() {
        world.call(|client, cx| answer.tell(client, cx));
        while world.client.has_work() {
            world.call(|client, cx| client.handle_work(cx));
            slices += 1;
        }
        world.exchange();
    }
    assert_eq!(slices, 812_usize.div_ceil(12));
    assert!(world.peer.received.iter().any(|node| child(node, "list").is_some()), "and uploaded");
}

#[test]
fn pre_keys_are_uploaded_when_few_are_left_and_durable_before() {
    let mut world = World::new(device());
    world.peer.script.pre_key_count = Some(3);
    world.commits = None;
    world.open();
    let uploads = |world: &World| {
        let is_upload = |node: &&Node| node.tag == "iq" && child(node, "list").is_some();
        world.peer.received.iter().filter(is_upload).cloned().collect::<Vec<_>>()
    };
    assert!(uploads(&world).is_empty(), "not before they are durable");
    world.commits = Some(Ok(()));
    world.exchange();
    let sent = uploads(&world);
    assert_eq!(sent.len(), 1);
    let Some(NodeContent::Nodes(keys)) = child(&sent[0], "list").map(|list| &list.content) else { panic!() };
    assert_eq!(keys.len(), 809);
    let id = |key: &Node| match &child(key, "id").expect("id").content {
        NodeContent::Bytes(bytes) => u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]),
        other => panic!("{other:?}"),
    };
    for key in [&keys[0], &keys[808]] {
        let stored = record(&world, RecordKind::PreKey, &id(key).to_string()).expect("durable");
        let stored = PreKey::from_record(stored.expose()).expect("a pre-key");
        let NodeContent::Bytes(value) = &child(key, "value").expect("value").content else { panic!() };
        assert_eq!(value, stored.pair.public().as_bytes());
    }
    // What is uploaded is what a stranger can begin with.
    let used = record(&world, RecordKind::PreKey, &id(&keys[5]).to_string()).expect("durable");
    let mut contact = Contact::new(PN, 21);
    contact.begin(&device_keys(), Some(&PreKey::from_record(used.expose()).expect("a pre-key")));
    world.push(&contact.message("A", "hello"));
    assert_eq!(delivered(&world).len(), 1);
}

#[test]
fn an_upload_that_was_not_confirmed_is_repeated_with_the_same_keys() {
    let mut world = World::new(device());
    world.peer.script.pre_key_count = Some(0);
    world.peer.script.answers_uploads = false;
    world.open();
    let keys: Vec<_> =
        world.store.records.keys().filter(|key| key.kind == RecordKind::PreKey).cloned().collect();
    assert_eq!(keys.len(), 812);
    let mut next = World::new(device());
    next.store = std::mem::take(&mut world.store);
    next.peer.script.pre_key_count = Some(0);
    next.open();
    let left = next.store.records.keys().filter(|key| key.kind == RecordKind::PreKey).count();
    assert_eq!(left, 812, "no new ones");
    let is_upload = |node: &&Node| node.tag == "iq" && child(node, "list").is_some();
    assert_eq!(next.peer.received.iter().filter(is_upload).count(), 1);
}

/// The ratchet turns when we write, too.
#[test]
fn a_conversation_goes_on_over_both_sides_ratchets() {
    let mut world = World::online();
    let mut contact = contact();
    for round in 0..5 {
        for n in 0..3 {
            world.push(&contact.message(&format!("M{round}-{n}"), "x"));
        }
        // What the client would send: its own record, used as the sending side will.
        let key = RecordKey { kind: RecordKind::Session, id: "15550002222.3".into() };
        let own = runner_signal::Identity::new(
            runner_signal::KeyPair::from_secret(*device_keys().identity_secret.expose()),
            device_keys().registration_id,
        );
        let (record, _) = world.store.records.get(&key).expect("a session");
        let sealed = session::encrypt(&own, Some(record.expose()), b"reply\x01", &mut |bytes| {
            bytes.fill(round);
        })
        .expect("a session");
        contact.read(&sealed.message.bytes);
        world.store.records.insert(key, (sealed.record.into_bytes().into(), false));
    }
    assert_eq!(delivered(&world).len(), 15);
}
