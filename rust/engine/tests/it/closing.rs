//! Ends: exactly one `closed` for each `open`, nothing left behind.

use crate::support::{Bench, World};
use runner_engine::{Event, EventKind, OpenRequest, Refused};
use runner_proto::close_reason::CloseReason;
use runner_proto::phase::Phase;
use serde_json::json;
use std::collections::HashMap;

#[test]
fn a_dropped_connection_is_told_once_with_how_it_ended() {
    let world = World::plain(2);
    for (connection, body, reasons) in [
        (1, json!({}), [CloseReason::ConnectionReset, CloseReason::ConnectionClosed]),
        (2, json!({ "hard": false }), [CloseReason::WebsocketClosed, CloseReason::WebsocketClosed]),
    ] {
        world.bench.open("s0", connection);
        world.bench.wait_online("s0", connection);
        world.post("/drop-all", &body);
        let closed = world.bench.wait_closed("s0", connection);
        assert!(reasons.contains(&closed.reason), "{closed:?}");
        assert_eq!(closed.phase, Phase::Online);
    }
}

#[test]
fn closing_a_connection_that_is_not_there_any_more_is_harmless() {
    let world = World::plain(1);
    world.bench.open("s0", 2);
    world.bench.wait_online("s0", 2);
    world.bench.engine.close("s0", 1, CloseReason::Stopped).expect("running");
    world.bench.engine.close("other", 1, CloseReason::Stopped).expect("running");
    world.bench.engine.close("s0", 2, CloseReason::Stopped).expect("running");
    assert_eq!(world.bench.wait_closed("s0", 2).reason, CloseReason::Stopped);
    let closed = |kind: &EventKind| matches!(kind, EventKind::Closed(_));
    assert!(!world.bench.rest().iter().any(|event| closed(&event.kind)), "once");
}

#[test]
fn shutdown_closes_all_and_says_stopped_last() {
    let world = World::plain(5);
    for index in 0..5 {
        world.bench.open(&format!("s{index}"), 1);
    }
    for index in 0..4 {
        world.bench.wait_online(&format!("s{index}"), 1);
    }
    world.bench.engine.shutdown().expect("running");
    for index in 0..5 {
        assert_eq!(world.bench.wait_closed(&format!("s{index}"), 1).reason, CloseReason::Shutdown);
    }
    world.bench.wait("stopped", |event| matches!(event.kind, EventKind::Stopped));
    let version = [2, 3000, 1];
    let again =
        OpenRequest { session_id: "s0", connection: 2, version, proxy: None, resume: false, pair: false };
    assert_eq!(world.bench.engine.open(again), Err(Refused::Stopped));
}

#[test]
fn an_open_that_was_accepted_during_the_shutdown_is_closed_all_the_same() {
    for _ in 0..20 {
        let bench = Bench::start("ws://127.0.0.1:1/", 0, |_| ());
        bench.engine.shutdown().expect("running");
        let open = |number: usize| {
            let (session_id, version) = (&*format!("s{number}"), [2, 3000, 1]);
            bench.engine.open(OpenRequest {
                session_id,
                connection: 1,
                version,
                proxy: None,
                resume: false,
                pair: false,
            })
        };
        let accepted = (0..).take_while(|&number| open(number).is_ok()).count();
        bench.wait("stopped", |event| matches!(event.kind, EventKind::Stopped));
        let closed = |event: &&Event| matches!(event.kind, EventKind::Closed(_));
        assert_eq!(bench.rest().iter().filter(closed).count(), accepted);
    }
}

/// Sockets of this process whose other end is `port`; other tests of the process use other ports.
fn sockets_to(port: u64) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("procfs");
    let remote = format!(":{port:04X}");
    let inodes: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.get(2).is_some_and(|address| address.ends_with(&remote)))
        .filter_map(|columns| columns.get(9).map(|inode| format!("socket:[{inode}]")))
        .collect();
    let links = std::fs::read_dir("/proc/self/fd").expect("procfs").flatten();
    let names = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    names.filter(|name| inodes.iter().any(|inode| name.as_os_str() == inode.as_str())).count()
}

/// Pain #8. Closes at every stage of a connection's life: opens are closed after 0, 1, 2 … phases.
#[test]
fn a_thousand_open_and_close_cycles_leak_no_descriptor_and_close_once_each() {
    const SESSIONS: u64 = 50;
    let world = World::plain(SESSIONS as u32);
    world.bench.open("s0", 1);
    world.bench.wait_online("s0", 1);
    world.bench.engine.close("s0", 1, CloseReason::Stopped).expect("running");
    world.bench.wait_closed("s0", 1);
    let port = world.sim.info()["port"].as_u64().expect("a port");
    assert_eq!(sockets_to(port), 0);
    let mut closed_again: HashMap<(String, u64), usize> = HashMap::new();
    for round in 0..20_u64 {
        for index in 0..SESSIONS {
            world.bench.open(&format!("s{index}"), round + 2);
        }
        for index in 0..SESSIONS {
            let session_id = format!("s{index}");
            if (index + round) % 5 == 0 {
                world.bench.wait_online(&session_id, round + 2);
            }
            world.bench.engine.close(&session_id, round + 2, CloseReason::Stopped).expect("running");
        }
        for index in 0..SESSIONS {
            world.bench.wait_closed(&format!("s{index}"), round + 2);
        }
        for event in world.bench.rest() {
            if let EventKind::Closed(_) = event.kind {
                *closed_again.entry((event.session_id.to_string(), event.connection)).or_default() += 1;
            }
        }
    }
    assert!(closed_again.is_empty(), "closed twice: {closed_again:?}");
    assert_eq!(world.bench.engine.stats().sessions, 0);
    assert_eq!(sockets_to(port), 0);
}

#[test]
fn nothing_of_a_closed_connection_lives_on_in_its_totals() {
    let world = World::plain(1);
    world.bench.open("s0", 1);
    world.bench.wait_online("s0", 1);
    let before = world.bench.totals("s0");
    assert!(before.online_since.is_some());
    world.post("/drop-all", &json!({}));
    world.bench.wait_closed("s0", 1);
    let after = world.bench.totals("s0");
    assert_eq!((after.online_since, after.unanswered), (None, 0));
    world.bench.open("s0", 2);
    world.bench.wait_online("s0", 2);
    let next = world.bench.totals("s0");
    let pairs = [
        (before.bytes_received, next.bytes_received),
        (before.frames_sent, next.frames_sent),
        (before.responses.count(), next.responses.count()),
    ];
    assert!(pairs.iter().all(|(old, new)| old <= new), "totals never go backwards: {pairs:?}");
}
