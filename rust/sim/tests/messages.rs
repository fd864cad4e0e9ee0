//! Messages end to end: contacts of the simulator write, a client reads; clients' stanzas are handed on.

#![allow(missing_docs, reason = "a test crate")]

mod support;

use std::time::Duration;

use runner_client::{
    Command,
    content::{Kind, View},
};
use runner_proto::close_reason::CloseReason;
use runner_proto::jid::Jid;
use runner_proto::node::Node;
use runner_sim::core::{FIRST_CONTACT, Fleet};
use serde_json::json;
use support::Pair;

fn user(index: u32) -> String {
    Fleet::username(index).to_string()
}

fn texts(pair: &Pair, link: usize) -> Vec<String> {
    let store = &pair.links[link].store;
    let text = |name| {
        let content: &Vec<u8> = store.inbox.get(name).and_then(|row| row.as_ref().ok()).expect("stored");
        String::from_utf8_lossy(&content[2..]).into_owned()
    };
    store.delivered.iter().map(text).collect()
}

/// The client's records survive its connection.
fn again(pair: &mut Pair, index: u32, before: usize) -> usize {
    pair.with_client(before, |client, cx| client.handle_command(Command::Close(CloseReason::Stopped), cx));
    pair.exchange();
    let store = std::mem::take(&mut pair.links[before].store);
    let device = pair.device(index);
    let link = pair.dial(device).expect("accepted");
    pair.links[link].store = store;
    link
}

#[test]
fn a_contact_writes_and_is_read_in_order() {
    let mut pair = Pair::new(2);
    let link = pair.online();
    pair.order("/say", &json!({ "user": user(0), "text": "message {n}", "n": 50 }));
    pair.exchange();
    let expected: Vec<_> = (0..50).map(|n| format!("message {n}")).collect();
    assert_eq!(texts(&pair, link), expected);
    let stats = pair.read("/stats");
    assert_eq!(stats["contactMessages"], 50);
    assert_eq!(stats["contactReceipts"], 50, "each is receipted to its sender");
    assert_eq!(stats["contactRetries"], 0);
    assert_eq!(pair.read("/owed")[0]["count"], 0);
}

#[test]
fn what_waited_at_the_server_is_read_like_what_comes_live() {
    let mut pair = Pair::new(1);
    pair.order("/say", &json!({ "user": user(0), "text": "early {n}", "n": 20 }));
    pair.order("/say", &json!({ "user": user(0), "text": "other {n}", "n": 20, "contact": 1 }));
    let link = pair.online();
    pair.advance(Duration::from_secs(10));
    pair.order("/say", &json!({ "user": user(0), "text": "live", "n": 1 }));
    pair.exchange();
    let read = texts(&pair, link);
    assert_eq!(read.len(), 41);
    let early: Vec<_> = read.iter().filter(|text| text.starts_with("early")).collect();
    assert_eq!(
        early.iter().map(|text| text.as_str()).collect::<Vec<_>>(),
        (0..20).map(|n| format!("early {n}")).collect::<Vec<_>>()
    );
}

#[test]
fn a_conversation_goes_on_over_reconnects() {
    let mut pair = Pair::new(1);
    let mut link = pair.online();
    for round in 0..5 {
        pair.order("/say", &json!({ "user": user(0), "text": format!("{round} {{n}}"), "n": 5 }));
        pair.exchange();
        link = again(&mut pair, 0, link);
    }
    assert_eq!(texts(&pair, link).len(), 25);
    assert_eq!(pair.read("/stats")["contactRetries"], 0);
}

/// Pain 4: our records are gone, the contact goes on with its session.
#[test]
fn a_client_without_its_records_asks_and_gets_the_message_again() {
    let mut pair = Pair::new(1);
    let link = pair.online();
    pair.order("/say", &json!({ "user": user(0), "text": "before" }));
    pair.exchange();
    // So that the contact writes `msg`: it must hear from us once. Until we send, its session is pending and every
    // message names its keys, which is a way to mend as well.
    pair.links[link].store.records.clear();
    pair.order("/say", &json!({ "user": user(0), "text": "after" }));
    pair.exchange();
    assert_eq!(texts(&pair, link), ["before", "after"]);
}

#[test]
fn a_clients_message_reaches_the_other_devices_and_its_receipt_comes_back() {
    let mut pair = Pair::new(2);
    let (from, to) = (pair.online(), pair.dial(pair.device(1)).expect("accepted"));
    let device = Jid::device(user(1), 1, runner_proto::jid::Server::Pn);
    let message = Node::new("message")
        .attr("id", "RELAYED")
        .attr("type", "text")
        .attr_jid("to", device.to_non_ad())
        .child(
            Node::new("participants").child(
                Node::new("to")
                    .attr_jid("jid", device)
                    .child(Node::new("enc").attr("v", "2").attr("type", "msg").bytes([7; 40])),
            ),
        );
    let mut node = Vec::new();
    runner_proto::node::encode(&message, &mut node);
    pair.with_client(from, |client, cx| client.handle_command(Command::Send { node }, cx));
    pair.exchange();
    assert_eq!(pair.links[to].client.counters().messages_undecrypted, 1, "it came");
    let stats = pair.read("/stats");
    assert_eq!((stats["relayedMessages"].as_u64(), stats["relayedReceipts"].as_u64()), (Some(1), Some(1)));
    let unanswered: Option<u64> =
        pair.read("/owed").as_array().expect("rows").iter().map(|row| row["count"].as_u64()).sum();
    assert_eq!(unanswered, Some(0));
}

#[test]
fn a_contact_writes_to_who_never_logged_in() {
    let (mut one, mut other) = (Pair::new(1), Pair::new(1));
    for pair in [&mut one, &mut other] {
        let said = pair.order("/say", &json!({ "user": user(0) }));
        assert_eq!(said["ids"].as_array().map(Vec::len), Some(1));
    }
    assert!(FIRST_CONTACT > Fleet::username(u32::from(u16::MAX)));
}

#[test]
fn contacts_chat_by_themselves_at_their_rate_with_whoever_is_connected() {
    let mut pair = Pair::new(3);
    let link = pair.online();
    pair.order("/chatter", &json!({ "perMinute": 30 }));
    pair.advance(Duration::from_secs(60));
    assert_eq!(texts(&pair, link).len(), 30);
    pair.order("/chatter", &json!({ "perMinute": 0 }));
    pair.advance(Duration::from_secs(60));
    assert_eq!(pair.read("/stats")["contactMessages"], 30);
}

/// Kind, words and target of what was read, in order.
fn views(pair: &Pair, link: usize) -> Vec<(Kind, Option<String>, Option<String>)> {
    let store = &pair.links[link].store;
    let view = |name| {
        let content: &Vec<u8> = store.inbox.get(name).and_then(|row| row.as_ref().ok()).expect("stored");
        let view = View::read(content).expect("a message");
        let about = view.target.or(view.quoted).and_then(|key| key.id);
        (view.kind, view.text.map(str::to_owned), about.map(str::to_owned))
    };
    store.delivered.iter().map(view).collect()
}

#[test]
fn a_contact_writes_every_kind_about_its_last_text_in_a_chat_and_in_a_group() {
    for group in [false, true] {
        let mut pair = Pair::new(1);
        let link = pair.online();
        let mut ids = Vec::new();
        let said = [
            ("reaction", "none"),
            ("reply", "two"),
            ("reaction", "+"),
            ("edit", "2"),
            ("revoke", ""),
            ("edit", "1"),
        ];
        for (kind, text) in said {
            let order = json!({ "user": user(0), "kind": kind, "text": text, "group": group });
            ids.push(pair.order("/say", &order)["ids"][0].as_str().expect("an id").to_owned());
            pair.exchange();
        }
        let row = |kind, text: Option<&str>, about: Option<usize>| {
            (kind, text.map(str::to_owned), about.map(|at: usize| ids[at].clone()))
        };
        // There was nothing to react to at first: a text. And what was revoked is not written about again.
        let expected = [
            row(Kind::Text, Some("none"), None),
            row(Kind::Text, Some("two"), Some(0)),
            row(Kind::Reaction, Some("+"), Some(1)),
            row(Kind::Edit, Some("2"), Some(1)),
            row(Kind::Revoke, None, Some(1)),
            row(Kind::Edit, Some("1"), Some(0)),
        ];
        assert_eq!(views(&pair, link), expected, "group: {group}");
        let stats = pair.read("/stats");
        assert_eq!((stats["contactReceipts"].as_u64(), stats["contactRetries"].as_u64()), (Some(6), Some(0)));
    }
}

#[test]
fn a_group_is_read_from_the_start_and_by_who_lost_its_records() {
    let mut pair = Pair::new(2);
    let mut link = pair.online();
    for round in 0..3 {
        for contact in 0..3 {
            let order = json!({ "user": user(0), "text": format!("{round} {contact}"), "contact": contact, "group": true });
            pair.order("/say", &order);
        }
        pair.exchange();
        link = again(&mut pair, 0, link);
        if round == 1 {
            pair.links[link].store.records.clear();
        }
    }
    let read: Vec<_> = views(&pair, link).into_iter().filter_map(|(_, text, _)| text).collect();
    let expected: Vec<_> =
        (0..3).flat_map(|round| (0..3).map(move |contact| format!("{round} {contact}"))).collect();
    assert_eq!(read, expected);
    let stats = pair.read("/stats");
    assert_eq!(stats["contactRetries"], 3, "each contact's key had to be told again");
    assert_eq!(stats["contactMessages"], 9);
    assert_eq!(pair.read("/owed")[0]["count"], 0);
}

#[test]
fn a_message_that_is_broken_on_its_way_is_asked_for_and_read() {
    let mut pair = Pair::new(1);
    let link = pair.online();
    pair.order("/config", &json!({ "spoilEvery": 3 }));
    for group in [false, true] {
        pair.order("/say", &json!({ "user": user(0), "text": "{n}", "n": 9, "group": group }));
        pair.exchange();
    }
    let mut read: Vec<_> = views(&pair, link).into_iter().filter_map(|(_, text, _)| text).collect();
    read.sort();
    let expected: Vec<_> = (0..9).flat_map(|n| [n.to_string(), n.to_string()]).collect();
    assert_eq!(read, expected);
    let stats = pair.read("/stats");
    assert_eq!((stats["messagesSpoiled"].as_u64(), stats["contactRetries"].as_u64()), (Some(6), Some(6)));
}

#[test]
fn chatter_has_every_kind_in_chats_and_in_groups() {
    let mut pair = Pair::new(2);
    let links = [pair.online(), pair.dial(pair.device(1)).expect("accepted")];
    pair.order("/chatter", &json!({ "perMinute": 600, "groups": 0.5 }));
    pair.advance(Duration::from_secs(60));
    let read: Vec<_> = links.iter().flat_map(|&link| views(&pair, link)).collect();
    assert_eq!(read.len(), 600, "one message reaches one device");
    for kind in [Kind::Text, Kind::Reaction, Kind::Edit, Kind::Revoke] {
        assert!(read.iter().any(|(of, ..)| *of == kind), "{kind:?}");
    }
    let groups = |link: usize| {
        let names = pair.links[link].store.delivered.iter();
        names.filter(|(chat, ..)| chat.ends_with("@g.us")).count()
    };
    let share = groups(links[0]) + groups(links[1]);
    assert!((240..360).contains(&share), "{share} of 600 in groups");
    pair.order("/chatter", &json!({ "perMinute": 60, "kinds": { "revoke": 1 }, "groups": 0 }));
    pair.advance(Duration::from_secs(60));
    assert_eq!(pair.read("/stats")["contactRetries"], 0);
}
