//! Texts to all devices of a chat: encrypted when all is known, sent when durable, told when the server has them.

mod support;

use std::time::Duration;

use runner_client::{
    Command, CommitFailed, Committed, Content, Effect, Event, MAX_IN_FLIGHT, MAX_TEXT, Outgoing, Quoted,
    Receipt, RecordKey, RecordKind, SendFailure, Write,
    content::{Kind, Media, View},
};
use runner_proto::{
    close_reason::CloseReason,
    node::{Node, NodeContent},
};
use support::{
    World,
    contact::{Contact, text_message},
    device_keys, jid,
    peer::attr,
};

const CHAT: &str = "15550002222@s.whatsapp.net";
const OWN: &str = "15550001111@s.whatsapp.net";

/// A chat with two devices, and an own other device.
struct Chat {
    world: World,
    phone: Contact,
    laptop: Contact,
    own: Contact,
}

impl Chat {
    fn new() -> Self {
        let mut chat = Self {
            world: World::online(),
            phone: Contact::new(CHAT, 21),
            laptop: Contact::new("15550002222:7@s.whatsapp.net", 22),
            own: Contact::new(OWN, 23),
        };
        let directory = &mut chat.world.peer.directory;
        directory.set_devices(CHAT, &[0, 7]);
        directory.set_devices(OWN, &[0, 3]);
        for contact in [&chat.phone, &chat.laptop, &chat.own] {
            directory.bundles.insert(contact.jid.to_string(), contact.bundle());
        }
        chat
    }

    fn send(&mut self, token: u64, id: &str, text: &str) {
        send(&mut self.world, token, CHAT, id, text);
    }

    /// The newest message on the wire with this id.
    fn message(&self, id: &str) -> Node {
        let messages = self.world.peer.received_with("message");
        let found = messages.into_iter().rev().find(|message| attr(message, "id") == id);
        found.unwrap_or_else(|| panic!("{id} was not sent")).clone()
    }

    fn asked(&self) -> Vec<String> {
        let of = self.world.peer.directory.asked.iter();
        of.map(|iq| attr(iq, "xmlns")).collect()
    }
}

fn send(world: &mut World, token: u64, chat: &str, id: &str, text: &str) {
    let outgoing = Outgoing { token, chat: jid(chat), id: id.into(), text: text.into(), quoted: None };
    world.command(Command::SendText(Box::new(outgoing)));
}

fn outcomes(world: &World) -> Vec<(u64, Result<Receipt, SendFailure>)> {
    let of = world.events().filter_map(|event| match event {
        Event::Sent { token, outcome } => Some((*token, *outcome)),
        _ => None,
    });
    of.collect()
}

fn text_of(message: &[u8]) -> (Option<String>, Option<String>) {
    let view = View::read(message).expect("a message");
    (view.text.map(Into::into), view.destination.map(Into::into))
}

fn has_child(node: &Node, tag: &str) -> bool {
    matches!(&node.content, NodeContent::Nodes(children) if children.iter().any(|child| child.tag == tag))
}

const ACK: Result<Receipt, SendFailure> = Ok(Receipt { server_unix_s: Some(1_767_225_600) });

#[test]
fn a_first_message_goes_to_every_device_of_the_chat_and_to_our_other_one() {
    let mut chat = Chat::new();
    chat.send(5, "A", "hello");
    let message = chat.message("A");
    assert_eq!((attr(&message, "to"), attr(&message, "type")), (CHAT.into(), "text".into()));
    assert!(has_child(&message, "device-identity"), "whoever hears of us first is shown who we are");
    let plain = (Some("hello".to_owned()), None);
    assert_eq!(text_of(&chat.phone.hear(&message).expect("read")), plain);
    assert_eq!(text_of(&chat.laptop.hear(&message).expect("read")), plain);
    let sent = (Some("hello".to_owned()), Some(CHAT.to_owned()));
    assert_eq!(text_of(&chat.own.hear(&message).expect("read")), sent);
    assert_eq!(outcomes(&chat.world), [(5, ACK)]);
    let counters = chat.world.client.counters();
    assert_eq!((counters.messages_sent, counters.sends_failed), (1, 0));
    assert!(counters.responses.count() > 0, "its round trip is counted");
}

#[test]
fn what_is_known_is_not_asked_for_again_and_an_answer_ends_the_pre_keys() {
    let mut chat = Chat::new();
    chat.send(1, "A", "one");
    assert_eq!(chat.asked(), ["usync", "encrypt"]);
    let first = chat.message("A");
    chat.phone.hear(&first);
    chat.laptop.hear(&first);
    chat.own.hear(&first);
    for contact in [&mut chat.phone, &mut chat.laptop, &mut chat.own] {
        let id = format!("R{}", contact.jid);
        let answer = contact.message(&id, "yes");
        chat.world.push(&answer);
    }
    chat.send(2, "B", "two");
    assert_eq!(chat.asked().len(), 2, "nothing more");
    let second = chat.message("B");
    assert!(!has_child(&second, "device-identity"));
    let enc = chat.phone.enc_for(&second).expect("a copy");
    assert_eq!(attr(&enc, "type"), "msg");
    assert_eq!(text_of(&chat.phone.hear(&second).expect("read")).0.as_deref(), Some("two"));
    assert_eq!(chat.laptop.hear(&second), Some(text_message("two")));
    // An hour later it asks for the devices, and for no keys.
    chat.world.advance(Duration::from_secs(3600));
    chat.send(3, "C", "three");
    assert_eq!(chat.asked(), ["usync", "encrypt", "usync"]);
}

#[test]
fn a_message_leaves_when_what_it_was_encrypted_with_is_durable_and_not_before() {
    let mut chat = Chat::new();
    chat.world.commits = None;
    chat.send(1, "A", "hello");
    assert!(chat.world.peer.received_with("message").is_empty());
    let sessions = chat
        .world
        .writes()
        .filter(|write| matches!(write, Write::PutRecord { key, .. } if key.kind == RecordKind::Session));
    assert_eq!(sessions.count(), 3, "asked for");
    chat.world.commits = Some(Ok(()));
    chat.world.exchange();
    assert_eq!(outcomes(&chat.world), [(1, ACK)]);
}

#[test]
fn a_commit_that_fails_sends_nothing_and_the_next_message_begins_with_what_the_store_has() {
    let mut chat = Chat::new();
    chat.send(1, "A", "one");
    let first = chat.message("A");
    chat.world.commits = Some(Err(CommitFailed::Store));
    chat.send(2, "B", "two");
    assert_eq!(outcomes(&chat.world)[1], (2, Err(SendFailure::Store)));
    chat.world.commits = Some(Ok(()));
    chat.send(3, "C", "three");
    let third = chat.message("C");
    assert_eq!(chat.phone.hear(&first), Some(text_message("one")));
    assert_eq!(chat.phone.hear(&third), Some(text_message("three")));
    assert_eq!(chat.world.peer.received_with("message").len(), 2);
}

#[test]
fn a_reply_shows_what_it_answers() {
    let mut chat = Chat::new();
    let quoted = Quoted {
        id: "Q".into(),
        sender: jid("15550002222:7@s.whatsapp.net"),
        content: text_message("are you there?"),
    };
    let outgoing =
        Outgoing { token: 1, chat: jid(CHAT), id: "A".into(), text: "yes".into(), quoted: Some(quoted) };
    chat.world.command(Command::SendText(Box::new(outgoing)));
    let heard = chat.phone.hear(&chat.message("A")).expect("read");
    let view = View::read(&heard).expect("a message");
    assert_eq!((view.kind, view.text), (Kind::Text, Some("yes")));
    let key = view.quoted.expect("a quote");
    assert_eq!((key.id, key.participant), (Some("Q"), Some(CHAT)));
}

#[test]
fn a_chat_by_lid_is_written_to_by_lid() {
    let mut chat = Chat::new();
    let directory = &mut chat.world.peer.directory;
    directory.set_devices("700000000002@lid", &[0]);
    directory.set_devices("900000000001@lid", &[0, 3]);
    let (mut peer, mut own) = (Contact::new("700000000002@lid", 31), Contact::new("900000000001@lid", 32));
    for contact in [&peer, &own] {
        directory.bundles.insert(contact.jid.to_string(), contact.bundle());
    }
    send(&mut chat.world, 1, "700000000002@lid", "A", "hello");
    let message = chat.message("A");
    assert_eq!(attr(&message, "to"), "700000000002@lid");
    assert_eq!(peer.hear(&message), Some(text_message("hello")));
    let sent = (Some("hello".to_owned()), Some("700000000002@lid".to_owned()));
    assert_eq!(text_of(&own.hear(&message).expect("read")), sent);
}

/// The session lies where the LID says, which the device query has told; the peer's answers find it there.
#[test]
fn a_lid_that_is_learned_moves_the_session_and_loses_none() {
    let mut chat = Chat::new();
    chat.send(1, "A", "one");
    let first = chat.message("A");
    chat.phone.hear(&first);
    let lid = Node::new("lid").attr_jid("val", jid("700000000002@lid"));
    let entry = chat.world.peer.directory.devices.remove(CHAT).expect("there");
    chat.world.peer.directory.devices.insert(CHAT.into(), entry.child(lid));
    chat.world.advance(Duration::from_secs(3600));
    chat.send(2, "B", "two");
    assert_eq!(chat.asked(), ["usync", "encrypt", "usync"], "no new session");
    assert_eq!(chat.phone.hear(&chat.message("B")), Some(text_message("two")));
    let session = |id: &str| RecordKey { kind: RecordKind::Session, id: id.into() };
    let records = &chat.world.store.records;
    assert!(records.contains_key(&session("700000000002_1.0")));
    assert!(!records.contains_key(&session("15550002222.0")));
    let answer = chat.phone.message("R", "three");
    chat.world.push(&answer);
    assert_eq!(chat.world.store.delivered.len(), 1);
}

#[test]
fn a_device_without_keys_is_left_out_and_a_chat_without_any_is_nobody() {
    let mut chat = Chat::new();
    chat.world.peer.directory.bundles.remove("15550002222:7@s.whatsapp.net");
    chat.send(1, "A", "hello");
    let message = chat.message("A");
    assert!(chat.laptop.enc_for(&message).is_none());
    assert_eq!(chat.phone.hear(&message), Some(text_message("hello")));
    let mut chat = Chat::new();
    chat.world.peer.directory.bundles.retain(|device, _| device == OWN);
    chat.send(2, "B", "hello");
    assert!(chat.world.peer.received_with("message").is_empty());
    assert_eq!(outcomes(&chat.world), [(2, Err(SendFailure::UnknownUser))]);
    // Nobody has the number.
    chat.world.peer.directory.devices.remove(CHAT);
    chat.world.advance(Duration::from_secs(3600));
    chat.send(3, "C", "hello");
    assert_eq!(outcomes(&chat.world)[1], (3, Err(SendFailure::UnknownUser)));
}

#[test]
fn a_bundle_that_its_identity_has_not_signed_is_not_used() {
    let mut chat = Chat::new();
    let forged = Contact::new(CHAT, 66).bundle();
    let NodeContent::Nodes(mut forged) = forged.content else { panic!() };
    let NodeContent::Nodes(mine) = chat.phone.bundle().content else { panic!() };
    forged[2] = mine[2].clone();
    let entry = Node::new("user").attr_jid("jid", jid(CHAT)).children(forged);
    chat.world.peer.directory.bundles.insert(CHAT.into(), entry);
    chat.send(1, "A", "hello");
    assert!(chat.phone.enc_for(&chat.message("A")).is_none());
    assert!(chat.laptop.hear(&chat.message("A")).is_some());
}

#[test]
fn what_can_not_be_sent_is_told_at_once() {
    let mut chat = Chat::new();
    send(&mut chat.world, 1, "120363000000000001@newsletter", "A", "hello");
    chat.send(2, "B", &"x".repeat(MAX_TEXT + 1));
    let mut offline = World::new(support::device());
    send(&mut offline, 3, CHAT, "C", "hello");
    assert_eq!(outcomes(&chat.world), [(1, Err(SendFailure::NotAUser)), (2, Err(SendFailure::TooLong))]);
    assert_eq!(outcomes(&offline), [(3, Err(SendFailure::NotOnline))]);
    assert!(chat.world.peer.directory.asked.is_empty());
    assert_eq!(chat.world.client.counters().sends_failed, 2);
}

#[test]
fn what_is_on_its_way_is_bounded_and_an_id_is_on_its_way_once() {
    let mut chat = Chat::new();
    chat.world.peer.script.acknowledges_messages = false;
    chat.send(1, "M1", "x");
    chat.send(2, "M1", "x");
    assert_eq!(outcomes(&chat.world), [(2, Err(SendFailure::Busy))]);
    for n in 2..=MAX_IN_FLIGHT {
        chat.send(10 + n as u64, &format!("M{n}"), "x");
    }
    assert_eq!(outcomes(&chat.world).len(), 1);
    chat.send(3, "N", "x");
    assert_eq!(outcomes(&chat.world)[1], (3, Err(SendFailure::Busy)));
}

#[test]
fn a_refusal_has_its_number_and_a_silent_server_its_time() {
    let mut chat = Chat::new();
    chat.world.peer.script.acknowledges_messages = false;
    chat.send(1, "A", "hello");
    chat.world.push(&Node::new("ack").attr("class", "message").attr("id", "A").attr("error", "463"));
    assert_eq!(outcomes(&chat.world), [(1, Err(SendFailure::Refused(463)))]);
    chat.send(2, "B", "hello");
    chat.world.advance(Duration::from_secs(74));
    assert_eq!(outcomes(&chat.world).len(), 1);
    chat.world.advance(Duration::from_secs(1));
    assert_eq!(outcomes(&chat.world)[1], (2, Err(SendFailure::Unconfirmed)));
    // An acknowledgement that comes too late is nobody's.
    chat.world.push(&Node::new("ack").attr("class", "message").attr("id", "B").attr("t", "1"));
    assert_eq!(outcomes(&chat.world).len(), 2);
}

#[test]
fn a_server_that_says_nothing_of_devices_costs_one_message_and_no_more() {
    let mut chat = Chat::new();
    chat.world.peer.script.answers_requests = false;
    chat.send(1, "A", "hello");
    chat.world.advance(Duration::from_secs(60));
    assert_eq!(outcomes(&chat.world), [(1, Err(SendFailure::NoAnswer))]);
    chat.world.peer.script.answers_requests = true;
    chat.send(2, "B", "hello");
    assert_eq!(outcomes(&chat.world)[1], (2, ACK));
}

#[test]
fn the_end_of_a_connection_tells_what_can_have_arrived() {
    let mut chat = Chat::new();
    chat.world.peer.script.acknowledges_messages = false;
    chat.send(1, "A", "hello");
    chat.world.commits = None;
    chat.send(2, "B", "hello");
    chat.world.command(Command::Close(CloseReason::Stopped));
    assert_eq!(outcomes(&chat.world), [(1, Err(SendFailure::Unconfirmed)), (2, Err(SendFailure::NotOnline))]);
    chat.world.closed();
}

#[test]
fn another_set_of_devices_at_the_server_is_asked_for_before_the_next_message() {
    let mut chat = Chat::new();
    chat.world.peer.script.acknowledges_messages = false;
    let ack = |id: &str, phash: &str| {
        Node::new("ack").attr("class", "message").attr("id", id).attr("t", "1").attr("phash", phash)
    };
    chat.send(1, "A", "one");
    chat.world.push(&ack("A", "2:other000"));
    assert!(outcomes(&chat.world)[0].1.is_ok(), "this one is sent");
    chat.world.peer.directory.set_devices(CHAT, &[0]);
    chat.send(2, "B", "two");
    assert_eq!(chat.asked(), ["usync", "encrypt", "usync"]);
    assert!(chat.laptop.enc_for(&chat.message("B")).is_none());
}

#[test]
fn a_notification_of_devices_makes_the_list_old() {
    let mut chat = Chat::new();
    chat.send(1, "A", "one");
    chat.world.peer.directory.set_devices(CHAT, &[0, 7, 9]);
    let mut third = Contact::new("15550002222:9@s.whatsapp.net", 29);
    chat.world.peer.directory.bundles.insert(third.jid.to_string(), third.bundle());
    let notification = Node::new("notification").attr("type", "devices").attr("id", "1").attr("t", "1");
    chat.world.push(&notification.attr_jid("from", jid(CHAT)).child(Node::new("add")));
    chat.send(2, "B", "two");
    assert_eq!(third.hear(&chat.message("B")), Some(text_message("two")));
    let own = Node::new("notification").attr("type", "account_sync").attr("id", "2").attr("t", "1");
    chat.world.push(&own.attr_jid("from", jid(OWN)).child(Node::new("devices")));
    chat.world.peer.directory.set_devices(OWN, &[3]);
    chat.send(3, "C", "three");
    assert!(chat.own.enc_for(&chat.message("C")).is_none());
}

#[test]
fn messages_of_a_chat_leave_in_order_and_a_slow_chat_holds_no_other() {
    let mut chat = Chat::new();
    let other = "15550003333@s.whatsapp.net";
    let third = Contact::new(other, 41);
    chat.world.peer.directory.set_devices(other, &[0]);
    chat.world.peer.directory.bundles.insert(third.jid.to_string(), third.bundle());
    // The directory says nothing of the first chat yet.
    chat.world.peer.script.answers_requests = false;
    chat.send(1, "A1", "one");
    chat.send(2, "A2", "two");
    chat.world.peer.script.answers_requests = true;
    send(&mut chat.world, 3, other, "B1", "hello");
    assert_eq!(outcomes(&chat.world), [(3, ACK)]);
    assert_eq!(chat.asked().len(), 2);
    chat.world.advance(Duration::from_secs(60));
    assert_eq!(outcomes(&chat.world)[1..], [(1, Err(SendFailure::NoAnswer)), (2, ACK)]);
}

#[test]
fn a_device_that_could_not_read_is_sent_the_same_again() {
    let mut chat = Chat::new();
    chat.send(1, "A", "hello");
    let first = chat.message("A");
    chat.phone.hear(&first);
    chat.phone.forget_session();
    chat.world.peer.received.clear();
    // The first time without keys: the session is lost, it says, so its bundle is asked for.
    chat.world.push(&chat.phone.retry("A", 1, 1, false));
    let again = chat.message("A");
    assert_eq!(attr(&again, "to"), CHAT);
    let enc = chat.phone.enc_for(&again).expect("a copy");
    assert_eq!((attr(&enc, "type"), attr(&enc, "count")), ("pkmsg".into(), "1".into()));
    assert!(has_child(&again, "device-identity"));
    assert_eq!(chat.phone.hear(&again), Some(text_message("hello")));
    assert_eq!(chat.asked(), ["usync", "encrypt", "encrypt"]);
    // With keys nothing is asked for.
    chat.phone.forget_session();
    chat.world.peer.received.clear();
    chat.world.push(&chat.phone.retry("A", 2, 0, true));
    assert_eq!(chat.phone.hear(&chat.message("A")), Some(text_message("hello")));
    assert_eq!(chat.asked().len(), 3);
    assert_eq!(chat.world.client.counters().messages_resent, 2);
    assert_eq!(outcomes(&chat.world).len(), 1, "told once");
}

#[test]
fn an_own_device_that_could_not_read_learns_where_it_went() {
    let mut chat = Chat::new();
    chat.send(1, "A", "hello");
    chat.world.push(&chat.own.retry("A", 2, 0, true));
    let again = chat.message("A");
    assert_eq!((attr(&again, "to"), attr(&again, "recipient")), (OWN.into(), CHAT.into()));
    let sent = (Some("hello".to_owned()), Some(CHAT.to_owned()));
    assert_eq!(text_of(&chat.own.hear(&again).expect("read")), sent);
}

#[test]
fn asking_again_is_bounded_over_connections_and_nobody_else_is_answered() {
    let mut chat = Chat::new();
    chat.send(1, "A", "hello");
    let resent = |chat: &Chat| chat.world.client.counters().messages_resent;
    // Its own count stays at one, as a device's would that means no good.
    for _ in 0..3 {
        chat.world.push(&chat.phone.retry("A", 1, 0, true));
    }
    assert_eq!(resent(&chat), 3);
    connect_anew(&mut chat);
    for _ in 0..10 {
        chat.world.push(&chat.phone.retry("A", 1, 0, true));
    }
    assert_eq!(resent(&chat), 2, "five in all, and each is counted durably");
    chat.world.push(&chat.laptop.retry("A", 6, 0, true));
    let stranger = Contact::new("15550009999@s.whatsapp.net", 77);
    chat.world.push(&stranger.retry("A", 1, 0, true));
    chat.world.push(&chat.phone.retry("UNKNOWN", 1, 0, true));
    assert_eq!(resent(&chat), 2);
    chat.world.push(&chat.laptop.retry("A", 1, 0, true));
    assert_eq!(resent(&chat), 3, "each device has its own share");
}

#[test]
fn a_storm_of_askings_is_answered_at_a_rate_and_all_of_it() {
    let mut chat = Chat::new();
    send_many(&mut chat, 500);
    for n in 0..500 {
        chat.world.push(&chat.phone.retry(&format!("M{n}"), 1, 0, true));
    }
    assert_eq!(counted(&chat), (60, 0));
    chat.world.advance(Duration::from_secs(1));
    assert_eq!(counted(&chat), (61, 0));
    // In turn, also what is asked for while there is nobody before it but those who wait.
    chat.world.advance(Duration::from_millis(999));
    chat.world.push(&chat.phone.retry("M499", 2, 0, true));
    assert_eq!(counted(&chat), (61, 0));
    chat.world.advance(Duration::from_secs(440));
    assert_eq!(counted(&chat), (500, 0));
    hear_many(&mut chat, 0..500);
    assert!(format!("{:?}", chat.world.client).contains("sender: None"));
}

/// Texts to a phone that then loses its sessions.
fn send_many(chat: &mut Chat, count: u64) {
    for n in 0..count {
        chat.send(n, &format!("M{n}"), &format!("text {n}"));
    }
    chat.phone.forget_session();
    chat.world.peer.received.clear();
}

fn hear_many(chat: &mut Chat, texts: std::ops::Range<u64>) {
    for n in texts {
        let heard = chat.phone.hear(&chat.message(&format!("M{n}")));
        assert_eq!(heard, Some(text_message(&format!("text {n}"))), "M{n}");
    }
}

/// Another connection of the same device.
fn connect_anew(chat: &mut Chat) {
    let store = std::mem::take(&mut chat.world.store);
    let directory = std::mem::take(&mut chat.world.peer.directory);
    chat.world = World::online();
    (chat.world.store, chat.world.peer.directory) = (store, directory);
    chat.world.entropy = support::Seeded(99);
}

/// Two hours of a text every two seconds, and of these any five hundred, after a restart.
#[test]
fn of_the_last_four_thousand_texts_each_can_be_asked_for() {
    let mut chat = Chat::new();
    send_many(&mut chat, 4_100);
    connect_anew(&mut chat);
    chat.world.push(&chat.phone.retry("M3", 1, 0, true));
    assert_eq!(counted(&chat), (0, 1), "the oldest have given way");
    for n in 4..504 {
        chat.world.push(&chat.phone.retry(&format!("M{n}"), 1, 0, true));
    }
    chat.world.advance(Duration::from_secs(500));
    assert_eq!(counted(&chat), (500, 1));
    hear_many(&mut chat, 4..504);
}

#[test]
fn a_text_whose_commit_fails_takes_no_place() {
    let mut chat = Chat::new();
    chat.send(1, "A", "one");
    chat.world.commits = Some(Err(CommitFailed::Store));
    chat.send(2, "B", "two");
    chat.world.commits = Some(Ok(()));
    chat.send(3, "C", "three");
    let mut places: Vec<_> =
        chat.world.store.records.keys().filter(|key| key.kind == RecordKind::Sent).collect();
    places.sort_by_key(|key| &key.id);
    let places: Vec<_> = places.into_iter().map(|key| key.id.as_str()).collect();
    assert_eq!(places, ["0", "1"]);
    for id in ["A", "B", "C"] {
        chat.world.push(&chat.laptop.retry(id, 1, 0, true));
    }
    assert_eq!(counted(&chat), (2, 1));
}

/// Sent again, and asked for in vain.
fn counted(chat: &Chat) -> (u32, u32) {
    let counters = chat.world.client.counters();
    (counters.messages_resent, counters.messages_not_resent)
}

/// Uses up all that is answered at once.
fn use_up(chat: &mut Chat) {
    for n in 0..60 {
        chat.world.push(&chat.laptop.retry(&format!("UNKNOWN{n}"), 1, 0, false));
    }
    assert_eq!(counted(chat), (0, 60));
}

#[test]
fn whoever_asks_anew_while_it_waits_is_answered_once_and_with_its_newest_keys() {
    let mut chat = Chat::new();
    chat.send(1, "A", "hello");
    use_up(&mut chat);
    chat.world.push(&chat.phone.retry("A", 1, 0, true));
    chat.phone.link_anew(51);
    chat.world.push(&chat.phone.retry("A", 2, 0, true));
    chat.world.peer.received.clear();
    chat.world.advance(Duration::from_secs(10));
    assert_eq!(counted(&chat), (1, 60));
    let again = chat.message("A");
    assert_eq!(attr(&chat.phone.enc_for(&again).expect("a copy"), "count"), "2");
    assert_eq!(chat.phone.hear(&again), Some(text_message("hello")));
}

#[test]
fn those_who_wait_for_room_are_answered_when_there_is_some() {
    let mut chat = Chat::new();
    for n in 0..80 {
        chat.send(n, &format!("M{n}"), "x");
    }
    // Each has lost its session and gives no keys, and the server is silent.
    chat.world.peer.script.answers_requests = false;
    for n in 0..80 {
        chat.world.push(&chat.phone.retry(&format!("M{n}"), 1, 1, false));
    }
    chat.world.advance(Duration::from_secs(30));
    assert_eq!(counted(&chat), (0, 0));
    chat.world.peer.script.answers_requests = true;
    chat.world.advance(Duration::from_secs(60));
    let (resent, not_resent) = counted(&chat);
    assert_eq!((resent, not_resent), (16, 64), "those that had a place have waited for long enough");
}

#[test]
fn those_who_wait_when_the_connection_ends_are_counted() {
    let mut chat = Chat::new();
    chat.send(1, "A", "hello");
    use_up(&mut chat);
    chat.world.push(&chat.phone.retry("A", 1, 0, true));
    chat.world.push(&chat.laptop.retry("A", 1, 0, true));
    chat.world.command(Command::Close(CloseReason::Stopped));
    chat.world.advance(Duration::from_secs(60));
    assert!(chat.world.is_closed());
    assert_eq!(counted(&chat), (0, 62));
    chat.world.push(&chat.phone.retry("A", 1, 0, true));
    assert_eq!(counted(&chat), (0, 62));
}

#[test]
fn a_contact_that_was_linked_anew_gets_a_new_session_and_it_is_told() {
    let mut chat = Chat::new();
    chat.send(1, "A", "hello");
    chat.phone.link_anew(51);
    chat.world.push(&chat.phone.retry("A", 1, 0, true));
    assert_eq!(chat.phone.hear(&chat.message("A")), Some(text_message("hello")));
    let changed: Vec<_> = chat
        .world
        .events()
        .filter_map(
            |event| if let Event::IdentityChanged { jid } = event { Some(jid.as_str()) } else { None },
        )
        .collect();
    assert_eq!(changed, [CHAT]);
    chat.send(2, "B", "again");
    assert_eq!(chat.phone.hear(&chat.message("B")), Some(text_message("again")));
}

#[test]
fn a_message_to_ourselves_goes_to_our_other_devices() {
    let mut chat = Chat::new();
    send(&mut chat.world, 1, OWN, "A", "note");
    let sent = (Some("note".to_owned()), Some(OWN.to_owned()));
    assert_eq!(text_of(&chat.own.hear(&chat.message("A")).expect("read")), sent);
    assert_eq!(outcomes(&chat.world), [(1, ACK)]);
}

#[test]
fn nothing_of_a_message_stays_in_memory() {
    let mut chat = Chat::new();
    chat.send(1, "A", "hello");
    assert_eq!(outcomes(&chat.world), [(1, ACK)]);
    assert!(format!("{:?}", chat.world.client).contains("sender: None"));
    assert!(format!("{:?}", chat.world.client).contains("entries: {}"));
}

/// We answer in the session that the contact began.
#[test]
fn a_session_that_the_contact_began_is_used() {
    let mut chat = Chat::new();
    chat.phone.begin(&device_keys(), None);
    let message = chat.phone.message("Q", "hi");
    chat.world.push(&message);
    chat.send(1, "A", "hello");
    let enc = chat.phone.enc_for(&chat.message("A")).expect("a copy");
    assert_eq!(attr(&enc, "type"), "msg");
    assert_eq!(chat.phone.hear(&chat.message("A")), Some(text_message("hello")));
}

/// Of our own account, before the server has said what its other address is.
#[test]
fn a_device_that_is_listed_by_both_addresses_is_written_to_once() {
    let lid = "900000000001@lid";
    let mut world = World::new(support::device());
    world.peer.script.login = Some(Node::new("success").attr("t", "1767225700"));
    world.open();
    let directory = &mut world.peer.directory;
    directory.set_devices(lid, &[0]);
    directory.set_devices(OWN, &[0, 3]);
    let listed = directory.devices[OWN].clone().child(Node::new("lid").attr_jid("val", jid(lid)));
    directory.devices.insert(OWN.into(), listed);
    let (by_lid, by_number) = (Contact::new(lid, 31), Contact::new(OWN, 31));
    for contact in [&by_lid, &by_number] {
        directory.bundles.insert(contact.jid.to_string(), contact.bundle());
    }
    for (token, id) in [(1, "A"), (2, "B")] {
        send(&mut world, token, lid, id, "hello");
    }
    for message in world.peer.received_with("message") {
        assert!(by_lid.enc_for(message).is_some());
        assert!(by_number.enc_for(message).is_none(), "the same message key with another content");
    }
    assert_eq!(outcomes(&world).len(), 2);
}

/// Also of what is in use at that moment, by messages that have nothing to do with it.
#[test]
fn a_device_that_is_linked_is_written_to_from_the_next_message_on() {
    let mut chat = Chat::new();
    chat.send(1, "A", "one");
    chat.phone.hear(&chat.message("A"));
    chat.world.commits = None;
    chat.world.forget_effects();
    let commits = |world: &World| -> Vec<u64> {
        let token = |effect: &Effect| {
            if let Effect::Commit { token, .. } = effect { Some(*token) } else { None }
        };
        world.effects.iter().filter_map(token).filter(|token| *token > 0).collect()
    };
    let first = chat.phone.message("R1", "yes");
    chat.world.push(&first);
    chat.send(2, "B", "two");
    let second = chat.phone.message("R2", "what?");
    chat.world.push(&second);
    // All but the last are durable, and the text has left.
    let tokens = commits(&chat.world);
    assert_eq!(tokens.len(), 3);
    for token in &tokens[..2] {
        chat.world.call(|client, cx| client.on_committed(*token, Ok(Committed { attempts: 0 }), cx));
        chat.world.exchange();
    }
    assert_eq!(outcomes(&chat.world), [(2, ACK)]);
    let asked = chat.asked().len();
    let linked = Node::new("notification")
        .attr("id", "N")
        .attr("type", "devices")
        .attr_jid("from", jid(CHAT))
        .child(Node::new("add"));
    chat.world.push(&linked);
    chat.send(3, "C", "three");
    assert_eq!(chat.asked()[asked..], ["usync"]);
}

/// The longest text for every device of two accounts that have all that are allowed.
#[test]
fn a_text_that_fits_no_frame_for_all_devices_is_too_long_and_nothing_is_committed() {
    let mut world = World::online();
    let devices: Vec<_> = (0..32).collect();
    for user in [CHAT, OWN] {
        world.peer.directory.set_devices(user, &devices);
        for device in &devices {
            let contact = Contact::new(&user.replace('@', &format!(":{device}@")), 21 + *device as u8);
            world.peer.directory.bundles.insert(contact.jid.to_string(), contact.bundle());
        }
    }
    send(&mut world, 1, CHAT, "A", &"x".repeat(MAX_TEXT));
    assert_eq!(outcomes(&world), [(1, Err(SendFailure::TooLong))]);
    let sessions =
        |world: &World| world.store.records.keys().filter(|key| key.kind == RecordKind::Session).count();
    assert_eq!((sessions(&world), world.client.counters().sends_failed), (0, 1));
    // And with nothing that would be of a message that never left.
    send(&mut world, 2, CHAT, "B", "hello");
    assert_eq!(outcomes(&world)[1], (2, ACK));
    assert_eq!(sessions(&world), 63);
}

/// It goes on under its older address, and in the sessions under its main one there are messages on their way still.
#[test]
fn a_session_under_the_older_address_leaves_those_under_the_main_one() {
    const LID: &str = "700000000002@lid";
    let mut chat = Chat::new();
    let (mut by_lid, mut by_number) = (Contact::new(LID, 21), Contact::new(CHAT, 21));
    chat.world.peer.directory.set_devices(LID, &[0]);
    for contact in [&mut by_lid, &mut by_number] {
        contact.begin(&device_keys(), None);
        let first = contact.message(&format!("Q{}", contact.jid.server_name()), "hi");
        chat.world.push(&first);
    }
    send(&mut chat.world, 1, LID, "A", "hello");
    assert_eq!(by_lid.hear(&chat.message("A")), Some(text_message("hello")));
    let late = by_lid.message("late", "on its way");
    // The session by LID is archived, and that both are one is known.
    let store = &mut chat.world.store;
    let key = |kind, id: &str| RecordKey { kind, id: id.into() };
    let record =
        &mut store.records.get_mut(&key(RecordKind::Session, "700000000002_1.0")).expect("a session").0;
    *record = runner_signal::session::archive(record.expose()).expect("archives").into_bytes().into();
    for (id, value) in [("15550002222", "\"700000000002\""), ("700000000002_reverse", "\"15550002222\"")] {
        store.records.insert(key(RecordKind::LidMapping, id), (value.as_bytes().to_vec().into(), false));
    }
    chat.send(2, "B", "one");
    assert_eq!(by_number.hear(&chat.message("B")), Some(text_message("one")));
    let answer = by_number.message("R", "yes");
    for message in [&late, &answer] {
        chat.world.push(message);
    }
    let content = |id: &str| {
        let found = chat.world.store.inbox.iter().find(|(name, _)| name.2 == id);
        found.map(|(_, content)| content.clone())
    };
    assert_eq!(content("late"), Some(Ok(text_message("on its way"))));
    assert_eq!(content("R"), Some(Ok(text_message("yes"))));
}

#[test]
fn what_is_written_is_not_printed() {
    let text = "~".repeat(40);
    let quoted = Quoted { id: "Q".into(), sender: jid(CHAT), content: vec![126; 40] };
    let outgoing =
        Outgoing { token: 1, chat: jid(CHAT), id: "A".into(), text: text.clone(), quoted: Some(quoted) };
    let mut printed = vec![format!("{outgoing:?}")];
    let mut chat = Chat::new();
    chat.world.peer.script.answers_requests = false;
    chat.world.command(Command::SendText(Box::new(outgoing)));
    printed.push(format!("{:?}", chat.world.client));
    let content = text_message(&text);
    printed.push(format!("{:?}", Content::Plain(content.clone())));
    let media = Media { key: Some(&[126; 32]), ..Media::default() };
    let view = View { media: Some(media), ..View::read(&content).expect("a message") };
    printed.push(format!("{view:?}"));
    for printed in printed {
        assert!(printed.contains(" bytes"), "{printed}");
        assert!(!printed.contains("126, 126") && !printed.contains("~~"), "{printed}");
    }
}
