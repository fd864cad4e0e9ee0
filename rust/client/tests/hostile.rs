//! What a hostile server or contact sends costs no more than it may.

mod support;

use std::{collections::HashSet, time::Duration};

use runner_client::{Effect, RecordKind, Write, content::View};
use runner_proto::node::{Node, NodeContent};
use support::{
    World,
    contact::{Contact, field, text_message},
    device_keys,
    peer::{attr, server},
};

const CHAT: &str = "15550002222@s.whatsapp.net";

fn contact() -> Contact {
    let mut contact = Contact::new(CHAT, 21);
    contact.begin(&device_keys(), None);
    contact
}

fn told<'a>(world: &'a World, tag: &str, kind: &str) -> Vec<&'a Node> {
    let stanzas = world.peer.received_with(tag).into_iter();
    stanzas.filter(|stanza| attr(stanza, "type") == kind).collect()
}

/// The same first message, made with another one-time pre-key of ours.
fn naming(enc: &Node, id: u32) -> Node {
    let NodeContent::Bytes(bytes) = &enc.content else { panic!("no ciphertext") };
    let mut named = vec![bytes[0], 0x08];
    let mut left = id;
    while left >= 0x80 {
        named.push(left as u8 | 0x80);
        left >>= 7;
    }
    named.push(left as u8);
    named.extend(&bytes[1..]);
    Node::new("enc").attr("v", "2").attr("type", "pkmsg").bytes(named)
}

#[test]
fn a_message_of_a_thousand_ciphertexts_loads_nothing_and_is_answered() {
    let mut world = World::online();
    let mut contact = contact();
    let enc = contact.enc(&text_message("x"));
    world.forget_effects();
    world.push(&contact.stanza("A").children((0..1000).map(|n| naming(&enc, 0x0040_0000 + n))));
    let loads = world.effects.iter().filter(|effect| matches!(effect, Effect::Load { .. }));
    assert_eq!(loads.count(), 0);
    assert_eq!(told(&world, "ack", "text").len(), 1);
    assert_eq!(world.client.counters().messages_undecrypted, 1);
    assert_eq!(world.client.counters().unanswered, 0);
}

#[test]
fn more_mentions_than_anybody_makes_are_not_read() {
    let context = [0x7a, 0x01, b'@'].repeat(5_000);
    let mut context = field(0, &context);
    // The head of field 17 takes two bytes.
    context.splice(..1, [0x8a, 0x01]);
    let message = field(6, &[field(1, b"hi"), context].concat());
    let view = View::read(&message).expect("a message");
    assert_eq!((view.text, view.mentions.len()), (Some("hi"), 4_096));
}

/// Whoever asks for what was never sent takes nothing from those whose messages could not be read.
#[test]
fn a_flood_of_retry_receipts_does_not_keep_us_from_asking() {
    let mut world = World::online();
    let stranger = Contact::new("15550009999@s.whatsapp.net", 99);
    for n in 0..1_000 {
        world.push(&stranger.retry(&format!("N{n}"), 1, 0, false));
    }
    world.push(&support::ciphertext("A"));
    assert_eq!(told(&world, "receipt", "retry").len(), 1);
}

/// Nor does it cost us more than its receipts: what is looked for in the store goes at a rate, and so many wait for it.
#[test]
fn a_flood_of_retry_receipts_is_looked_into_at_a_rate() {
    let mut world = World::online();
    world.forget_effects();
    let stranger = Contact::new("15550009999@s.whatsapp.net", 99);
    let loads =
        |world: &World| world.effects.iter().filter(|effect| matches!(effect, Effect::Load { .. })).count();
    let long = "N".repeat(256);
    for n in 0..3_000 {
        world.push(&stranger.retry(&format!("N{n}"), 1, 0, true));
        world.push(&stranger.retry(&format!("{long}{n}"), 1, 0, true));
    }
    let not_resent = |world: &World| world.client.counters().messages_not_resent;
    assert_eq!((loads(&world), not_resent(&world)), (60, 3_000 - 1_024), "1,024 wait");
    world.advance(Duration::from_secs(100));
    assert_eq!((loads(&world), not_resent(&world)), (160, 3_000 - 924));
    world.advance(Duration::from_secs(1_000));
    assert_eq!(not_resent(&world), 3_000);
    assert_eq!(world.client.counters().messages_resent, 0);
}

/// Nobody need ever use the key of a retry receipt, and whoever sends what cannot be read gets one each time.
#[test]
fn the_keys_of_retry_receipts_have_a_bounded_number_of_places() {
    let mut world = World::online();
    for n in 0..300 {
        for _ in 0..2 {
            world.push(&support::ciphertext(&format!("M{n}")));
            world.advance(Duration::from_secs(1));
        }
    }
    let ids: HashSet<u32> = world
        .writes()
        .filter_map(|write| match write {
            Write::PutRecord { key, .. } if key.kind == RecordKind::PreKey => key.id.parse().ok(),
            _ => None,
        })
        .collect();
    assert!((290..=300).contains(&ids.len()), "{}: hardly one takes the place of another", ids.len());
    assert!(ids.iter().all(|id| (0x0080_0000..0x0081_0000).contains(id)));
}

fn pre_keys(world: &World) -> usize {
    let is_one =
        |write: &&Write| matches!(write, Write::PutRecord { key, .. } if key.kind == RecordKind::PreKey);
    world.writes().filter(is_one).count()
}

fn low_water(id: u32) -> Node {
    Node::new("notification")
        .attr("id", id.to_string())
        .attr("type", "encrypt")
        .attr_jid("from", server())
        .child(Node::new("count").attr("value", "0"))
}

#[test]
fn a_server_that_forgets_our_pre_keys_is_not_given_them_every_few_minutes() {
    let mut world = World::new(support::device());
    world.peer.script.pre_key_count = Some(0);
    world.open();
    assert_eq!(pre_keys(&world), 812, "at once the first time");
    world.advance(Duration::from_secs(24 * 60 * 60));
    let made = pre_keys(&world) / 812;
    assert!((6..=8).contains(&made), "{made} times in a day");
    // Once it has had enough, a few are a few again.
    world.peer.script.pre_key_count = Some(800);
    world.advance(Duration::from_secs(24 * 60 * 60));
    world.forget_effects();
    world.push(&low_water(1));
    assert_eq!(pre_keys(&world), 812);
    world.peer.script.pre_key_count = Some(0);
    world.advance(Duration::from_secs(16 * 60));
    assert_eq!(pre_keys(&world), 2 * 812, "ten minutes later, with the next count");
}

#[test]
fn a_flood_of_low_counts_makes_keys_once() {
    let mut world = World::online();
    for id in 0..50 {
        world.push(&low_water(id));
    }
    assert_eq!(pre_keys(&world), 812);
}
