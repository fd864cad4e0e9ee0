//! Another process holds the database's write lock: nothing fails, what reads goes on, what writes waits in order.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use runner_store::{Completion, ErrorKind, Options, Pressure, RecordKey, Write};
use rusqlite::Connection;

use crate::support::{Dir, Open, PATIENCE, batch, import, message, sized_message};

/// Takes the write lock, as a backup tool that misbehaves would.
fn hold(dir: &Dir) -> Connection {
    let other = dir.sqlite();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

fn let_go(other: &Connection) {
    other.execute_batch("COMMIT").unwrap();
}

fn key(id: &str) -> RecordKey {
    RecordKey { kind: "pre-key", id: id.into() }
}

fn tokens(completions: &[Completion]) -> Vec<u64> {
    let token = |completion: &Completion| match completion {
        Completion::Committed { token, .. }
        | Completion::Failed { token, .. }
        | Completion::Records { token, .. }
        | Completion::Ciphertexts { token, .. }
        | Completion::Device { token, .. } => *token,
        Completion::Recovered => panic!("nothing failed"),
    };
    completions.iter().map(token).collect()
}

impl Open {
    fn wait_until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !reached(self) {
            assert!(start.elapsed() < PATIENCE, "{what}");
            thread::yield_now();
        }
    }

    /// A message waits for the lock, and the writer knows of it.
    fn locked_out(dir: &Dir, options: Options) -> (Self, Connection) {
        drop(Self::with_sessions(dir, 2));
        let open = Self::with(dir, options);
        let lock = hold(dir);
        open.store.submit(batch(1, "s0", vec![message("a"), Write::RemoveRecord(key("07"))])).unwrap();
        open.wait_until("the lock is seen", |open| open.store.pressure().is_locked);
        (open, lock)
    }
}

fn eager() -> Options {
    Options { group_commit: Duration::ZERO, ..Options::default() }
}

#[test]
fn what_waited_for_a_lock_is_committed_in_order_and_nothing_failed() {
    let dir = Dir::new();
    let (open, lock) = Open::locked_out(&dir, eager());
    for (token, id) in [(2, "b"), (3, "c")] {
        open.store.submit(batch(token, "s0", vec![message(id)])).unwrap();
    }
    open.store.put_policy("s0", "kept");
    open.wait_until("time passes", |open| open.store.health().lock_wait_s > 0.1);
    let health = open.store.health();
    assert_eq!((health.queued, health.failed_total, health.last_error), (3, 0, None));
    assert_eq!(open.store.drain_completions(&mut Vec::new()), 0, "nothing failed");
    assert!(open.ids().is_empty(), "readers see the last commit");
    let_go(&lock);
    assert_eq!(tokens(&open.wait(3)), [1, 2, 3]);
    assert_eq!(open.ids(), ["a", "b", "c"]);
    assert!(open.store.flush(PATIENCE));
    assert_eq!(open.store.policies().unwrap(), [("s0".to_owned(), "kept".to_owned())]);
    let health = open.store.health();
    assert_eq!((health.lock_wait_s, health.failed_total), (0.0, 0));
    assert!(health.last_commit_s < 0.1, "the wait is not the commit's");
}

#[test]
fn what_only_reads_is_answered_while_the_lock_is_held() {
    let dir = Dir::new();
    let (open, lock) = Open::locked_out(&dir, eager());
    open.store.request_device("s0", 2).unwrap();
    open.store.request_device("nobody", 3).unwrap();
    open.store.request_records("s0", 4, vec![key("08"), key("none")]).unwrap();
    open.store.request_records("s1", 5, vec![key("07")]).unwrap();
    open.store.request_ciphertexts("s1", 6, 0, 9).unwrap();
    let answers = open.wait_for(5);
    let [Completion::Device { result: device, .. }, Completion::Device { result: nobody, .. }, rest @ ..] =
        answers.as_slice()
    else {
        panic!("{answers:?}")
    };
    assert_eq!(device.as_ref().as_ref().unwrap().session_id, "s0");
    assert!(nobody.is_err());
    let Completion::Records { token: 4, result } = &rest[0] else { panic!("{rest:?}") };
    assert_eq!(result.as_ref().unwrap().iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    // What the message that waits has used up is used up.
    open.store.request_records("s0", 7, vec![key("07")]).unwrap();
    open.store.request_ciphertexts("s0", 8, 0, 9).unwrap();
    open.store.request_device("s0", 9).unwrap();
    assert_eq!(tokens(&open.wait_for(1)), [9]);
    let_go(&lock);
    let behind = open.wait_for(3);
    let Completion::Records { token: 7, result } = &behind[1] else { panic!("{behind:?}") };
    assert_eq!(result, &Ok(vec![None]));
}

#[test]
fn who_only_reads_does_not_wait_for_a_lock() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    let open = Open::with(&dir, eager());
    let lock = hold(&dir);
    open.store.request_device("s0", 1).unwrap();
    assert_eq!(tokens(&open.wait_for(1)), [1]);
    open.wait_until("nothing waits", |open| !open.store.pressure().is_locked);
    assert_eq!(open.store.health().commits_total, 0);
    let_go(&lock);
}

#[test]
fn damage_that_a_read_finds_is_quarantined_when_the_lock_has_gone() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 2));
    let open = Open::with(&dir, eager());
    dir.sqlite()
        .execute_batch("UPDATE device SET noise_secret = zeroblob(32) WHERE session_id = 's1'")
        .unwrap();
    dir.sqlite().execute_batch("UPDATE signal_key SET value = x'00' WHERE id = '07'").unwrap();
    let lock = hold(&dir);
    open.store.request_device("s1", 1).unwrap();
    open.store.request_records("s0", 2, vec![key("07")]).unwrap();
    open.store.request_device("s0", 3).unwrap();
    assert_eq!(tokens(&open.wait_for(1)), [3], "what is sound does not wait for them");
    let_go(&lock);
    let answers = open.wait_for(2);
    assert!(matches!(&answers[0], Completion::Device { token: 1, result } if result.is_err()), "{answers:?}");
    assert_eq!(answers[1], Completion::Records { token: 2, result: Ok(vec![None]) });
    assert!(open.store.quarantined().unwrap().len() >= 2);
}

#[test]
fn a_caller_waits_for_its_patience_and_then_nothing_of_it_happens() {
    let dir = Dir::new();
    let options = Options { lock_patience: Duration::from_millis(50), ..eager() };
    let (open, lock) = Open::locked_out(&dir, options);
    let first = open.store.create("late").unwrap_err();
    assert_eq!(first.kind, ErrorKind::Busy);
    let next = open.store.import(import("later", 9)).unwrap_err();
    assert_eq!(next.kind, ErrorKind::Busy, "at once: everybody knows by now");
    assert!(!open.store.flush(PATIENCE));
    assert_eq!(open.store.sessions().unwrap().len(), 2, "what reads is not held up");
    let_go(&lock);
    open.wait(1);
    assert!(open.store.flush(PATIENCE));
    assert_eq!(open.store.sessions().unwrap().len(), 2, "who was refused has nothing made for it later");
    open.store.create("late").unwrap();
}

/// A caller that still waits is served when the lock goes.
#[test]
fn a_caller_within_its_patience_is_served() {
    let dir = Dir::new();
    let (open, lock) = Open::locked_out(&dir, Options { lock_patience: PATIENCE, ..eager() });
    let store = open.store.clone();
    let (asked, answer) = mpsc::channel();
    let caller = thread::spawn(move || asked.send(store.create("new")));
    open.wait_until("it is asked again", |open| open.store.health().lock_wait_s > 0.1);
    assert!(answer.try_recv().is_err(), "it waits");
    let_go(&lock);
    answer.recv_timeout(PATIENCE).unwrap().unwrap();
    caller.join().unwrap().unwrap();
}

#[test]
fn closing_does_not_wait_for_ever_and_loses_only_what_nobody_was_told_of() {
    let dir = Dir::new();
    let options = Options { lock_patience_at_close: Duration::from_millis(50), ..eager() };
    drop(Open::with_sessions(&dir, 1));
    let open = Open::with(&dir, options);
    open.commit(batch(1, "s0", vec![message("told")])).unwrap();
    let lock = hold(&dir);
    open.store.submit(batch(2, "s0", vec![message("not told")])).unwrap();
    open.store.request_ciphertexts("s0", 3, 0, 9).unwrap();
    open.wait_until("the lock is seen", |open| open.store.pressure().is_locked);
    open.store.close();
    let answers = open.wait_for(2);
    let Completion::Failed { token: 2, error } = &answers[0] else { panic!("{answers:?}") };
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(matches!(&answers[1], Completion::Ciphertexts { token: 3, result: Err(_) }));
    let_go(&lock);
    drop(lock);
    assert_eq!(Open::at(&dir).ids(), ["told"]);
}

#[test]
fn closing_within_its_patience_writes_what_is_queued() {
    let dir = Dir::new();
    let (open, lock) = Open::locked_out(&dir, Options { lock_patience_at_close: PATIENCE, ..eager() });
    let store = open.store.clone();
    let closer = thread::spawn(move || store.close());
    open.wait_until("it is closing", |open| open.store.submit(batch(2, "s0", vec![])).is_err());
    let_go(&lock);
    closer.join().unwrap();
    drop(open);
    assert_eq!(Open::at(&dir).ids(), ["a"]);
}

#[test]
fn a_store_is_opened_under_a_lock() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 2));
    let lock = hold(&dir);
    let open = Open::at(&dir);
    assert_eq!(open.store.sessions().unwrap().len(), 2);
    let_go(&lock);
}

/// An hour under a lock takes no more memory than it may.
#[test]
fn what_waits_is_bounded_and_says_so_before_it_is_full() {
    let dir = Dir::new();
    let options = Options { max_queued_bytes: 40_000, ..eager() };
    let (open, lock) = Open::locked_out(&dir, options);
    let calm = Pressure { is_locked: true, is_filling: false };
    assert_eq!(open.store.pressure(), calm);
    let mut taken = 1;
    let refused = loop {
        match open.store.submit(batch(taken + 1, "s0", vec![sized_message(&taken.to_string(), 1000)])) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        if taken == 30 {
            assert!(open.store.pressure().is_filling, "there is room for some that are under way");
        }
    };
    assert_eq!(refused.kind, ErrorKind::QueueFull);
    assert!((25..40).contains(&taken), "{taken}");
    let_go(&lock);
    open.wait_for(usize::try_from(taken).unwrap());
    assert_eq!(open.store.pressure(), Pressure { is_locked: false, is_filling: false });
}
