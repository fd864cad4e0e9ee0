//! Commits, failures, order, bounds.

use std::sync::mpsc;
use std::time::Duration;

use runner_store::{Applied, Completion, ErrorKind, Options, ServerChain, Store, Write};

use crate::support::{Dir, Open, PATIENCE, batch, import, message, poison, sized_message};

#[test]
fn committed_batch_is_there_after_reopening() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    assert_eq!(open.commit(batch(1, "s0", vec![message("a"), message("b")])), Ok(2));
    open.store.close();
    assert_eq!(Open::at(&dir).ids(), ["a", "b"]);
}

#[test]
fn completions_come_in_submit_order_whatever_they_are() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    for token in 0..300 {
        match token % 3 {
            0 => open.store.submit(batch(token, "s0", vec![message(&token.to_string())])).unwrap(),
            1 => open.store.request_device("s0", token).unwrap(),
            _ => open.store.submit(batch(token, "nobody", vec![message("x")])).unwrap(),
        }
    }
    for (expected, completion) in open.wait(300).into_iter().enumerate() {
        let (token, kind) = match completion {
            Completion::Committed { token, applied: Applied { inbox_rows: 1, .. } } => (token, 0),
            Completion::Device { token, result } if result.is_ok() => (token, 1),
            Completion::Failed { token, error } if error.kind == ErrorKind::UnknownSession => (token, 2),
            other => panic!("{other:?}"),
        };
        assert_eq!((token, kind), (expected as u64, expected % 3));
    }
}

#[test]
fn one_group_is_one_commit_and_one_signal() {
    let dir = Dir::new();
    let first = Open::with_sessions(&dir, 1);
    let commits_before = first.store.health().commits_total;
    // The writer is held in the signal of the first batch, so the next hundred wait together.
    let (entered, is_in) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    first.store.set_notify(Box::new(|| {}));
    first.store.set_notify({
        let hold = std::sync::atomic::AtomicU32::new(0);
        Box::new(move || {
            // Call 0 comes from set_notify itself.
            let call = hold.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            entered.send(call).unwrap();
            if call == 1 {
                released.lock().unwrap().recv().unwrap();
            }
        })
    });
    assert_eq!(is_in.recv_timeout(PATIENCE), Ok(0));
    first.store.submit(batch(0, "s0", vec![message("first")])).unwrap();
    assert_eq!(is_in.recv_timeout(PATIENCE), Ok(1));
    for token in 1..=100 {
        first.store.submit(batch(token, "s0", vec![message(&token.to_string())])).unwrap();
    }
    assert_eq!(first.store.health().queued, 100);
    release.send(()).unwrap();
    assert_eq!(is_in.recv_timeout(PATIENCE), Ok(2));
    let mut completions = Vec::new();
    first.store.know_failures(first.store.drain_completions(&mut completions));
    assert_eq!(completions.len(), 101, "all hundred came with one signal");
    assert_eq!(first.store.health().commits_total - commits_before, 2);
    assert_eq!(first.store.health().queued, 0);
}

/// The writer is held while the queue is filled; then everything behind the failing group fails with it.
#[test]
fn failed_commit_takes_down_all_that_was_queued_behind_it_and_then_work_goes_on() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    poison(&dir);
    let (entered, is_in) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let notify = Box::new(move || {
        entered.send(()).unwrap();
        let _ = released.lock().unwrap().recv();
    });
    let (store, _) = Store::open(dir.db(), Options::default(), notify).unwrap();
    store.submit(batch(0, "s0", vec![message("before")])).unwrap();
    is_in.recv_timeout(PATIENCE).unwrap();
    // More writes than one group takes, so that the two behind are not part of its transaction.
    let mut large: Vec<Write> = (0..8_191).map(|i| message(&i.to_string())).collect();
    large.push(message("poison"));
    store.submit(batch(1, "s0", large)).unwrap();
    store.submit(batch(2, "s0", vec![message("behind")])).unwrap();
    store.request_device("s0", 3).unwrap();
    store.submit(batch(4, "s0", vec![message("last")])).unwrap();
    drop(release);
    is_in.recv_timeout(PATIENCE).unwrap();

    let mut completions = Vec::new();
    store.know_failures(store.drain_completions(&mut completions));
    let outcomes: Vec<_> = completions
        .iter()
        .map(|c| match c {
            Completion::Committed { token, .. } => (*token, "committed"),
            Completion::Failed { token, error } if error.message.contains("injected") => (*token, "failed"),
            Completion::Device { token, result } if result.is_ok() => (*token, "device"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(outcomes, [(0, "committed"), (1, "failed"), (2, "failed"), (3, "device"), (4, "failed")]);
    let health = store.health();
    assert_eq!((health.failed_total, health.queued, health.oldest_age_s), (3, 0, 0.0));
    assert!(health.last_error.unwrap().contains("injected"));

    store.submit(batch(5, "s0", vec![message("after")])).unwrap();
    is_in.recv_timeout(PATIENCE).unwrap();
    let ids: Vec<_> = store.take(0, 10).unwrap().into_iter().map(|m| m.message_id).collect();
    assert_eq!(ids, ["before", "after"]);
}

#[test]
fn unknown_session_fails_its_batch_alone() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.store.submit(batch(1, "s0", vec![message("a")])).unwrap();
    open.store.submit(batch(2, "gone", vec![message("b")])).unwrap();
    open.store.submit(batch(3, "s0", vec![message("c")])).unwrap();
    let kinds: Vec<_> = open.wait(3).iter().map(|c| matches!(c, Completion::Committed { .. })).collect();
    assert_eq!(kinds, [true, false, true]);
    assert_eq!(open.ids(), ["a", "c"]);
}

#[test]
fn full_queue_refuses_and_keeps_what_it_has() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    let options =
        Options { group_commit: Duration::from_secs(3600), max_queued_writes: 3, ..Options::default() };
    let open = Open::with(&dir, options);
    for token in 0..3 {
        open.store.submit(batch(token, "s0", vec![message(&token.to_string())])).unwrap();
    }
    let refused = open.store.submit(batch(3, "s0", vec![message("3")])).unwrap_err();
    assert_eq!((refused.kind, refused.kind.slug()), (ErrorKind::QueueFull, "queue_full"));
    assert_eq!(open.store.health().queued, 3);
    open.store.close();
    assert_eq!(Open::at(&dir).ids(), ["0", "1", "2"]);
}

#[test]
fn queue_is_bounded_in_bytes_and_one_batch_always_fits() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    let options =
        Options { group_commit: Duration::from_secs(3600), max_queued_bytes: 1000, ..Options::default() };
    let open = Open::with(&dir, options);
    open.store.submit(batch(0, "s0", vec![sized_message("large", 5000)])).unwrap();
    let refused = open.store.submit(batch(1, "s0", vec![message("small")])).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::QueueFull);
}

#[test]
fn closing_commits_what_is_queued_and_then_refuses() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    let open = Open::with(&dir, Options { group_commit: Duration::from_secs(3600), ..Options::default() });
    open.store.submit(batch(1, "s0", vec![message("a")])).unwrap();
    open.store.put_policy("s0", "{}");
    open.store.close();
    open.store.close();
    assert_eq!(open.wait(1).len(), 1);
    assert_eq!(open.store.submit(batch(2, "s0", vec![])).unwrap_err().kind, ErrorKind::Closed);
    assert_eq!(open.store.sessions().unwrap_err().kind, ErrorKind::Closed);
    assert_eq!(open.store.done(&[1]).unwrap_err().kind, ErrorKind::Closed);
    assert!(!open.store.flush(PATIENCE));
    let again = Open::at(&dir);
    assert_eq!(again.ids(), ["a"]);
    assert_eq!(again.store.policies().unwrap(), [("s0".to_owned(), "{}".to_owned())]);
}

#[test]
fn dropping_the_last_handle_closes_the_store() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    let other = open.store.clone();
    drop(open);
    assert_eq!(Open::try_at(&dir).map(|_| ()).unwrap_err().kind, ErrorKind::Locked);
    drop(other);
    assert!(Open::try_at(&dir).is_ok());
}

#[test]
fn newest_policy_wins_and_outlives_a_failed_commit() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 2);
    dir.sqlite()
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON policy BEGIN SELECT RAISE(ABORT, 'injected'); END",
        )
        .unwrap();
    open.store.put_policy("s0", "1");
    open.store.put_policy("s1", "1");
    open.store.put_meta("boot", "7");
    assert!(!open.store.flush(PATIENCE), "the group of the policies fails");
    open.store.put_policy("s0", "2");
    dir.sqlite().execute_batch("DROP TRIGGER refuse").unwrap();
    assert!(open.store.flush(PATIENCE));
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(open.store.policies().unwrap(), [pair("s0", "2"), pair("s1", "1")]);
    assert_eq!(open.store.meta().unwrap(), [pair("boot", "7")]);
}

/// Nobody submits anything any more: the writer tries again by itself, so that a full disk is left by itself.
#[test]
fn writer_tries_again_by_itself_after_a_failure() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON meta BEGIN SELECT RAISE(ABORT, 'injected'); END";
    dir.sqlite().execute_batch(refuse).unwrap();
    let open = Open::with(&dir, Options { retry_every: Duration::from_millis(5), ..Options::default() });
    open.store.put_meta("boot", "7");
    let start = std::time::Instant::now();
    let wait_until = |what: &str, reached: &dyn Fn() -> bool| {
        while !reached() {
            assert!(start.elapsed() < PATIENCE, "{what}");
            std::thread::yield_now();
        }
    };
    wait_until("the commit fails", &|| open.store.health().last_error.is_some());
    dir.sqlite().execute_batch("DROP TRIGGER refuse").unwrap();
    wait_until("the value is written", &|| !open.store.meta().unwrap().is_empty());
}

/// The engine closes what lost messages when this is said: neither too early nor never.
#[test]
fn recovery_is_told_once_when_a_message_fits_again_and_by_nothing_less() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    let options = Options {
        max_file_bytes: Some(1024 * 1024),
        group_commit: Duration::ZERO,
        retry_every: Duration::from_millis(5),
        ..Options::default()
    };
    let open = Open::with(&dir, options);
    let large = |i: u64| batch(i, "s0", vec![sized_message(&i.to_string(), 32 * 1024)]);
    let stored = (0..).take_while(|i| open.commit(large(*i)).is_ok()).count();
    // What needs no room is done, and says nothing: a read, a confirmation.
    open.store.request_device("s0", 1).unwrap();
    assert!(matches!(open.wait(1)[..], [Completion::Device { token: 1, .. }]));
    let first = open.store.take(0, 1).unwrap()[0].seq;
    assert_eq!(open.store.done(&[first]), Ok(1));
    assert!(open.store.health().disk_full, "a confirmation is no message");
    let mut completions = Vec::new();
    open.store.know_failures(open.store.drain_completions(&mut completions));
    assert_eq!(completions, [], "still full");
    dir.sqlite().execute("DELETE FROM inbox", []).unwrap();
    open.wait_recovered();
    assert!(!open.store.health().disk_full);
    open.commit(large(stored as u64)).unwrap();
    open.store.know_failures(open.store.drain_completions(&mut completions));
    assert_eq!(completions, [], "told once");
}

/// A value that could not be written waits for its next try; a batch that comes meanwhile wakes the writer.
#[test]
fn a_batch_does_not_wait_for_the_next_try_of_a_value_that_failed() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON meta BEGIN SELECT RAISE(ABORT, 'injected'); END";
    dir.sqlite().execute_batch(refuse).unwrap();
    let open = Open::with(&dir, Options { retry_every: 10 * PATIENCE, ..Options::default() });
    open.store.put_meta("boot", "7");
    for token in 1..=100 {
        // The value fails each of them; what counts is that each is answered, also when the writer sleeps already.
        open.commit(batch(token, "s0", vec![message("A")])).unwrap_err();
        open.store.sessions().unwrap();
    }
}

#[test]
fn routing_chain_and_lid_are_what_the_next_dial_gets() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    let chain = ServerChain { raw: vec![1; 300], leaf_key: [5; 32], not_before: 10, not_after: 20 };
    let writes =
        vec![Write::RoutingInfo(vec![9]), Write::ServerChain(chain.clone()), Write::Lid("77:3@lid".into())];
    open.commit(batch(1, "s0", writes)).unwrap();
    let device = open.store.device("s0").unwrap();
    assert_eq!(device.routing_info, Some(vec![9]));
    assert_eq!(device.server_chain, Some(chain));
    assert_eq!(device.credentials.lid.as_deref(), Some("77:3@lid"));
    open.commit(batch(2, "s0", vec![Write::ForgetServerChain])).unwrap();
    let device = open.store.device("s0").unwrap();
    assert_eq!((device.server_chain, device.routing_info), (None, Some(vec![9])));
}

#[test]
fn full_disk_fails_commits_and_recovers_when_there_is_room() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    let options = Options {
        max_file_bytes: Some(4 * 1024 * 1024),
        keep_done: Duration::ZERO,
        group_commit: Duration::ZERO,
        ..Options::default()
    };
    let open = Open::with(&dir, options);
    let mut stored = 0;
    let error = loop {
        match open.commit(batch(stored, "s0", vec![sized_message(&stored.to_string(), 64 * 1024)])) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::DiskFull);
    assert!(open.store.health().disk_full);
    assert_eq!(open.ids().len() as u64, stored, "what was committed is there, what failed is not");
    // The consumer confirms; confirmed messages make room.
    let seqs: Vec<_> = open.store.take(0, 1000).unwrap().iter().map(|m| m.seq).collect();
    assert_eq!(open.store.done(&seqs), Ok(stored));
    let recovered = (0..100)
        .any(|i| open.commit(batch(i, "s0", vec![sized_message(&format!("again{i}"), 64 * 1024)])).is_ok());
    assert!(recovered, "{:?}", open.store.health());
    assert!(!open.store.health().disk_full);
}

/// Pain 21.
#[test]
fn log_is_bounded_under_load() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    let limit = 256 * 1024;
    let open = Open::with(
        &dir,
        Options { wal_limit_bytes: limit, group_commit: Duration::ZERO, ..Options::default() },
    );
    for i in 0..400 {
        open.commit(batch(i, "s0", vec![sized_message(&i.to_string(), 4000)])).unwrap();
        assert!(std::fs::metadata(dir.wal()).unwrap().len() < 2 * limit, "after {i} messages");
    }
    assert!(open.store.health().checkpoints_total > 2);
}

/// Pain 21: what one message costs in fsyncs when a thousand sessions are busy.
#[test]
fn fsyncs_per_message_stay_below_a_twentieth_under_load() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    let before = open.store.health();
    let n = 20_000;
    let mut completed = 0;
    for i in 0..n {
        while open.store.submit(batch(i, "s0", vec![message(&i.to_string())])).is_err() {
            completed += open.wait_some();
        }
    }
    while completed < n {
        completed += open.wait_some();
    }
    let after = open.store.health();
    let fsyncs = (after.commits_total - before.commits_total)
        + 2 * (after.checkpoints_total - before.checkpoints_total);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let ratio = fsyncs as f64 / n as f64;
    assert!(ratio <= 0.05, "{fsyncs} fsyncs for {n} messages");
}

#[test]
fn import_of_many_is_visible_in_order() {
    let dir = Dir::new();
    let open = Open::at(&dir);
    for i in [2, 0, 1] {
        open.store.import(import(&format!("s{i}"), i)).unwrap();
    }
    let ids: Vec<_> = open.store.sessions().unwrap().into_iter().map(|s| s.session_id).collect();
    assert_eq!(ids, ["s0", "s1", "s2"]);
}
