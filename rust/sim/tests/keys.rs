//! Our own keys at the server, and a contact's that change: the client and the simulator together.

#![allow(missing_docs, reason = "a test crate")]

mod support;

use std::time::Duration;

use runner_client::{Command, Event, RecordKey, RecordKind};
use runner_proto::close_reason::CloseReason;
use runner_sim::core::{FIRST_CONTACT, Fleet};
use serde_json::json;
use support::Pair;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn user() -> String {
    Fleet::username(0).to_string()
}

fn read(pair: &Pair, link: usize) -> usize {
    pair.links[link].store.delivered.len()
}

fn differs(pair: &Pair, link: usize) -> Vec<&'static str> {
    let what = |event: &Event| if let Event::KeysDiffer { what } = event { Some(*what) } else { None };
    pair.links[link].events().filter_map(what).collect()
}

/// Another connection of the device, with what its store has; a new signed pre-key is due if `is_due`.
fn again(pair: &mut Pair, before: usize, is_due: bool) -> usize {
    pair.with_client(before, |client, cx| client.handle_command(Command::Close(CloseReason::Stopped), cx));
    pair.exchange();
    let mut store = std::mem::take(&mut pair.links[before].store);
    if is_due {
        let key = RecordKey { kind: RecordKind::SignedPreKeyState, id: String::new() };
        let (state, _) = &store.records[&key];
        let mut state = state.expose().to_vec();
        state[13..21].fill(0);
        store.records.insert(key, (state.into(), false));
    }
    let device = pair.device(0);
    let link = pair.dial(device).expect("accepted");
    pair.links[link].store = store;
    pair.exchange();
    link
}

fn say(pair: &mut Pair, contact: u32) {
    pair.order("/say", &json!({ "user": user(), "contact": contact }));
    pair.exchange();
}

#[test]
fn a_device_of_the_fleet_has_what_the_server_has_also_after_a_contact_used_one() {
    let mut pair = Pair::new(1);
    let link = pair.online();
    assert_eq!(differs(&pair, link), [] as [&str; 0]);
    say(&mut pair, 0);
    pair.advance(3 * DAY);
    assert_eq!((read(&pair, link), differs(&pair, link)), (1, vec![]));
    let asked = pair
        .read("/sent?tag=iq")
        .as_array()
        .expect("a list")
        .iter()
        .filter(|iq| iq["child"] == "digest")
        .count();
    assert!((2..=4).contains(&asked), "about once a day: {asked}");
}

#[test]
fn keys_that_the_server_lost_are_uploaded_again() {
    let mut pair = Pair::new(1);
    let link = pair.online();
    pair.order("/lose-keys", &json!({ "user": user() }));
    assert!(pair.refused("/say", &json!({ "user": user() })).contains("no device"));
    // The count tells; the day's comparison then finds nothing to mend.
    pair.advance(Duration::from_secs(600));
    say(&mut pair, 0);
    assert_eq!(read(&pair, link), 1);
    pair.advance(2 * DAY);
    assert_eq!(differs(&pair, link), [] as [&str; 0]);
}

#[test]
fn contacts_from_before_and_after_a_rotation_are_read() {
    let mut pair = Pair::new(1);
    let first = pair.online();
    say(&mut pair, 0);
    pair.advance(DAY / 8);
    let link = again(&mut pair, first, true);
    say(&mut pair, 0);
    say(&mut pair, 1);
    assert_eq!(read(&pair, link), 3);
    assert_eq!(pair.read("/stats")["contactRetries"], 0);
    pair.advance(2 * DAY);
    assert_eq!(differs(&pair, link), [] as [&str; 0], "the server has the new one");
}

#[test]
fn a_refused_rotation_leaves_the_old_key_in_use() {
    let mut pair = Pair::new(1);
    pair.order("/config", &json!({ "rotateError": 409 }));
    let first = pair.online();
    pair.advance(DAY / 8);
    let link = again(&mut pair, first, true);
    say(&mut pair, 0);
    assert_eq!((read(&pair, link), pair.read("/stats")["contactRetries"].clone()), (1, json!(0)));
    assert_eq!(differs(&pair, link), [] as [&str; 0]);
    pair.order("/config", &json!({ "rotateError": 0 }));
    pair.advance(2 * DAY);
    say(&mut pair, 1);
    assert_eq!((read(&pair, link), differs(&pair, link)), (2, vec![]));
}

#[test]
fn a_contact_with_a_new_phone_is_told_of_and_read() {
    let mut pair = Pair::new(1);
    let link = pair.online();
    say(&mut pair, 0);
    say(&mut pair, 1);
    let told = pair.order("/new-identity", &json!({ "contact": 0 }));
    assert_eq!(told["targets"], 1);
    pair.exchange();
    let changed = |pair: &Pair| {
        pair.links[link].events().filter(|event| matches!(event, Event::IdentityChanged { .. })).count()
    };
    assert_eq!(changed(&pair), 1);
    let may_send = |pair: &Pair, contact: u64| {
        let id = format!("9{}_1.0", FIRST_CONTACT + contact);
        let (record, _) = &pair.links[link].store.records[&RecordKey { kind: RecordKind::Session, id }];
        runner_signal::session::summary(record.expose()).expect("a record").current.is_some()
    };
    assert_eq!((may_send(&pair, 0), may_send(&pair, 1)), (false, true));
    say(&mut pair, 0);
    assert_eq!((read(&pair, link), changed(&pair)), (3, 2), "its first message has the new key");
    assert!(may_send(&pair, 0));
    assert_eq!(pair.read("/owed")[0]["count"], 0);
}
