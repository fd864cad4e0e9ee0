//! Events for webhooks: posted once, delivered in order, given up, put back, let go, forgotten in time.

use std::time::Duration;

use runner_store::{APP, Backlog, Delivery, NewEvent, Options, Settled};

use crate::support::{Dir, Open, batch, message};

fn event(id: &str, chat: &str, webhooks: &[&str]) -> NewEvent {
    NewEvent {
        event_id: id.into(),
        name: "message".into(),
        session_id: "s0".into(),
        chat: chat.into(),
        body: id.as_bytes().to_vec(),
        at_unix_ms: 7,
        webhooks: webhooks.iter().map(|&it| it.into()).collect(),
    }
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|it| it.event_id.as_str()).collect()
}

fn rows(dir: &Dir, table: &str) -> i64 {
    dir.sqlite().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn an_event_is_posted_once_and_to_each_webhook_in_order() {
    let dir = Dir::new();
    let open = Open::at(&dir);
    let posted = vec![event("e1", "a", &["w1", "w2"]), event("e2", "b", &["w1"]), event("e3", "a", &["w1"])];
    assert_eq!(open.store.post(posted, &[]), Ok(3));
    assert_eq!(open.store.post(vec![event("e1", "a", &["w1", "w3"])], &[]), Ok(0), "known");
    assert_eq!(open.store.post(vec![event("e9", "a", &[])], &[]), Ok(0), "for nobody");
    let all = open.store.deliveries("w1", 0, 9).unwrap();
    assert_eq!(ids(&all), ["e1", "e2", "e3"]);
    assert_eq!((all[0].body.as_slice(), all[0].chat.as_str(), all[0].at_unix_ms), (&b"e1"[..], "a", 7));
    assert_eq!(ids(&open.store.deliveries("w1", all[0].seq, 1).unwrap()), ["e2"]);
    assert_eq!(ids(&open.store.deliveries_of("w1", "s0", "a", 0, 9).unwrap()), ["e1", "e3"]);
    assert_eq!(ids(&open.store.deliveries_of("w1", "s0", "a", all[0].seq, 9).unwrap()), ["e3"]);
    assert_eq!(ids(&open.store.deliveries("w2", 0, 9).unwrap()), ["e1"]);
    assert!(open.store.deliveries("w3", 0, 9).unwrap().is_empty());
}

#[test]
fn posting_confirms_messages_in_the_same_transaction() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.commit(batch(1, "s0", vec![message("a"), message("b")])).unwrap();
    assert_eq!(open.store.post(vec![event("e1", "a", &["w"])], &[1]), Ok(1));
    assert_eq!(open.ids(), ["b"]);
    assert_eq!(open.store.health().inbox_pending, 1);
}

#[test]
fn outcomes_are_written_down_and_survive() {
    let dir = Dir::new();
    let open = Open::at(&dir);
    open.store
        .post(vec![event("e1", "a", &["w"]), event("e2", "a", &["w"]), event("e3", "a", &["w"])], &[])
        .unwrap();
    let settled = Settled {
        delivered: vec![1, 77],
        failed: vec![(2, 3, 99), (78, 1, 1)],
        dead: vec![(3, 5, "status 400".into()), (79, 1, String::new())],
    };
    open.store.settle(settled).unwrap();
    drop(open);
    let open = Open::at(&dir);
    let left = open.store.deliveries("w", 0, 9).unwrap();
    assert_eq!(ids(&left), ["e2"]);
    assert_eq!((left[0].attempts, left[0].not_before_unix_ms), (3, 99));
    let dead = open.store.undelivered(None, 0, 9).unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (
            dead[0].sink.as_str(),
            dead[0].id.as_str(),
            dead[0].name.as_str(),
            dead[0].attempts,
            dead[0].why.as_str()
        ),
        ("w", "e3", "message", 5, "status 400")
    );
    assert_eq!(open.store.backlog().unwrap(), [Backlog { sink: "w".into(), waiting: 1, undelivered: 1 }]);
}

#[test]
fn what_was_given_up_goes_behind_all_that_waits_or_is_let_go() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.commit(batch(1, "s0", vec![message("a"), message("b"), message("c")])).unwrap();
    let buried = vec![(1, 4, "ValueError".into()), (2, 1, "timeout".into()), (99, 1, String::new())];
    assert_eq!(open.store.bury(buried), Ok(2));
    assert_eq!(open.ids(), ["c"]);
    open.store.post(vec![event("e1", "a", &["w"]), event("e2", "a", &["w"])], &[]).unwrap();
    open.store.settle(Settled { dead: vec![(1, 1, "status 404".into())], ..Settled::default() }).unwrap();
    let dead = open.store.undelivered(None, 0, 9).unwrap();
    assert_eq!(
        dead.iter().map(|it| (it.sink.as_str(), it.id.as_str())).collect::<Vec<_>>(),
        [(APP, "a"), (APP, "b"), ("w", "e1")]
    );
    assert_eq!(open.store.undelivered(Some("w"), 0, 9).unwrap().len(), 1);
    let seqs: Vec<_> = dead.iter().map(|it| it.seq).collect();
    assert_eq!(open.store.redrive(&[seqs[0], seqs[2], 77]), Ok((1, 1)));
    assert_eq!(open.ids(), ["a", "c"], "in the place of its number");
    assert_eq!(ids(&open.store.deliveries("w", 0, 9).unwrap()), ["e2", "e1"]);
    assert_eq!(open.store.health().inbox_pending, 2);
    assert_eq!(open.store.discard(&[seqs[1], seqs[1]]), Ok(1));
    assert!(open.store.undelivered(None, 0, 9).unwrap().is_empty());
    assert_eq!(open.commit(batch(2, "s0", vec![message("b")])), Ok(0), "let go, and still recognised");
}

#[test]
fn a_webhook_that_goes_leaves_nothing_lost_in_silence() {
    let dir = Dir::new();
    let open = Open::at(&dir);
    open.store.put_webhook("w1", "{\"v\":1}").unwrap();
    open.store.put_webhook("w1", "{\"v\":2}").unwrap();
    open.store.put_webhook("w2", "{}").unwrap();
    assert_eq!(
        open.store.webhooks().unwrap(),
        [("w1".into(), "{\"v\":2}".into()), ("w2".into(), "{}".into())]
    );
    open.store.post(vec![event("e1", "a", &["w1", "w2", "w3"])], &[]).unwrap();
    assert_eq!(open.store.remove_webhook("w1", "removed"), Ok(1));
    assert_eq!(open.store.give_up_unknown(vec!["w2".into()], "not set any more"), Ok(1));
    let dead = open.store.undelivered(None, 0, 9).unwrap();
    assert_eq!(
        dead.iter().map(|it| (it.sink.as_str(), it.why.as_str())).collect::<Vec<_>>(),
        [("w1", "removed"), ("w3", "not set any more")]
    );
    assert_eq!(open.store.webhooks().unwrap().len(), 1);
}

/// An event goes after its time once nobody needs it, and not before; it is recognised until then.
#[test]
fn events_and_what_was_given_up_are_removed_after_their_time() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.commit(batch(1, "s0", vec![message("a")])).unwrap();
    open.store.bury(vec![(1, 1, "x".into())]).unwrap();
    open.store
        .post(vec![event("e1", "a", &["w"]), event("e2", "a", &["w"]), event("e3", "a", &["w"])], &[])
        .unwrap();
    let settled = Settled { delivered: vec![1], dead: vec![(2, 1, "x".into())], ..Settled::default() };
    open.store.settle(settled).unwrap();
    assert_eq!(rows(&dir, "spent"), 1, "the one that was delivered");
    drop(open);
    // Back-dated, so that the test does not wait.
    dir.sqlite()
        .execute_batch("UPDATE spent SET spent_unix_ms = 1; UPDATE undelivered SET died_unix_ms = 1")
        .unwrap();
    let keep = Duration::from_secs(60);
    let options = Options { keep_done: keep, keep_undelivered: keep, ..Options::default() };
    let open = Open::with(&dir, options);
    assert!(open.store.flush(crate::support::PATIENCE));
    drop(open);
    assert_eq!((rows(&dir, "undelivered"), rows(&dir, "event"), rows(&dir, "spent")), (0, 2, 1));
    assert_eq!(
        (rows(&dir, "confirmed"), rows(&dir, "pending")),
        (1, 0),
        "the message is remembered as any other"
    );
    let open = Open::at(&dir);
    assert_eq!(ids(&open.store.deliveries("w", 0, 9).unwrap()), ["e3"]);
    assert_eq!(open.store.post(vec![event("e1", "a", &["w"])], &[]), Ok(1), "forgotten");
    assert_eq!(open.store.post(vec![event("e2", "a", &["w"])], &[]), Ok(0), "still remembered");
}
