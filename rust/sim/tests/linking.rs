//! A new device and the simulator's phone: every way to be linked, and every way not to be.

mod support;

use std::time::Duration;

use prost::Message as _;
use runner_client::{Command, CommitFailed, Event, LinkedDevice, NoCode, RecordKind, Write};
use runner_proto::adv::SignedDeviceIdentity;
use runner_proto::close_reason::CloseReason;
use runner_proto::jid::{Jid, Server};
use runner_proto::phase::Phase;
use runner_signal::{PublicKey, identity};
use runner_sim::core::Settings;
use serde_json::{Value, json};
use support::Pair;

const PHONE: &str = "15550001111";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The QR codes that were shown, with their times to live in seconds.
fn codes(pair: &Pair, link: usize) -> Vec<(String, u64)> {
    let shown = |event: &Event| match event {
        Event::Qr { text, ttl, .. } => Some((text.0.clone(), ttl.as_secs())),
        _ => None,
    };
    pair.links[link].events().filter_map(shown).collect()
}

fn newest_code(pair: &Pair, link: usize) -> String {
    codes(pair, link).pop().expect("a code is shown").0
}

fn linked(pair: &Pair, link: usize) -> Option<LinkedDevice> {
    let device =
        |write: &Write| if let Write::Device(device) = write { Some((**device).clone()) } else { None };
    pair.links[link].writes().find_map(device)
}

fn happened(pair: &mut Pair, kind: &str) -> Vec<Value> {
    let events = pair.read("/events");
    events.as_array().expect("events").iter().filter(|event| event["type"] == kind).cloned().collect()
}

/// Asks for a pairing code and lets the stretching run.
fn ask_code(pair: &mut Pair, link: usize) -> String {
    pair.command(link, Command::LinkByCode { phone: Jid::new(PHONE, Server::Pn) });
    pair.advance(seconds(2));
    let shown =
        |event: &Event| if let Event::Code { text, .. } = event { Some(text.0.clone()) } else { None };
    pair.links[link].events().filter_map(shown).last().expect("a code is offered")
}

fn no_codes(pair: &Pair, link: usize) -> Vec<NoCode> {
    let told = |event: &Event| if let Event::NoCode(why) = event { Some(*why) } else { None };
    pair.links[link].events().filter_map(told).collect()
}

/// The linked device is told to connect anew, and logs in.
fn assert_logs_in(pair: &mut Pair, link: usize, phone: &str) {
    pair.advance(seconds(1));
    assert_eq!(pair.links[link].reason(), "stream_restart_required");
    assert!(pair.links[link].events().any(|event| matches!(event, Event::Linked)));
    let device = linked(pair, link).expect("durable");
    assert!(device.jid.starts_with(&format!("{phone}:")) && device.jid.ends_with("@s.whatsapp.net"));
    assert_eq!(device.platform.as_deref(), Some("android"));
    let device = pair.linked(&device);
    let next = pair.dial(device).expect("accepted");
    assert_eq!(pair.links[next].client.phase(), Phase::Online, "{:?}", pair.links[next].client.closed());
    assert_eq!((pair.counters().paired, pair.counters().protocol_errors), (1, 0));
    let owed = pair.read("/owed");
    assert!(owed.as_array().expect("rows").iter().all(|row| row["count"] == 0), "{owed}");
}

#[test]
fn a_scanned_code_links_the_device_and_it_logs_in() {
    let mut pair = Pair::new(1);
    let link = pair.dial_new();
    let qr = newest_code(&pair, link);
    assert!(qr.starts_with("https://wa.me/settings/linked_devices#2@sim-"), "{qr}");
    assert_eq!(qr.split(',').count(), 5);
    let told = pair.order("/pair", &json!({ "qr": qr, "phone": PHONE }));
    assert_eq!(told["jid"], format!("{PHONE}:2@s.whatsapp.net"));
    assert_logs_in(&mut pair, link, PHONE);
    // A second device of the same phone gets another number, and the first is left alone.
    let link = pair.dial_new();
    let qr = newest_code(&pair, link);
    let told = pair.order("/pair", &json!({ "qr": qr, "phone": PHONE }));
    assert_eq!(told["jid"], format!("{PHONE}:3@s.whatsapp.net"));
}

/// Whoever writes as the phone afterwards, and is not, is told of like any contact that was linked anew.
#[test]
fn the_key_by_which_the_phone_consented_is_the_phones_identity() {
    let mut pair = Pair::new(1);
    let link = pair.dial_new();
    let qr = newest_code(&pair, link);
    pair.order("/pair", &json!({ "qr": qr, "phone": PHONE }));
    let device = linked(&pair, link).expect("durable");
    let account = SignedDeviceIdentity::decode(device.account.as_slice()).expect("an identity");
    let lid: Jid = device.lid.expect("the server said it").parse().expect("a JID");
    let identities: Vec<_> = pair.links[link]
        .writes()
        .filter_map(|write| match write {
            Write::PutRecord { key, value } if key.kind == RecordKind::Identity => {
                Some((key.id.clone(), identity::from_record(value.expose()).expect("a record")))
            }
            _ => None,
        })
        .collect();
    let key = account.account_signature_key.expect("the account's");
    let expected = PublicKey::new(key.try_into().expect("32 bytes"));
    assert_eq!(identities, [(format!("{}_1.0", lid.user), expected)]);
}

#[test]
fn phones_that_link_at_once_give_each_device_a_number_of_its_own() {
    let mut pair = Pair::new(1);
    pair.commits = None;
    let links = [pair.dial_new(), pair.dial_new(), pair.dial_new()];
    let mut given = Vec::new();
    for link in links {
        let qr = newest_code(&pair, link);
        given.push(pair.order("/pair", &json!({ "qr": qr }))["jid"].clone());
    }
    given.dedup();
    assert_eq!(given.len(), 3, "{given:?}");
    pair.commits = Some(Ok(()));
    pair.exchange();
    assert_eq!(pair.counters().paired, 3);
}

/// Pain 19.
#[test]
fn six_codes_are_shown_for_a_minute_and_five_times_twenty_seconds_and_then_the_socket_closes() {
    let mut pair = Pair::new(1);
    let link = pair.dial_new();
    pair.advance(seconds(159));
    let shown = codes(&pair, link);
    assert_eq!(shown.iter().map(|(_, ttl)| *ttl).collect::<Vec<_>>(), [60, 20, 20, 20, 20, 20]);
    let mut different: Vec<_> = shown.iter().map(|(text, _)| text).collect();
    different.dedup();
    assert_eq!(different.len(), 6);
    assert_eq!(pair.links[link].client.phase(), Phase::Authenticating);
    assert!(pair.counters().pings > 0, "the connection is kept alive meanwhile");
    pair.advance(seconds(1));
    assert_eq!(pair.links[link].reason(), "pairing_expired");
}

#[test]
fn a_phone_refuses_a_code_of_the_past() {
    let mut pair = Pair::new(1);
    let link = pair.dial_new();
    let old = newest_code(&pair, link);
    pair.advance(seconds(70));
    let why = pair.refused("/pair", &json!({ "qr": old }));
    assert!(why.contains("expired"), "{why}");
    let qr = newest_code(&pair, link);
    pair.order("/pair", &json!({ "qr": qr, "phone": PHONE }));
    assert_logs_in(&mut pair, link, PHONE);
}

#[test]
fn a_code_that_is_none_or_of_somebody_else_is_refused() {
    let mut pair = Pair::new(1);
    let (one, other) = (pair.dial_new(), pair.dial_new());
    let (one, other) = (newest_code(&pair, one), newest_code(&pair, other));
    let (reference, _) = one.split_once(',').expect("parts");
    let (_, keys) = other.split_once(',').expect("parts");
    for wrong in ["", "a,b,c,d,e", &format!("{reference},{keys}"), &one.replace("2@sim", "2@else")] {
        pair.refused("/pair", &json!({ "qr": wrong }));
    }
}

#[test]
fn a_consent_under_another_secret_or_for_another_device_is_refused_and_nothing_is_kept() {
    for (fault, why) in [("bad-hmac", "hmac-mismatch"), ("bad-signature", "signature-mismatch")] {
        let mut pair = Pair::new(1);
        let link = pair.dial_new();
        let qr = newest_code(&pair, link);
        pair.order("/pair", &json!({ "qr": qr, "fault": fault }));
        assert_eq!(pair.links[link].reason(), "pairing_invalid");
        assert!(linked(&pair, link).is_none(), "{fault}");
        assert_eq!(happened(&mut pair, "pairing-refused")[0]["why"], why);
        assert_eq!(pair.counters().paired, 0);
    }
}

/// Pain 11.
#[test]
fn the_server_hears_nothing_before_the_device_is_durable() {
    let mut pair = Pair::new(1);
    let link = pair.dial_new();
    pair.commits = None;
    let qr = newest_code(&pair, link);
    pair.order("/pair", &json!({ "qr": qr, "phone": PHONE }));
    pair.advance(seconds(5));
    assert!(linked(&pair, link).is_some(), "asked for");
    assert_eq!(pair.counters().paired, 0, "not durable");
    pair.commits = Some(Ok(()));
    pair.exchange();
    assert_logs_in(&mut pair, link, PHONE);
}

#[test]
fn a_device_that_could_not_be_kept_is_never_answered() {
    for (outcome, reason) in [
        (CommitFailed::Store, "store_stalled"),
        (CommitFailed::Refused, "pairing_invalid"),
        (CommitFailed::UnknownSession, "device_missing"),
    ] {
        let mut pair = Pair::new(1);
        let link = pair.dial_new();
        pair.commits = Some(Err(outcome));
        let qr = newest_code(&pair, link);
        pair.order("/pair", &json!({ "qr": qr }));
        assert_eq!((pair.links[link].reason(), pair.counters().paired), (reason, 0));
        assert!(!pair.links[link].events().any(|event| matches!(event, Event::Linked)));
    }
}

#[test]
fn without_a_word_of_the_server_the_linked_device_connects_anew_by_itself() {
    let mut pair = Pair::new(1);
    let link = pair.dial_new();
    let qr = newest_code(&pair, link);
    pair.order("/pair", &json!({ "qr": qr, "phone": PHONE, "fault": "no-restart" }));
    pair.advance(seconds(9));
    assert_eq!(pair.links[link].client.phase(), Phase::Closing);
    pair.advance(seconds(1));
    assert_logs_in(&mut pair, link, PHONE);
}

#[test]
fn a_phone_that_says_nothing_leaves_the_next_code_to_scan() {
    let mut pair = Pair::new(1);
    let link = pair.dial_new();
    let qr = newest_code(&pair, link);
    pair.order("/pair", &json!({ "qr": qr, "phone": PHONE, "fault": "silent" }));
    pair.advance(seconds(61));
    let qr = newest_code(&pair, link);
    pair.order("/pair", &json!({ "qr": qr, "phone": PHONE }));
    assert_logs_in(&mut pair, link, PHONE);
}

#[test]
fn a_business_has_the_name_that_others_see() {
    let mut pair = Pair::new(1);
    let link = pair.dial_new();
    let qr = newest_code(&pair, link);
    pair.order("/pair", &json!({ "qr": qr, "phone": PHONE, "business": "Loja da Ana" }));
    assert_eq!(linked(&pair, link).expect("linked").push_name.as_deref(), Some("Loja da Ana"));
    let link = pair.dial_new();
    let qr = newest_code(&pair, link);
    pair.order("/pair", &json!({ "qr": qr }));
    assert_eq!(linked(&pair, link).expect("linked").push_name, None);
}

#[test]
fn a_typed_code_links_the_device() {
    let mut pair = Pair::new(1);
    let link = pair.dial_new();
    let code = ask_code(&mut pair, link);
    assert_eq!((code.len(), code.find('-')), (9, Some(4)), "{code}");
    pair.order("/enter-code", &json!({ "phone": PHONE, "code": code.to_lowercase() }));
    pair.advance(seconds(2));
    assert_logs_in(&mut pair, link, PHONE);
}

#[test]
fn a_code_can_be_asked_for_before_the_server_knows_the_device() {
    let mut pair = Pair::new(1);
    pair.order("/login-policy", &json!({ "mode": "delay", "ms": 3000 }));
    let link = pair.dial_new();
    assert!(codes(&pair, link).is_empty());
    pair.command(link, Command::LinkByCode { phone: Jid::new(PHONE, Server::Pn) });
    pair.advance(seconds(10));
    assert!(pair.links[link].events().any(|event| matches!(event, Event::Code { .. })));
}

#[test]
fn a_mistyped_code_links_nothing_and_can_be_typed_again_but_not_for_ever() {
    let mut pair = Pair::new(1);
    let link = pair.dial_new();
    let code = ask_code(&mut pair, link);
    for _ in 0..2 {
        pair.order("/enter-code", &json!({ "phone": PHONE, "code": "11111111" }));
        pair.advance(seconds(2));
    }
    assert_eq!((happened(&mut pair, "code-wrong").len(), pair.counters().paired), (2, 0));
    pair.order("/enter-code", &json!({ "phone": PHONE, "code": code }));
    pair.advance(seconds(2));
    assert_logs_in(&mut pair, link, PHONE);

    let link = pair.dial_new();
    let code = ask_code(&mut pair, link);
    for _ in 0..4 {
        pair.order("/enter-code", &json!({ "phone": PHONE, "code": "11111111" }));
        pair.advance(seconds(2));
    }
    assert_eq!(no_codes(&pair, link), [NoCode::Spent]);
    pair.order("/enter-code", &json!({ "phone": PHONE, "code": code }));
    pair.advance(seconds(2));
    assert_eq!(pair.counters().paired, 1, "the code is void");
}

#[test]
fn a_qr_code_stays_good_beside_a_typed_one() {
    let mut pair = Pair::new(1);
    let link = pair.dial_new();
    ask_code(&mut pair, link);
    pair.order("/enter-code", &json!({ "phone": PHONE, "code": "11111111" }));
    pair.advance(seconds(2));
    let qr = newest_code(&pair, link);
    pair.order("/pair", &json!({ "qr": qr, "phone": PHONE }));
    assert_logs_in(&mut pair, link, PHONE);
}

#[test]
fn a_code_gives_the_person_three_minutes_and_no_connection_lasts_for_ever() {
    let mut pair = Pair::new(1);
    let link = pair.dial_new();
    pair.advance(seconds(150));
    ask_code(&mut pair, link);
    pair.advance(seconds(170));
    assert_eq!(pair.links[link].client.phase(), Phase::Authenticating, "longer than the QR codes last");
    for _ in 0..2 {
        ask_code(&mut pair, link);
        pair.advance(seconds(100));
    }
    pair.command(link, Command::LinkByCode { phone: Jid::new(PHONE, Server::Pn) });
    assert_eq!(no_codes(&pair, link), [NoCode::TooMany]);
    pair.advance(seconds(81));
    assert_eq!(pair.links[link].reason(), "pairing_expired");
    assert_eq!(pair.counters().connections, 1);
}

#[test]
fn a_server_that_refuses_a_code_is_heard() {
    let mut pair = Pair::with(1, Settings { link_code_error: 429, ..Settings::default() });
    let link = pair.dial_new();
    pair.command(link, Command::LinkByCode { phone: Jid::new(PHONE, Server::Pn) });
    pair.advance(seconds(2));
    assert_eq!(no_codes(&pair, link), [NoCode::Refused(Some(429))]);
    assert_eq!(pair.links[link].client.phase(), Phase::Authenticating, "the QR codes go on");
}

#[test]
fn a_registration_can_be_refused_like_a_login() {
    for (policy, reason) in [
        (json!({ "mode": "failure", "reason": 403 }), "failure_locked"),
        (json!({ "mode": "close", "instead": true }), "websocket_closed"),
        (json!({ "mode": "ignore" }), "login_timeout"),
    ] {
        let mut pair = Pair::new(1);
        pair.order("/login-policy", &policy);
        let link = pair.dial_new();
        pair.advance(seconds(60));
        assert_eq!(pair.links[link].reason(), reason, "{policy}");
    }
    let mut pair = Pair::with(1, Settings { min_revision: u32::MAX, ..Settings::default() });
    let link = pair.dial_new();
    pair.advance(seconds(1));
    assert_eq!(pair.links[link].reason(), "failure_client_outdated");
}

#[test]
fn a_device_being_linked_stores_no_messages_and_never_counts_as_online() {
    let mut pair = Pair::new(1);
    let link = pair.dial_new();
    pair.order("/push", &json!({ "all": true, "n": 3, "template": "ciphertext" }));
    pair.order("/send", &json!({ "all": true, "node": { "tag": "success", "attrs": { "t": "1" } } }));
    pair.advance(seconds(5));
    assert_eq!(pair.links[link].writes().count(), 0);
    assert!(!pair.links[link].events().any(|event| matches!(event, Event::Online { .. })));
    pair.command(link, Command::Close(CloseReason::Stopped));
    assert_eq!(pair.links[link].reason(), "stopped");
}

#[test]
fn nothing_that_links_a_device_shows_in_debug_output() {
    let mut pair = Pair::new(1);
    let link = pair.dial_new();
    let qr = newest_code(&pair, link);
    let code = ask_code(&mut pair, link);
    pair.order("/pair", &json!({ "qr": qr, "phone": PHONE }));
    let shown = format!("{:?} {:?}", pair.links[link].client, pair.links[link].events().collect::<Vec<_>>());
    let secret = qr.split(',').nth(3).expect("the secret");
    for hidden in [secret, &qr, &code, &code.replace('-', "")] {
        assert!(!shown.contains(hidden), "{hidden}");
    }
}
