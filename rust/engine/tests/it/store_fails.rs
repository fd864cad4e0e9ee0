//! The store fails and comes back: what was lost meanwhile is fetched again, by those who lost it and nobody else.

use crate::store_lag::{push_message, until, wait_store};
use crate::support::World;
use runner_client::Outgoing;
use runner_engine::EventKind;
use runner_proto::close_reason::CloseReason;
use runner_sim::core::Fleet;
use rusqlite::Connection;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// Nothing can be written any more, as on a disk without room: no message, and not the store's own try either.
pub(crate) const BREAK: &str = "
    CREATE TRIGGER refuse_inbox BEFORE INSERT ON inbox BEGIN SELECT RAISE(ABORT, 'injected'); END;
    CREATE TRIGGER refuse_probe BEFORE INSERT ON probe BEGIN SELECT RAISE(ABORT, 'injected'); END;";
pub(crate) const MEND: &str = "DROP TRIGGER refuse_inbox; DROP TRIGGER refuse_probe;";

pub(crate) fn tell_the_store(world: &World, sql: &str) {
    let other = Connection::open(world.bench.folder.path().join("store.db")).expect("the same file");
    other.execute_batch(sql).expect("told");
}

/// Who is online, on a store that then breaks.
fn broken(sessions: u32) -> World {
    let world = World::plain(sessions);
    for index in 0..sessions {
        world.bench.open(&format!("s{index}"), 1);
        world.bench.wait_online(&format!("s{index}"), 1);
    }
    assert!(world.bench.store.flush(Duration::from_secs(10)));
    tell_the_store(&world, BREAK);
    world
}

/// Whose messages are kept.
fn kept(world: &World) -> BTreeSet<String> {
    world.bench.store.take(0, 100).expect("readable").into_iter().map(|row| row.session_id).collect()
}

#[test]
fn what_was_lost_is_fetched_again_when_the_store_is_well_and_not_before() {
    let world = broken(3);
    push_message(&world, 0);
    wait_store(&world, false);
    push_message(&world, 1);
    until("both failed", || world.bench.store.health().failed_total == 2);
    world.bench.totals("s0"); // a turn later
    world.bench.advance(Duration::from_secs(120));
    world.bench.totals("s0");
    assert_eq!(world.bench.engine.stats().online, 3, "dialling again would only lose again");
    assert_eq!(world.bench.totals("s0").unanswered, 1);

    // Nobody writes any more: the store finds out by itself.
    tell_the_store(&world, MEND);
    wait_store(&world, true);
    for session_id in ["s0", "s1"] {
        let closed = world.bench.wait_closed(session_id, 1);
        assert_eq!(closed.reason, CloseReason::StoreStalled);
        assert_eq!(closed.detail, "1 messages could not be kept and are fetched again");
        world.bench.open(session_id, 2);
        world.bench.wait_online(session_id, 2);
    }
    until("all is kept", || kept(&world) == BTreeSet::from(["s0".to_owned(), "s1".to_owned()]));
    until("all is answered", || {
        world.bench.totals("s0").unanswered + world.bench.totals("s1").unanswered == 0
    });
    push_message(&world, 2);
    until("who lost nothing goes on", || kept(&world).contains("s2"));
    let rest = world.bench.rest();
    let ends = rest.iter().filter(|event| matches!(event.kind, EventKind::Closed(_))).count();
    assert_eq!((ends, world.bench.engine.stats().online), (0, 3));
}

#[test]
fn a_store_that_recovers_twice_is_followed_twice() {
    let world = broken(1);
    for connection in 1..=2 {
        push_message(&world, 0);
        wait_store(&world, false);
        tell_the_store(&world, MEND);
        wait_store(&world, true);
        assert_eq!(world.bench.wait_closed("s0", connection).reason, CloseReason::StoreStalled);
        world.bench.open("s0", connection + 1);
        world.bench.wait_online("s0", connection + 1);
        until("it is answered", || kept(&world).len() == 1 && world.bench.totals("s0").unanswered == 0);
        assert!(world.bench.store.flush(Duration::from_secs(10)));
        tell_the_store(&world, BREAK);
    }
}

/// Who left a group must not read on because it could not be written down that he left.
#[test]
fn a_client_is_told_of_a_change_that_was_not_kept_although_it_does_not_wait_for_it() {
    let world = World::plain(1);
    world.bench.open("s0", 1);
    world.bench.wait_online("s0", 1);
    let (us, contact) = (Fleet::username(0), 15_559_000_000_u64);
    let group =
        world.post("/group", &json!({ "members": [us, contact] }))["jid"].as_str().expect("a jid").to_owned();
    let write = |token: u64| {
        let chat = group.parse().expect("a jid");
        let outgoing = Outgoing { token, chat, id: format!("M{token}"), text: "x".into(), quoted: None };
        world.bench.engine.send_text("s0", 1, outgoing).expect("there is room");
        let sent = world.bench.wait("an outcome", |event| matches!(event.kind, EventKind::Sent { .. }));
        assert!(matches!(sent.kind, EventKind::Sent { outcome: Ok(_), .. }), "{sent:?}");
    };
    write(1);
    assert!(world.bench.store.flush(Duration::from_secs(10)));
    tell_the_store(
        &world,
        "CREATE TRIGGER refuse_forgetting BEFORE DELETE ON signal_key BEGIN SELECT RAISE(ABORT, 'injected'); END;",
    );
    world.post("/group", &json!({ "jid": group, "remove": [contact] }));
    wait_store(&world, false);
    tell_the_store(&world, "DROP TRIGGER refuse_forgetting;");
    wait_store(&world, true);
    write(2);
    let asked = world.stats()["iqByXmlns"]["w:g2"].as_u64();
    assert_eq!(asked, Some(2), "who is in the group is asked for again");
}
