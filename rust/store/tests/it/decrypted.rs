//! Contents: read, not read, read at the second try, left by an earlier version.

use runner_store::{Applied, Batch, Completion, Content, InboxMessage, Write};

use crate::support::{Dir, Open, batch, message};

fn with_content(message_id: &str, content: Content) -> Write {
    let Write::Inbox { chat, sender, stanza, received_unix_ms, .. } = message(message_id) else { panic!() };
    Write::Inbox { chat, sender, message_id: message_id.into(), stanza, content, received_unix_ms }
}

fn failed(message_id: &str, why: &str) -> Write {
    with_content(message_id, Content::Failed(why.into()))
}

impl Open {
    fn apply(&self, batch: Batch) -> Applied {
        self.store.submit(batch).unwrap();
        match self.wait(1).remove(0) {
            Completion::Committed { applied, .. } => applied,
            other => panic!("{other:?}"),
        }
    }

    fn only(&self) -> InboxMessage {
        let mut all = self.store.take(0, 9).unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
}

/// Pain 4: the dedupe key is one of delivery. A sender that is asked again sends the same id again.
#[test]
fn a_message_that_could_not_be_read_gives_way_to_itself() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    let attempts = |token| open.apply(batch(token, "s0", vec![failed("a", "no_session")])).attempts;
    assert_eq!((attempts(1), attempts(2)), (1, 2), "each failure counts, over restarts");
    let unread = open.only();
    assert_eq!((unread.content, unread.failure.as_deref()), (None, Some("no_session")));
    let applied = open.apply(batch(3, "s0", vec![message("a")]));
    assert_eq!(applied, Applied { inbox_rows: 1, superseded: 1, attempts: 0 });
    let read = open.only();
    assert_eq!((read.content.as_deref(), read.failure), (Some(&b"\x0a\x02hi"[..]), None));
    assert!(read.seq > unread.seq, "a consumer that is past the first sees it");
    assert_eq!(open.store.health().inbox_pending, 1);
    // And from here on it is delivered.
    assert_eq!(open.apply(batch(4, "s0", vec![message("a")])), Applied::default());
    assert_eq!(open.apply(batch(5, "s0", vec![failed("a", "bad_mac")])), Applied::default());
    assert_eq!(open.only().failure, None);
}

#[test]
fn a_confirmed_failure_gives_way_too() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.apply(batch(1, "s0", vec![failed("a", "no_session")]));
    let seq = open.only().seq;
    assert_eq!(open.store.done(&[seq]), Ok(1));
    let applied = open.apply(batch(2, "s0", vec![message("a")]));
    assert_eq!(applied, Applied { inbox_rows: 1, superseded: 0, attempts: 0 });
    let read = open.only();
    assert!(read.content.is_some());
    assert_eq!(open.store.health().inbox_pending, 1);
    assert_eq!(open.store.done(&[read.seq]), Ok(1));
    assert_eq!(open.apply(batch(3, "s0", vec![message("a")])), Applied::default(), "it is remembered");
}

#[test]
fn what_an_earlier_version_left_is_found_in_order_until_it_is_decrypted() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 2);
    open.apply(batch(1, "s0", vec![message("a"), message("b"), message("c"), message("d")]));
    open.apply(batch(2, "s1", vec![message("other")]));
    dir.sqlite()
        .execute("UPDATE inbox SET content = NULL WHERE message_id IN ('a', 'b', 'd', 'other')", [])
        .unwrap();
    open.store.done(&[2]).unwrap();
    let page = |after_seq, n| {
        open.store.request_ciphertexts("s0", 7, after_seq, n).unwrap();
        match open.wait(1).remove(0) {
            Completion::Ciphertexts { token: 7, result } => {
                result.unwrap().into_iter().map(|row| row.seq).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(page(0, 9), [1, 4], "not those that have a content, or that the consumer has confirmed");
    assert_eq!((page(0, 1), page(1, 9)), (vec![1], vec![4]));
    assert!(open.store.device("s0").unwrap().has_ciphertexts);
    // One is read, the other is not.
    open.apply(batch(3, "s0", vec![message("a"), failed("d", "no_session")]));
    assert!(page(0, 9).is_empty());
    assert!(!open.store.device("s0").unwrap().has_ciphertexts);
    assert!(open.store.device("s1").unwrap().has_ciphertexts);
}
