//! Taking, confirming, recognising what was sent again.

use std::time::Duration;

use runner_store::Options;

use crate::support::{Dir, Open, batch, message};

/// Pain 3.
#[test]
fn message_sent_again_is_answered_and_stored_once() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 2);
    assert_eq!(open.commit(batch(1, "s0", vec![message("a")])), Ok(1));
    assert_eq!(open.commit(batch(2, "s0", vec![message("a"), message("b")])), Ok(1));
    assert_eq!(
        open.commit(batch(3, "s1", vec![message("a")])),
        Ok(1),
        "another session's message is another"
    );
    assert_eq!(open.ids(), ["a", "b", "a"]);
}

#[test]
fn message_sent_again_after_done_is_still_recognised() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.commit(batch(1, "s0", vec![message("a")])).unwrap();
    let seq = open.store.take(0, 1).unwrap()[0].seq;
    assert_eq!(open.store.done(&[seq]), Ok(1));
    assert_eq!(open.commit(batch(2, "s0", vec![message("a")])), Ok(0));
    assert!(open.ids().is_empty());
}

#[test]
fn take_pages_through_in_order_and_skips_what_is_done() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    let names: Vec<_> = (0..10).map(|i| i.to_string()).collect();
    open.commit(batch(1, "s0", names.iter().map(|n| message(n)).collect())).unwrap();
    let first = open.store.take(0, 4).unwrap();
    assert_eq!(first.iter().map(|m| m.message_id.as_str()).collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    let next = open.store.take(first[3].seq, 2).unwrap();
    assert_eq!(next.iter().map(|m| m.message_id.as_str()).collect::<Vec<_>>(), ["4", "5"]);
    assert_eq!(open.store.done(&[first[1].seq, next[0].seq, 999, u64::MAX]), Ok(2));
    assert_eq!(open.store.done(&[first[1].seq]), Ok(0), "a second time counts nothing");
    assert_eq!(open.ids(), ["0", "2", "3", "5", "6", "7", "8", "9"]);
    assert_eq!(open.store.health().inbox_pending, 8);
}

#[test]
fn pending_is_counted_anew_at_open() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.commit(batch(1, "s0", vec![message("a"), message("b"), message("c")])).unwrap();
    open.store.done(&[1]).unwrap();
    drop(open);
    assert_eq!(Open::at(&dir).store.health().inbox_pending, 2);
}

#[test]
fn confirmed_messages_are_removed_after_their_time_and_numbers_are_not_used_twice() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.commit(batch(1, "s0", vec![message("a"), message("b")])).unwrap();
    open.store.done(&[1, 2]).unwrap();
    drop(open);
    // Back-dated, so that the test does not wait.
    dir.sqlite().execute_batch("UPDATE confirmed SET done_unix_ms = 1").unwrap();
    let open = Open::with(&dir, Options { keep_done: Duration::from_secs(60), ..Options::default() });
    assert!(open.store.flush(crate::support::PATIENCE));
    drop(open);
    let left: i64 = dir.sqlite().query_row("SELECT count(*) FROM inbox", [], |r| r.get(0)).unwrap();
    assert_eq!(left, 0);
    let open = Open::at(&dir);
    open.commit(batch(2, "s0", vec![message("c")])).unwrap();
    assert_eq!(open.store.take(0, 1).unwrap()[0].seq, 3);
}
