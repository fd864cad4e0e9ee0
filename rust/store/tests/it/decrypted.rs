//! Contents: read, not read, read at the second try, left by an earlier version.

use runner_store::{Applied, Batch, Completion, Content, InboxMessage, UNDECRYPTABLE, Write};

use crate::support::{Dir, Open, batch, message};

fn with_content(message_id: &str, content: Content) -> Write {
    let Write::Inbox { chat, sender, stanza, received_unix_ms, .. } = message(message_id) else { panic!() };
    Write::Inbox { chat, sender, message_id: message_id.into(), stanza, content, received_unix_ms }
}

fn failed(message_id: &str, why: &str) -> Write {
    with_content(message_id, Content::Failed { why: why.into(), asks: 2 })
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

/// A sender key alone, say: the store knows it by its name, and nobody is given it.
#[test]
fn what_holds_nothing_for_the_consumer_is_known_and_not_given() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    let nothing = || with_content("a", Content::Nothing);
    assert_eq!(open.apply(batch(1, "s0", vec![nothing()])), Applied::default());
    assert_eq!(open.apply(batch(2, "s0", vec![failed("a", "key_gone")])), Applied::default(), "it is known");
    assert!(open.store.take(0, 9).unwrap().is_empty());
    // The same after it could not be read at first: nothing is missing any more.
    open.apply(batch(3, "s0", vec![failed("b", "no_session")]));
    let applied = open.apply(batch(4, "s0", vec![with_content("b", Content::Nothing)]));
    assert_eq!(applied, Applied { inbox_rows: 0, superseded: 1, attempts: 0 });
    assert!(open.store.take(0, 9).unwrap().is_empty());
    assert!(open.store.unread(u64::MAX, 9).unwrap().is_empty());
    assert_eq!(open.store.health().inbox_pending, 0);
}

/// A sender that keeps its id for the key and then for the text, say. What is there for the consumer is given.
#[test]
fn what_held_nothing_gives_way_to_the_same_with_content() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.apply(batch(1, "s0", vec![with_content("a", Content::Nothing)]));
    assert_eq!(
        open.apply(batch(2, "s0", vec![message("a")])),
        Applied { inbox_rows: 1, superseded: 0, attempts: 0 }
    );
    let read = open.only();
    assert_eq!(read.content.as_deref(), Some(&b"\x0a\x02hi"[..]));
    assert_eq!(open.store.health().inbox_pending, 1);
    // Once: neither the same nor the empty one again.
    assert_eq!(open.apply(batch(3, "s0", vec![message("a")])), Applied::default());
    assert_eq!(open.apply(batch(4, "s0", vec![with_content("a", Content::Nothing)])), Applied::default());
    assert_eq!(open.only(), read);
    assert_eq!(open.store.done(&[read.seq]), Ok(1));
    assert_eq!(open.apply(batch(5, "s0", vec![message("a")])), Applied::default(), "it is remembered");
    assert!(open.store.take(0, 9).unwrap().is_empty());
}

#[test]
fn what_was_decrypted_is_not_printed() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    let content = Content::Plain(vec![126; 40]);
    open.apply(batch(1, "s0", vec![with_content("a", content.clone())]));
    let printed = format!("{content:?} {:?} {:?}", with_content("a", content.clone()), open.only());
    assert_eq!(printed.matches("40 bytes").count(), 3, "{printed}");
    assert!(!printed.contains("126, 126"), "{printed}");
}

fn due(open: &Open, before_unix_ms: u64) -> Vec<String> {
    open.store.unread(before_unix_ms, 9).unwrap().into_iter().map(|it| it.message_id).collect()
}

#[test]
fn what_was_not_read_is_given_up_after_its_time_or_when_nobody_asks_any_more() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    let Write::Inbox { received_unix_ms: at, .. } = message("a") else { panic!() };
    let hopeless = with_content("h", Content::Failed { why: "empty".into(), asks: 0 });
    open.apply(batch(1, "s0", vec![failed("a", "no_session")]));
    open.apply(batch(2, "s0", vec![hopeless]));
    open.apply(batch(3, "s0", vec![message("read")]));
    assert_eq!(due(&open, at), ["h"], "not before its time, or at once");
    assert_eq!(due(&open, at + 1), ["h", "a"]);
    // Asked for twice, and failed three times.
    open.apply(batch(4, "s0", vec![failed("a", "bad_mac")]));
    assert_eq!(due(&open, at), ["h"]);
    open.apply(batch(5, "s0", vec![failed("a", "bad_mac")]));
    let found = open.store.unread(at, 9).unwrap();
    let said: Vec<_> =
        found.iter().map(|it| (it.message_id.as_str(), it.failure.as_str(), it.attempts)).collect();
    assert_eq!(said, [("a", "bad_mac", 3), ("h", "empty", 1)]);
    let seqs: Vec<_> = found.iter().map(|it| it.seq).collect();
    assert_eq!(open.store.give_up_unread(Vec::new(), &seqs), Ok(2));
    assert_eq!(open.store.give_up_unread(Vec::new(), &seqs), Ok(0), "once");
    assert!(due(&open, u64::MAX).is_empty());
    assert_eq!(open.store.health().inbox_pending, 1);
    assert_eq!(open.only().message_id, "read");
    let letters = open.store.undelivered(Some(UNDECRYPTABLE), 0, 9).unwrap();
    let said: Vec<_> = letters.iter().map(|it| (it.name.as_str(), it.id.as_str(), it.why.as_str())).collect();
    let name = "message.undecryptable";
    assert_eq!(said, [(name, "a", "bad_mac"), (name, "h", "empty")]);
    // It fails once more: it stays where it is.
    assert_eq!(open.apply(batch(6, "s0", vec![failed("a", "bad_mac")])).attempts, 4);
    assert!(due(&open, u64::MAX).is_empty());
    assert_eq!(open.store.redrive(&[letters[0].seq]), Ok((0, 0)), "there is nothing to give");
    assert_eq!(open.store.undelivered(None, 0, 9).unwrap().len(), 2);
}

/// It was given up, and comes after all.
#[test]
fn what_was_given_up_is_delivered_once_when_it_is_read_and_is_no_dead_letter_then() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.apply(batch(1, "s0", vec![failed("a", "no_session")]));
    let seq = open.only().seq;
    open.store.give_up_unread(Vec::new(), &[seq]).unwrap();
    assert_eq!(open.store.health().inbox_pending, 0);
    let applied = open.apply(batch(2, "s0", vec![message("a")]));
    assert_eq!(applied, Applied { inbox_rows: 1, superseded: 0, attempts: 0 });
    assert!(open.store.undelivered(None, 0, 9).unwrap().is_empty());
    assert!(open.only().content.is_some());
    assert_eq!(open.store.health().inbox_pending, 1);
    assert_eq!(open.apply(batch(3, "s0", vec![message("a")])), Applied::default());
    assert_eq!(open.store.take(0, 9).unwrap().len(), 1);
    // Dropped by hand, or by time: the same.
    open.apply(batch(4, "s0", vec![failed("b", "no_session")]));
    let seq = open.store.unread(u64::MAX, 9).unwrap()[0].seq;
    open.store.give_up_unread(Vec::new(), &[seq]).unwrap();
    let letter = open.store.undelivered(None, 0, 9).unwrap()[0].seq;
    assert_eq!(open.store.discard(&[letter]), Ok(1));
    assert_eq!(open.apply(batch(5, "s0", vec![message("b")])).inbox_rows, 1);
    assert_eq!(open.store.take(0, 9).unwrap().len(), 2);
}

/// What was read between the look and the giving up is not given up.
#[test]
fn giving_up_is_too_late_for_what_was_read() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.apply(batch(1, "s0", vec![failed("a", "no_session")]));
    let seq = open.only().seq;
    open.apply(batch(2, "s0", vec![message("a")]));
    assert_eq!(open.store.give_up_unread(Vec::new(), &[seq, open.only().seq]), Ok(0));
    assert!(open.only().content.is_some());
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
