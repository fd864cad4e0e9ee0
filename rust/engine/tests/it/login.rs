//! From `open` to `online`, and what comes in after it.

use crate::support::{Bench, World, of};
use runner_engine::EventKind;
use runner_proto::close_reason::CloseReason;
use runner_proto::noise::Pattern;
use runner_proto::phase::Phase;
use serde_json::json;

fn phases(world: &World, session_id: &str, connection: u64) -> Vec<Phase> {
    let of_phase = |kind| if let EventKind::Phase(phase) = kind { Some(phase) } else { None };
    let events = world.bench.rest().into_iter().filter(|event| of(event, session_id, connection));
    events.filter_map(|event| of_phase(event.kind)).collect()
}

#[test]
fn a_device_logs_in_over_ws_through_all_phases() {
    let world = World::plain(1);
    world.bench.open("s0", 1);
    let online = world.bench.wait_online("s0", 1);
    assert!(matches!(online.kind, EventKind::Online { handshake: Pattern::Xx, .. }));
    let expected =
        [Phase::Dialling, Phase::Upgrading, Phase::Handshaking, Phase::Authenticating, Phase::Online];
    assert_eq!(phases(&world, "s0", 1), expected);
    let totals = world.bench.totals("s0");
    assert!(totals.frames_received > 0 && totals.bytes_sent > 0 && totals.online_since.is_some());
    assert_eq!(world.bench.engine.stats().online, 1);
}

#[test]
fn a_second_login_over_tls_uses_the_ticket_of_the_first() {
    let world = World::secure(2);
    world.bench.open("s0", 1);
    world.bench.wait_online("s0", 1);
    assert_eq!(world.bench.engine.stats().tls_resumed_total, 0);
    assert!(phases(&world, "s0", 1).starts_with(&[Phase::Dialling, Phase::Securing, Phase::Upgrading]));
    world.bench.open("s1", 1);
    world.bench.wait_online("s1", 1);
    assert_eq!(world.bench.engine.stats().tls_resumed_total, 1, "sessions share the tickets");
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    let world = World::start(1, true, |config| config.tls_ca_pem = None);
    world.bench.open("s0", 1);
    let closed = world.bench.wait_closed("s0", 1);
    assert_eq!((closed.reason, closed.phase), (CloseReason::TlsCertificateInvalid, Phase::Securing));
}

#[test]
fn the_wrong_root_key_is_refused_in_the_noise_handshake() {
    let world = World::plain(0);
    let bench = Bench::start(world.sim.url(), 1, |_| ());
    bench.open("s0", 1);
    let closed = bench.wait_closed("s0", 1);
    assert_eq!((closed.reason, closed.phase), (CloseReason::CertificateInvalid, Phase::Handshaking));
}

#[test]
fn a_stored_server_key_resumes_the_next_connection_when_allowed() {
    let world = World::plain(1);
    world.bench.open("s0", 1);
    world.bench.wait_online("s0", 1);
    world.bench.engine.close("s0", 1, CloseReason::Stopped).expect("running");
    world.bench.wait_closed("s0", 1);
    world.bench.open_resuming("s0", 2);
    let online = world.bench.wait_online("s0", 2);
    assert!(matches!(online.kind, EventKind::Online { handshake: Pattern::Ik, .. }), "{online:?}");
}

#[test]
fn a_message_is_in_the_store_before_it_is_told_and_is_answered() {
    let world = World::plain(1);
    world.bench.open("s0", 1);
    world.bench.wait_online("s0", 1);
    let mut push = World::target(0);
    push["template"] = json!("message");
    push["n"] = json!(3);
    world.post("/push", &push);
    let mut messages = Vec::new();
    while messages.len() < 3 {
        world.bench.wait("messages", |event| matches!(event.kind, EventKind::Messages));
        messages = world.bench.store.take(0, 10).expect("a readable store");
    }
    assert!(messages.iter().all(|message| message.session_id == "s0"));
}

#[test]
fn totals_go_on_over_connections() {
    let world = World::plain(1);
    world.bench.open("s0", 1);
    world.bench.wait_online("s0", 1);
    world.bench.engine.close("s0", 1, CloseReason::Stopped).expect("running");
    world.bench.wait_closed("s0", 1);
    let first = world.bench.totals("s0");
    world.bench.open("s0", 2);
    world.bench.wait_online("s0", 2);
    assert!(world.bench.totals("s0").frames_received > first.frames_received);
    world.bench.engine.close("s0", 2, CloseReason::Stopped).expect("running");
    world.bench.wait_closed("s0", 2);
    world.bench.engine.forget("s0").expect("running");
    let mut rows = 0;
    world.bench.engine.counters(|_| rows += 1);
    assert_eq!(rows, 0);
}
