//! A new device on real sockets: linked, kept, and logged in.

use crate::support::{World, of};
use runner_client::NoCode;
use runner_engine::{Event, EventKind};
use runner_proto::close_reason::CloseReason;
use runner_store::{DeviceError, ErrorKind};
use serde_json::json;
use std::time::Duration;

const PHONE: u64 = 15_550_001_111;

fn wait_qr(world: &World, session_id: &str, connection: u64) -> String {
    let is_qr =
        |event: &Event| matches!(event.kind, EventKind::Qr { .. }) && of(event, session_id, connection);
    match world.bench.wait("qr", is_qr).kind {
        EventKind::Qr { text, .. } => text.0,
        _ => unreachable!("waited for it"),
    }
}

fn wait_code(world: &World) -> Result<String, NoCode> {
    let is_code =
        |event: &Event| matches!(event.kind, EventKind::PairingCode { .. } | EventKind::NoPairingCode(_));
    match world.bench.wait("a code or none", is_code).kind {
        EventKind::PairingCode { text, .. } => Ok(text.0),
        EventKind::NoPairingCode(why) => Err(why),
        _ => unreachable!("waited for it"),
    }
}

/// The device is in the store when the engine says so, and logs in on the next connection.
fn assert_linked(world: &World, session_id: &str) {
    world.bench.wait("linked", |event| matches!(event.kind, EventKind::Linked));
    let device = world.bench.store.device(session_id).expect("kept");
    assert_eq!(device.credentials.jid, format!("{PHONE}:2@s.whatsapp.net"));
    assert_eq!(world.bench.wait_closed(session_id, 1).reason, CloseReason::StreamRestartRequired);
    world.bench.open_to_link(session_id, 2);
    world.bench.wait_online(session_id, 2);
}

#[test]
fn a_scanned_session_is_kept_and_logs_in() {
    let world = World::secure(0);
    world.bench.store.create("new").expect("free");
    world.bench.open_to_link("new", 1);
    let qr = wait_qr(&world, "new", 1);
    world.post("/pair", &json!({ "qr": qr, "phone": PHONE }));
    assert_linked(&world, "new");
}

#[test]
fn a_session_is_linked_by_a_typed_code() {
    let world = World::plain(0);
    world.bench.store.create("new").expect("free");
    world.bench.open_to_link("new", 1);
    wait_qr(&world, "new", 1);
    world.bench.engine.link_by_code("new", 1, PHONE).expect("runs");
    let code = wait_code(&world).expect("offered");
    world.post("/enter-code", &json!({ "code": code, "phone": PHONE }));
    assert_linked(&world, "new");
}

/// Pain 9.
#[test]
fn of_many_codes_one_is_stretched_a_little_in_each_turn() {
    const DEVICES: u64 = 4;
    // 2^17 rounds, 2,048 at a time.
    const SLICES: u64 = 64;
    let world = World::plain(0);
    let names: Vec<_> = (0..DEVICES).map(|device| format!("new{device}")).collect();
    for name in &names {
        world.bench.store.create(name).expect("free");
        world.bench.open_to_link(name, 1);
        wait_qr(&world, name, 1);
    }
    let before = world.bench.engine.stats().turns_total;
    for (name, phone) in names.iter().zip(PHONE..) {
        world.bench.engine.link_by_code(name, 1, phone).expect("runs");
    }
    for _ in &names {
        wait_code(&world).expect("offered");
    }
    let turns = world.bench.engine.stats().turns_total - before;
    assert!(turns >= DEVICES * SLICES, "{turns} turns, between which others are served");
}

#[test]
fn a_session_without_a_device_is_linked_only_where_that_is_asked_for() {
    let world = World::plain(1);
    world.bench.store.create("new").expect("free");
    world.bench.open("new", 1);
    assert_eq!(world.bench.wait_closed("new", 1).reason, CloseReason::DeviceMissing);
    world.bench.open_to_link("nobody", 1);
    assert_eq!(world.bench.wait_closed("nobody", 1).reason, CloseReason::DeviceMissing);
    world.bench.open_to_link("s0", 1);
    world.bench.wait("linked", |event| matches!(event.kind, EventKind::Linked));
    world.bench.wait_online("s0", 1);
}

/// Pain 19.
#[test]
fn codes_that_nobody_scans_end_with_the_connection() {
    let world = World::plain(0);
    world.bench.store.create("new").expect("free");
    world.bench.open_to_link("new", 1);
    let first = wait_qr(&world, "new", 1);
    world.bench.advance(Duration::from_secs(60));
    assert_ne!(wait_qr(&world, "new", 1), first);
    for _ in 0..5 {
        world.bench.advance(Duration::from_secs(20));
    }
    assert_eq!(world.bench.wait_closed("new", 1).reason, CloseReason::PairingExpired);
    assert_eq!(world.bench.store.device("new"), Err(DeviceError::NotLinked));
}

/// Pain 11.
#[test]
fn a_device_that_another_session_holds_is_refused_and_the_store_is_not_to_blame() {
    let world = World::plain(1);
    world.bench.store.create("new").expect("free");
    world.bench.open_to_link("new", 1);
    let qr = wait_qr(&world, "new", 1);
    let held = world.bench.store.device("s0").expect("imported").credentials.jid;
    world.post("/pair", &json!({ "qr": qr, "jid": held }));
    assert_eq!(world.bench.wait_closed("new", 1).reason, CloseReason::PairingInvalid);
    assert_eq!(world.bench.store.device("new"), Err(DeviceError::NotLinked));
    let told_of_store = |event: &Event| matches!(event.kind, EventKind::Store { .. });
    assert!(!world.bench.rest().iter().any(told_of_store));
    assert_eq!(world.bench.store.create("s0").map_err(|error| error.kind), Err(ErrorKind::Exists));
}
