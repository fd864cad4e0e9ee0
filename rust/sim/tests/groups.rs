//! Clients write to groups: who reads it, who is refused, who is told of changes.

#![allow(missing_docs, reason = "a test crate")]

mod support;

use runner_client::{Command, Event, Outgoing, SendFailure, content::View};
use runner_sim::core::{CONTACTS, FIRST_CONTACT, Fleet};
use serde_json::{Value, json};
use support::Pair;

fn user(index: u32) -> u64 {
    Fleet::username(index)
}

fn contact(index: u64) -> u64 {
    FIRST_CONTACT + index
}

/// A simulator with a group, and our client in it.
struct Talk {
    pair: Pair,
    link: usize,
    group: String,
    sent: u64,
}

impl Talk {
    fn new(sessions: u32, members: &[u64], more: &Value) -> Self {
        let mut pair = Pair::new(sessions);
        let link = pair.online();
        let mut order = json!({ "members": members });
        for (key, value) in more.as_object().expect("an object") {
            order[key] = value.clone();
        }
        let group = pair.order("/group", &order)["jid"].as_str().expect("a jid").to_owned();
        Self { pair, link, group, sent: 0 }
    }

    fn change(&mut self, mut change: Value) {
        change["jid"] = json!(self.group);
        self.pair.order("/group", &change);
    }

    /// What becomes of a text of a client.
    fn write(&mut self, link: usize, text: &str) -> Result<(), SendFailure> {
        self.sent += 1;
        let (token, id) = (self.sent, format!("TEXT{}", self.sent));
        let chat = self.group.parse().expect("a jid");
        let outgoing = Outgoing { token, chat, id, text: text.to_owned(), quoted: None };
        self.pair.command(link, Command::SendText(Box::new(outgoing)));
        let outcome = self.pair.links[link].events().find_map(|event| match event {
            Event::Sent { token: of, outcome } if *of == token => Some(*outcome),
            _ => None,
        });
        outcome.expect("an outcome").map(|_| ())
    }

    /// Which contacts have heard a text.
    fn heard(&mut self, text: &str) -> Vec<u64> {
        let heard = self.pair.read("/heard");
        let rows = heard.as_array().expect("rows").iter().filter(|row| row["text"] == text);
        let mut who: Vec<_> = rows
            .map(|row| {
                assert_eq!(row["group"], json!(self.group));
                row["contact"].as_u64().expect("a number")
            })
            .collect();
        who.sort_unstable();
        who
    }

    fn stat(&mut self, name: &str) -> u64 {
        self.pair.read("/stats")[name].as_u64().expect("a number")
    }
}

fn texts(pair: &Pair, link: usize) -> Vec<String> {
    let store = &pair.links[link].store;
    let text = |name| {
        let content = store.inbox.get(name).and_then(|row| row.as_ref().ok()).expect("stored");
        View::read(content).expect("a message").text.expect("a text").to_owned()
    };
    store.delivered.iter().map(text).collect()
}

#[test]
fn everybody_in_a_group_reads_what_we_write_and_nobody_answers() {
    for by_lid in [false, true] {
        let members = [user(0), user(1), contact(0), contact(1)];
        let mut talk = Talk::new(2, &members, &json!({ "lid": by_lid }));
        let other = talk.pair.dial(talk.pair.device(1)).expect("accepted");
        for n in 0..5 {
            assert_eq!(talk.write(talk.link, &format!("text {n}")), Ok(()));
            assert_eq!(talk.heard(&format!("text {n}")), [0, 1]);
        }
        assert_eq!(texts(&talk.pair, other), (0..5).map(|n| format!("text {n}")).collect::<Vec<_>>());
        assert!(texts(&talk.pair, talk.link).is_empty());
        assert_eq!((talk.stat("relayedReceipts"), talk.stat("stalePhashes")), (5, 0));
        // And the other way round.
        assert_eq!(talk.write(other, "back"), Ok(()));
        assert_eq!(texts(&talk.pair, talk.link), ["back"]);
    }
}

#[test]
fn the_group_of_a_user_and_all_contacts_can_be_answered_in() {
    let mut talk = Talk::new(1, &[user(0)], &json!({}));
    talk.pair.order("/say", &json!({ "user": user(0).to_string(), "text": "hello", "group": true }));
    let store = &talk.pair.links[talk.link].store;
    talk.group = store.delivered[0].0.clone();
    assert_eq!(talk.write(talk.link, "hello to you all"), Ok(()));
    assert_eq!(talk.heard("hello to you all"), (0..u64::from(CONTACTS)).collect::<Vec<_>>());
}

#[test]
fn whoever_can_not_read_asks_and_gets_it() {
    let mut talk = Talk::new(2, &[user(0), user(1), contact(0), contact(1)], &json!({}));
    let other = talk.pair.dial(talk.pair.device(1)).expect("accepted");
    talk.pair.order("/mishear", &json!({ "contact": 1, "n": 2 }));
    for n in 0..3 {
        assert_eq!(talk.write(talk.link, &format!("text {n}")), Ok(()));
    }
    talk.pair.order("/config", &json!({ "spoilEvery": 2 }));
    for n in 3..9 {
        assert_eq!(talk.write(talk.link, &format!("text {n}")), Ok(()));
    }
    for n in 0..9 {
        assert_eq!(talk.heard(&format!("text {n}")), [0, 1], "text {n}");
    }
    let mut read = texts(&talk.pair, other);
    read.sort();
    assert_eq!(read, (0..9).map(|n| format!("text {n}")).collect::<Vec<_>>());
    assert!(talk.stat("messagesSpoiled") >= 9);
}

#[test]
fn members_are_told_who_comes_and_who_leaves() {
    let mut talk = Talk::new(2, &[user(0), user(1), contact(0)], &json!({}));
    let other = talk.pair.dial(talk.pair.device(1)).expect("accepted");
    assert_eq!(talk.write(talk.link, "one"), Ok(()));
    talk.change(json!({ "add": [contact(1)] }));
    assert_eq!(talk.write(talk.link, "two"), Ok(()));
    assert_eq!(talk.heard("two"), [0, 1]);
    talk.change(json!({ "remove": [contact(0), user(1)] }));
    assert_eq!(talk.write(talk.link, "three"), Ok(()));
    assert_eq!(talk.heard("three"), [1]);
    assert_eq!(talk.write(other, "let me in"), Err(SendFailure::NotAMember));
    talk.change(json!({ "add": [user(1), contact(0)] }));
    assert_eq!(talk.write(other, "I am back"), Ok(()));
    assert_eq!(talk.write(talk.link, "four"), Ok(()));
    assert_eq!(talk.heard("four"), [0, 1]);
    assert_eq!(texts(&talk.pair, other), ["one", "two", "four"]);
    assert_eq!(
        (talk.stat("refusedMessages"), talk.stat("stalePhashes"), talk.stat("contactRetries")),
        (0, 0, 0)
    );
}

#[test]
fn a_group_that_goes_over_to_lids_refuses_what_is_written_to_the_old_addresses_and_gets_it_anew() {
    let mut talk = Talk::new(1, &[user(0), contact(0)], &json!({}));
    assert_eq!(talk.write(talk.link, "one"), Ok(()));
    talk.change(json!({ "lid": true }));
    assert_eq!(talk.write(talk.link, "two"), Ok(()));
    assert_eq!(talk.heard("two"), [0]);
    assert_eq!(talk.stat("refusedMessages"), 1);
}

#[test]
fn only_the_admin_writes_to_an_announcement_group() {
    let mut talk = Talk::new(2, &[user(0), user(1), contact(0)], &json!({ "announce": true }));
    let other = talk.pair.dial(talk.pair.device(1)).expect("accepted");
    assert_eq!(talk.write(talk.link, "by the admin"), Ok(()));
    assert_eq!(talk.heard("by the admin"), [0]);
    assert_eq!(talk.write(other, "by somebody"), Err(SendFailure::AdminsOnly));
    talk.change(json!({ "announce": false }));
    assert_eq!(talk.write(other, "by somebody"), Ok(()));
    assert_eq!(talk.heard("by somebody"), [0]);
}

#[test]
fn nobody_writes_to_a_group_that_is_not_theirs_or_not_there() {
    let mut talk = Talk::new(1, &[contact(0)], &json!({}));
    assert_eq!(talk.write(talk.link, "hello"), Err(SendFailure::NotAMember));
    talk.group = "120363999999999999@g.us".to_owned();
    assert_eq!(talk.write(talk.link, "hello"), Err(SendFailure::UnknownGroup));
    assert_eq!(talk.pair.refused("/group", &json!({ "jid": talk.group, "add": [1] })), "jid: no such group");
}

/// The server knows a device that we have not heard of.
#[test]
fn a_sender_that_knows_too_few_devices_is_told_and_asks() {
    let mut talk = Talk::new(2, &[user(0), user(1), contact(0)], &json!({}));
    let other = talk.pair.dial(talk.pair.device(1)).expect("accepted");
    assert_eq!(talk.write(talk.link, "one"), Ok(()));
    // Unlinked, and nobody is told: one device fewer.
    talk.pair.order("/unlink", &json!({ "user": user(1).to_string() }));
    assert_eq!(talk.write(talk.link, "two"), Ok(()));
    assert_eq!(talk.stat("stalePhashes"), 1);
    assert_eq!(talk.write(talk.link, "three"), Ok(()));
    assert_eq!(talk.stat("stalePhashes"), 1, "it has asked");
    assert_eq!(texts(&talk.pair, other), ["one"]);
    assert_eq!(talk.heard("three"), [0]);
}
