//! Our client against the simulator's core: hours of quiet in milliseconds, and every fault by its close reason.

mod support;

use std::time::Duration;

use runner_client::{Command, Event, Write};
use runner_proto::close_reason::CloseReason;
use runner_proto::noise::Pattern;
use runner_proto::phase::Phase;
use runner_sim::core::{AnswerRule, Fleet, HandshakeFault, Settings};
use serde_json::{Value, json};
use support::Pair;

const HOUR: Duration = Duration::from_secs(3600);

fn user(index: u32) -> String {
    Fleet::username(index).to_string()
}

/// Pain 15.
#[test]
fn a_day_of_quiet_keeps_a_session_online_and_nothing_happens() {
    let mut pair = Pair::new(1);
    let link = pair.online();
    let events = pair.links[link].events().count();
    pair.advance(24 * HOUR);
    assert_eq!(pair.links[link].client.phase(), Phase::Online);
    assert_eq!(pair.links[link].events().count(), events, "{:?}", pair.links[link].events().last());
    let counters = pair.counters();
    // One ping in 15 to 20 s, put off by whatever else is received.
    assert!((3_600..=5_800).contains(&counters.pings), "{} pings", counters.pings);
    assert_eq!((counters.logins, counters.connections, counters.protocol_errors), (1, 1, 0));
    assert_eq!((counters.duplicates, counters.unexpected_answers), (0, 0));
}

#[test]
fn every_pattern_logs_in() {
    for (fault, resume, pattern) in [
        (HandshakeFault::None, false, Pattern::Xx),
        (HandshakeFault::None, true, Pattern::Ik),
        (HandshakeFault::RefuseIk, true, Pattern::XxFallback),
    ] {
        let mut pair = Pair::with(1, Settings { handshake: fault, ..Settings::default() });
        let device = if resume { pair.resuming(0) } else { pair.device(0) };
        let link = pair.dial(device).expect("accepted");
        let online = pair.links[link]
            .events()
            .any(|event| matches!(event, Event::Online { handshake, .. } if *handshake == pattern));
        assert!(online, "{fault:?} {:?}", pair.links[link].client.closed());
    }
}

/// Logs in, orders something, waits, and tells how the client saw its end.
fn reason_after(path: &str, mut body: Value) -> (&'static str, Option<u32>) {
    let mut pair = Pair::new(1);
    let link = pair.online();
    body["user"] = json!(user(0));
    pair.order(path, &body);
    pair.advance(Duration::from_secs(120));
    let closed = pair.links[link].closed();
    (closed.reason.slug(), closed.code)
}

#[test]
fn every_stream_error_arrives_as_its_reason() {
    for (code, reason) in [
        (401, "stream_unauthorized"),
        (403, "stream_forbidden"),
        (409, "stream_conflict"),
        (413, "stream_cat_expired"),
        (414, "stream_cat_invalid"),
        (429, "stream_rate_limited"),
        (440, "stream_replaced_code"),
        (500, "stream_internal_error"),
        (503, "stream_service_unavailable"),
        (515, "stream_restart_required"),
        (516, "stream_logged_out"),
        (777, "stream_unknown"),
    ] {
        assert_eq!(reason_after("/stream-error", json!({ "code": code })), (reason, Some(code)));
    }
    let child = |child: &str, attrs: Value| json!({ "child": child, "childAttrs": attrs });
    for (body, reason) in [
        (child("conflict", json!({ "type": "replaced" })), "stream_replaced"),
        (child("conflict", json!({ "type": "other" })), "stream_conflict_other"),
        (child("ack", json!({ "class": "message", "id": "M" })), "stream_unanswered_stanza"),
        (child("xml-not-well-formed", json!({})), "stream_bad_xml"),
    ] {
        assert_eq!(reason_after("/stream-error", body.clone()).0, reason, "{body}");
    }
    let removed = json!({ "code": 401, "child": "conflict", "childAttrs": { "type": "device_removed" } });
    assert_eq!(reason_after("/stream-error", removed).0, "stream_device_removed");
    assert_eq!(reason_after("/unlink", json!({})).0, "stream_device_removed");
    assert_eq!(reason_after("/stream-end", json!({})).0, "stream_ended");
}

#[test]
fn every_end_of_a_connection_arrives_as_its_reason() {
    assert_eq!(reason_after("/close", json!({})), ("websocket_closed", Some(1000)));
    assert_eq!(reason_after("/close", json!({ "code": 1012 })), ("websocket_closed", Some(1012)));
    assert_eq!(reason_after("/close", json!({ "fin": true })).0, "connection_closed");
    assert_eq!(reason_after("/close", json!({ "hard": true })).0, "connection_reset");
    assert_eq!(reason_after("/silent", json!({ "on": true })).0, "pong_deadline");
    assert_eq!(reason_after("/silent", json!({ "on": true, "level": "socket" })).0, "pong_deadline");
}

#[test]
fn every_failure_arrives_as_its_reason() {
    for (code, reason) in [
        (400, "failure_generic"),
        (401, "failure_logged_out"),
        (402, "failure_temporary_ban"),
        (403, "failure_locked"),
        (405, "failure_client_outdated"),
        (406, "failure_banned"),
        (409, "failure_bad_user_agent"),
        (413, "failure_cat_expired"),
        (414, "failure_cat_invalid"),
        (415, "failure_not_found"),
        (418, "failure_client_unknown"),
        (429, "failure_rate_limited"),
        (500, "failure_internal_error"),
        (501, "failure_experimental"),
        (503, "failure_service_unavailable"),
        (599, "failure_unknown"),
    ] {
        let mut pair = Pair::new(1);
        let policy = json!({ "mode": "failure", "reason": code, "attrs": { "expire": "3600" }, "count": 1 });
        pair.order("/login-policy", &policy);
        let link = pair.dial(pair.device(0)).expect("accepted");
        let closed = pair.links[link].closed();
        assert_eq!((closed.reason.slug(), closed.code), (reason, Some(code)));
        if code == 402 {
            assert_eq!(closed.expire_s, Some(3600));
        }
        // The rule was for one login.
        pair.online();
    }
}

#[test]
fn malformed_bytes_are_dropped_or_end_the_session_and_never_worse() {
    // What can be opened but not read is counted and left; what breaks the channel ends it.
    for kind in ["token", "truncated", "deep", "zlib", "zip-bomb", "empty", "text", "unfinished"] {
        let mut pair = Pair::new(1);
        let link = pair.online();
        pair.order("/malformed", &json!({ "all": true, "kind": kind }));
        pair.advance(Duration::from_secs(60));
        assert_eq!(
            pair.links[link].client.phase(),
            Phase::Online,
            "{kind}: {:?}",
            pair.links[link].client.closed()
        );
    }
    for (kind, reason) in [
        ("undecryptable", "decrypt_failed"),
        ("frame-too-long", "frame_invalid"),
        ("opcode", "websocket_invalid"),
        ("masked", "websocket_invalid"),
    ] {
        assert_eq!(reason_after("/malformed", json!({ "kind": kind })).0, reason, "{kind}");
    }
}

#[test]
fn a_bad_chain_and_a_bad_handshake_are_told_apart() {
    for (chain, reason) in [
        ("bad-root-signature", "certificate_invalid"),
        ("wrong-key", "certificate_invalid"),
        ("expired", "certificate_expired"),
    ] {
        let mut pair = Pair::new(1);
        pair.order("/config", &json!({ "chain": chain }));
        let link = pair.dial(pair.device(0)).expect("accepted");
        assert_eq!(pair.links[link].reason(), reason, "{chain}");
    }
    for (fault, reason) in [
        ("garbage", "handshake_failed"),
        ("undecryptable", "handshake_failed"),
        ("silent", "handshake_timeout"),
    ] {
        let mut pair = Pair::new(1);
        pair.order("/config", &json!({ "handshake": fault }));
        let link = pair.dial(pair.device(0)).expect("accepted");
        pair.advance(Duration::from_secs(60));
        assert_eq!(pair.links[link].reason(), reason, "{fault}");
    }
    let mut pair = Pair::with(1, Settings { handshake: HandshakeFault::BreakIk, ..Settings::default() });
    let link = pair.dial(pair.resuming(0)).expect("accepted");
    assert_eq!(pair.links[link].reason(), "resume_failed");
}

#[test]
fn logins_that_are_refused_delayed_or_cut_short() {
    let login = |policy: Value| {
        let mut pair = Pair::new(1);
        pair.order("/login-policy", &policy);
        let link = pair.dial(pair.device(0)).expect("accepted");
        pair.advance(Duration::from_secs(150));
        (pair.links[link].client.phase(), pair.links[link].client.closed().map(|closed| closed.reason.slug()))
    };
    assert_eq!(login(json!({ "mode": "ignore" })).1, Some("login_timeout"));
    assert_eq!(login(json!({ "mode": "silent" })).1, Some("pong_deadline"));
    assert_eq!(login(json!({ "mode": "delay", "ms": 2000 })).0, Phase::Online);
    assert_eq!(login(json!({ "mode": "close", "instead": true, "hard": true })).1, Some("connection_reset"));
    assert_eq!(login(json!({ "mode": "close", "afterMs": 500 })).1, Some("websocket_closed"));
    assert_eq!(
        login(json!({ "mode": "stream-error", "code": 503, "afterMs": 500 })).1,
        Some("stream_service_unavailable")
    );
    assert_eq!(login(json!({ "mode": "silent", "afterSuccess": true })).1, Some("pong_deadline"));
}

#[test]
fn a_client_below_the_least_revision_is_outdated_and_the_service_worker_says_so() {
    let mut pair = Pair::new(1);
    pair.order("/config", &json!({ "minRevision": 1_100_000_000, "clientRevision": 1_100_000_000 }));
    let link = pair.dial(pair.device(0)).expect("accepted");
    assert_eq!(pair.links[link].reason(), "failure_client_outdated");
    let mut device = pair.device(0);
    device.version = [2, 3000, 1_100_000_000];
    let link = pair.dial(device).expect("accepted");
    assert_eq!(pair.links[link].client.phase(), Phase::Online);
    assert_eq!(pair.counters().outdated, 1);
}

#[test]
fn unknown_devices_are_logged_out_unless_anybody_is_welcome() {
    for (welcome, online) in [(false, false), (true, true)] {
        let mut pair = Pair::with(1, Settings { accept_anybody: welcome, ..Settings::default() });
        let stranger = pair.device(7);
        let link = pair.dial(stranger).expect("accepted");
        assert_eq!(pair.links[link].client.phase() == Phase::Online, online);
    }
    // A known user with somebody else's key.
    let mut pair = Pair::new(2);
    let mut device = pair.device(0);
    device.noise = pair.device(1).noise;
    let link = pair.dial(device).expect("accepted");
    assert_eq!(pair.links[link].reason(), "failure_logged_out");
}

#[test]
fn an_upgrade_can_be_refused_with_any_status_or_left_hanging() {
    let mut pair = Pair::new(1);
    pair.order("/refuse", &json!({ "seconds": 5, "mode": "503", "status": 429 }));
    let link = pair.dial(pair.device(0)).expect("accepted");
    let closed = pair.links[link].closed();
    assert_eq!((closed.reason.slug(), closed.code), ("upgrade_refused", Some(429)));
    pair.order("/refuse", &json!({ "seconds": 60, "mode": "hang" }));
    let link = pair.dial(pair.device(0)).expect("accepted");
    pair.advance(Duration::from_secs(30));
    assert_eq!(pair.links[link].reason(), "upgrade_timeout");
    pair.order("/refuse", &json!({ "seconds": 5, "mode": "reset" }));
    assert!(pair.dial(pair.device(0)).is_none());
    pair.advance(Duration::from_secs(5));
    pair.online();
}

/// Pain 7.
#[test]
fn the_newer_connection_of_a_device_replaces_the_older_and_is_counted() {
    let mut pair = Pair::new(1);
    let older = pair.online();
    let newer = pair.online();
    assert_eq!(pair.links[older].reason(), "stream_replaced");
    assert_eq!(pair.links[newer].client.phase(), Phase::Online);
    assert_eq!((pair.counters().duplicates, pair.counters().replaced), (1, 1));
}

#[test]
fn a_client_that_hangs_up_before_it_dials_again_is_never_counted_as_two() {
    let mut pair = Pair::new(1);
    for silent in [None, Some("app"), Some("socket")] {
        let link = pair.online();
        if let Some(level) = silent {
            pair.order("/silent", &json!({ "all": true, "on": true, "level": level }));
        }
        pair.command(link, Command::Close(CloseReason::Forced));
        pair.advance(Duration::from_secs(1));
    }
    pair.online();
    assert_eq!((pair.counters().logins, pair.counters().duplicates, pair.counters().overlaps), (4, 0, 0));
}

/// Pain 2.
#[test]
fn pushed_stanzas_are_each_answered_once() {
    let mut pair = Pair::new(1);
    let link = pair.online();
    let before = pair.counters().owed;
    for template in ["receipt", "notification", "message", "ciphertext", "call", "ping", "ib"] {
        let done = pair.order("/push", &json!({ "all": true, "n": 10, "template": template }));
        assert_eq!(done["sent"], 10, "{template}");
    }
    let counters = pair.counters();
    assert_eq!((counters.owed - before, counters.answered), (60, 60), "all but ib");
    assert_eq!(counters.unexpected_answers, 0);
    assert_eq!(pair.read("/owed")[0]["count"], 0);
    let stored = pair.links[link].writes().filter(|write| matches!(write, Write::Inbox { .. })).count();
    assert_eq!(stored, 20);
    assert_eq!(pair.read(&format!("/sent?user={}&tag=ack", user(0))).as_array().map(Vec::len), Some(50));
}

#[test]
fn frames_split_merged_or_compressed_are_understood() {
    for shape in [
        json!({ "splitBytes": 1 }),
        json!({ "splitBytes": 5 }),
        json!({ "coalesce": true }),
        json!({ "zlib": true }),
    ] {
        let mut pair = Pair::new(1);
        let mut body = shape.clone();
        body["next"] = json!(true);
        pair.order("/shape", &body);
        pair.online();
        pair.order("/push", &json!({ "all": true, "n": 20, "template": "notification", "coalesce": 7 }));
        assert_eq!(pair.counters().answered, 20, "{shape}");
        pair.advance(HOUR);
        assert_eq!(pair.counters().connections, 1, "{shape}");
    }
}

/// Pain 2.
#[test]
fn an_unanswered_stanza_ends_the_stream_after_the_limit_and_comes_again() {
    let mut pair = Pair::with(
        1,
        Settings { answer_rule: AnswerRule::AckOnly, answer_seconds: 10.0, ..Settings::default() },
    );
    let link = pair.online();
    // Answered by an ack, as this client does before it can decrypt: nothing happens.
    pair.order("/push", &json!({ "all": true, "n": 3, "template": "ciphertext" }));
    pair.advance(Duration::from_secs(30));
    assert_eq!(pair.counters().unanswered_kills, 0);
    // A client whose answers do not arrive: the commits of its store never end.
    let message = json!({ "all": true, "node": { "tag": "message", "attrs": { "id": "LOST", "from": "15550001111@s.whatsapp.net", "type": "text" } } });
    pair.order("/silent", &json!({ "all": true, "on": true, "level": "socket" }));
    pair.order("/send", &message);
    pair.advance(Duration::from_secs(11));
    assert_eq!(pair.counters().unanswered_kills, 1);
    assert_eq!(pair.links[link].reason(), "stream_unanswered_stanza");
    let again = pair.online();
    pair.advance(Duration::from_secs(5));
    let stored = pair.links[again]
        .writes()
        .any(|write| matches!(write, Write::Inbox { message_id, .. } if message_id == "LOST"));
    assert!(stored, "what was not answered is delivered again");
}

#[test]
fn a_backlog_is_announced_and_delivered_in_batches() {
    let mut pair = Pair::new(1);
    let queued =
        pair.order("/push", &json!({ "user": user(0), "n": 450, "template": "ciphertext", "offline": true }));
    assert_eq!(queued["queued"], 450);
    let link = pair.online();
    pair.advance(Duration::from_secs(2));
    let stored = pair.links[link].writes().filter(|write| matches!(write, Write::Inbox { .. })).count();
    assert_eq!(stored, 450);
    assert_eq!(pair.counters().answered, 450);
    assert_eq!(pair.read("/devices")[0]["offline"], 0);
}

#[test]
fn muted_requests_and_a_missing_backlog_end_show_as_probes() {
    let probes = |shape: Value, wait: Duration| {
        let mut pair = Pair::new(1);
        let mut body = shape;
        body["next"] = json!(true);
        pair.order("/shape", &body);
        let link = pair.online();
        pair.advance(wait);
        let slugs: Vec<_> = pair.links[link]
            .events()
            .filter_map(|event| match event {
                Event::Probe { probe, healthy: false, .. } => Some(probe.slug()),
                _ => None,
            })
            .collect();
        (slugs, pair.links[link].client.phase())
    };
    assert_eq!(probes(json!({ "mute": ["encrypt"] }), HOUR), (vec!["iq_unanswered"], Phase::Online));
    assert_eq!(probes(json!({ "muteOffline": true }), HOUR), (vec!["offline_missing"], Phase::Online));
    assert_eq!(probes(json!({}), HOUR), (vec![], Phase::Online));
}

#[test]
fn a_logout_unlinks_the_device() {
    let mut pair = Pair::new(1);
    let link = pair.online();
    pair.command(link, Command::Logout);
    pair.advance(Duration::from_secs(5));
    assert_eq!(pair.links[link].reason(), "logged_out_by_request");
    assert_eq!(pair.counters().logouts, 1);
    let again = pair.dial(pair.device(0)).expect("accepted");
    assert_eq!(pair.links[again].reason(), "failure_logged_out");
}
