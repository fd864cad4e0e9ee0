//! Stanzas that cannot be read, for an hour, by a server that ends the stream of who leaves one unanswered.

#![allow(missing_docs, reason = "a test crate")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use runner_proto::phase::Phase;
use runner_sim::core::{AnswerRule, Fleet, Settings};
use serde_json::{Value, json};
use support::Pair;

const MINUTES: usize = 60;

fn strict(answer_rule: AnswerRule) -> Pair {
    Pair::with(1, Settings { answer_rule, answer_seconds: 50.0, ..Settings::default() })
}

fn message(id: &str, enc: &str) -> Value {
    let attrs = json!({ "id": id, "from": "15550001111@s.whatsapp.net", "type": "text", "t": "1790000000" });
    json!({ "tag": "message", "attrs": attrs, "content": [{ "tag": "enc", "attrs": { "v": "2", "type": enc }, "content_b64": "MwohBQ==" }] })
}

/// Pain 2: under both rules for what counts as an answer.
#[test]
fn malformed_unknown_and_undecryptable_stanzas_end_no_stream_in_an_hour() {
    for rule in [AnswerRule::Receipt, AnswerRule::AckOnly] {
        let mut pair = strict(rule);
        let link = pair.online();
        for minute in 0..MINUTES {
            let unknown = json!({ "tag": "sticker-storm", "attrs": { "id": format!("U{minute}"), "from": "s.whatsapp.net" } });
            pair.order("/send", &json!({ "all": true, "node": unknown }));
            pair.order("/send", &json!({ "all": true, "node": message(&format!("E{minute}"), "msg") }));
            pair.order(
                "/send",
                &json!({ "all": true, "node": message(&format!("C{minute}"), "msg"), "cutBytes": 2 }),
            );
            pair.order("/malformed", &json!({ "all": true, "kind": "truncated" }));
            pair.advance(Duration::from_secs(60));
        }
        let counters = pair.counters();
        let answered = 3 * MINUTES as u64;
        assert_eq!((counters.owed, counters.answered), (answered, answered), "{rule:?}");
        assert_eq!((counters.unanswered_kills, counters.connections), (0, 1), "{rule:?}");
        assert_eq!(pair.links[link].client.phase(), Phase::Online);
        let told = pair.links[link].client.counters();
        assert_eq!((told.messages_undecrypted, told.messages_undecodable), (MINUTES as u64, MINUTES as u64));
    }
}

/// The server of the test before does what it says, to each of the three.
#[test]
fn the_stream_of_who_does_not_answer_is_ended() {
    let unknown = json!({ "tag": "sticker-storm", "attrs": { "id": "U", "from": "s.whatsapp.net" } });
    for (node, cut) in [(unknown, 0), (message("E", "msg"), 0), (message("C", "msg"), 2)] {
        let mut pair = strict(AnswerRule::Receipt);
        pair.online();
        pair.order("/silent", &json!({ "all": true, "on": true, "level": "socket" }));
        pair.order("/send", &json!({ "all": true, "node": node, "cutBytes": cut }));
        pair.advance(Duration::from_secs(51));
        assert_eq!(pair.counters().unanswered_kills, 1, "{node}");
    }
}

/// Pain 4: twenty failures a second, of ids that come again and again, for an hour.
#[test]
fn a_storm_of_failures_is_answered_and_asks_for_no_message_more_than_five_times() {
    let mut pair = strict(AnswerRule::AckOnly);
    pair.order("/config", &json!({ "sentCapacity": 200_000 }));
    let link = pair.online();
    let mut most_held = 0;
    for second in 0..3600 {
        for n in 0..20 {
            // Each id comes twenty times over the hour, and one every minute, first of its second.
            if n == 0 && second % 60 == 0 {
                pair.order("/send", &json!({ "all": true, "node": message("X", "msg") }));
            }
            let id = format!("F{}", (second * 20 + n) % 3600);
            pair.order("/send", &json!({ "all": true, "node": message(&id, "msg") }));
        }
        pair.advance(Duration::from_secs(1));
        most_held = most_held.max(pair.links[link].store.open.len());
        pair.links[link].forget_effects();
    }
    let counters = pair.counters();
    assert_eq!((counters.answered, counters.unanswered_kills, counters.connections), (72_060, 0, 1));
    let told = pair.links[link].client.counters();
    assert_eq!((told.messages_undecrypted, told.unanswered), (72_060, 0));
    assert_eq!(most_held, 0, "nothing is left of what was answered");
    let sent = pair.read(&format!("/sent?user={}&tag=receipt", Fleet::username(0)));
    let mut asked = BTreeMap::new();
    for receipt in sent.as_array().expect("a list") {
        if receipt["attrs"]["type"] == "retry" {
            *asked.entry(receipt["attrs"]["id"].as_str().unwrap_or_default().to_owned()).or_insert(0) += 1;
        }
    }
    assert_eq!(asked.get("X"), Some(&5));
    assert!(asked.values().all(|&times| times <= 5), "{asked:?}");
    let all = asked.values().sum::<u32>();
    assert!((500..=3_700).contains(&all), "one a second after the first sixty: {all}");
    // What is kept: a row and a failure for each id, keys for the retries that had some.
    let store = &pair.links[link].store;
    assert_eq!(store.inbox.len(), 3601);
    assert!(store.records.len() < 3_700, "{}", store.records.len());
}
