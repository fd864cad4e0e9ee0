//! Pain #20: one session floods; the others do not notice.

use crate::support::World;
use serde_json::json;
use std::time::Duration;

/// Pain 20.
#[test]
fn a_session_logs_in_and_is_kept_alive_while_another_one_floods() {
    const FLOOD: u64 = 30_000;
    let world = World::plain(2);
    world.bench.open("s0", 1);
    world.bench.wait_online("s0", 1);
    let before = world.bench.totals("s0").stanzas_received;
    std::thread::scope(|scope| {
        let mut push = World::target(0);
        push["template"] = json!("receipt");
        push["n"] = json!(FLOOD);
        push["coalesce"] = json!(20);
        let sim = &world.sim;
        let flood = scope.spawn(move || sim.call("POST", "/push", &push).expect("pushed"));
        world.bench.open("s1", 1);
        world.bench.wait_online("s1", 1);
        let sent = world.bench.totals("s1").pings_sent;
        world.bench.advance(Duration::from_secs(21));
        let start = std::time::Instant::now();
        loop {
            let totals = world.bench.totals("s1");
            if totals.pings_sent > sent && totals.pongs_received == totals.pings_sent {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "a pong gets through: {totals:?}");
        }
        flood.join().expect("pushed");
    });
    let start = std::time::Instant::now();
    while world.bench.totals("s0").stanzas_received < before + FLOOD {
        assert!(start.elapsed() < Duration::from_secs(20), "nothing of the flood is lost");
    }
    assert_eq!(world.bench.engine.stats().online, 2);
}
