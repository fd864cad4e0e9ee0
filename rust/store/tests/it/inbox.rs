//! Taking, confirming, recognising what was sent again.

use std::time::Duration;

use runner_store::{MAX_DEAD_LETTERS, MAX_DEAD_LETTERS_OF_SESSION, Options, Write};

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

fn dead_letter(id: &str) -> Write {
    let (sender, message_id) = ("15550002222@s.whatsapp.net".to_owned(), id.to_owned());
    Write::DeadLetter { sender, message_id, frame: vec![0, 0xf8, 9], received_unix_ms: 7 }
}

fn dead_ids(open: &Open) -> Vec<String> {
    open.store.take_dead_letters(0, 10_000).unwrap().into_iter().map(|letter| letter.message_id).collect()
}

#[test]
fn a_dead_letter_is_kept_once_beside_the_inbox_until_it_is_removed() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    assert_eq!(open.commit(batch(1, "s0", vec![dead_letter("a"), message("b")])), Ok(1));
    assert_eq!(open.commit(batch(2, "s0", vec![dead_letter("a"), dead_letter("c")])), Ok(0));
    assert_eq!(
        open.commit(batch(3, "s0", vec![message("a")])),
        Ok(1),
        "it hides no message that can be read"
    );
    assert_eq!(
        (open.ids(), dead_ids(&open)),
        (vec!["b".into(), "a".into()], vec!["a".to_owned(), "c".into()])
    );
    let first = open.store.take_dead_letters(0, 1).unwrap().remove(0);
    assert_eq!((first.frame, first.received_unix_ms, &*first.session_id), (vec![0, 0xf8, 9], 7, "s0"));
    assert_eq!(open.store.health().dead_letters, 2);
    drop(open);
    let open = Open::at(&dir);
    assert_eq!(open.store.health().dead_letters, 2);
    assert_eq!(open.store.remove_dead_letters(&[first.seq, 999, u64::MAX]), Ok(1));
    assert_eq!(dead_ids(&open), ["c"]);
    assert_eq!((open.store.health().dead_letters, open.store.health().dead_letters_dropped_total), (1, 0));
}

#[test]
fn dead_letters_have_bounds_and_what_does_not_fit_is_counted_and_still_answered() {
    let dir = Dir::new();
    let sessions = MAX_DEAD_LETTERS / MAX_DEAD_LETTERS_OF_SESSION + 1;
    let open = Open::with_sessions(&dir, u32::try_from(sessions).unwrap());
    let of = |from: u64, to: u64| (from..to).map(|i| dead_letter(&i.to_string())).collect::<Vec<_>>();
    for session in 0..sessions - 1 {
        let id = format!("s{session}");
        assert_eq!(open.commit(batch(1, &id, of(0, MAX_DEAD_LETTERS_OF_SESSION))), Ok(0));
    }
    assert_eq!(open.store.health().dead_letters_dropped_total, 0);
    assert_eq!(open.commit(batch(2, "s0", of(0, MAX_DEAD_LETTERS_OF_SESSION + 1))), Ok(0), "one is too many");
    assert_eq!(open.commit(batch(3, &format!("s{}", sessions - 1), of(0, 1))), Ok(0), "all are too many");
    let health = open.store.health();
    assert_eq!((health.dead_letters, health.dead_letters_dropped_total), (MAX_DEAD_LETTERS, 2));
    assert_eq!(dead_ids(&open).len() as u64, MAX_DEAD_LETTERS);
}

#[test]
fn messages_of_one_chat_can_be_taken_alone() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 2);
    let of = |chat: &str, id: &str| match message(id) {
        Write::Inbox { sender, message_id, stanza, content, received_unix_ms, .. } => {
            Write::Inbox { chat: chat.into(), sender, message_id, stanza, content, received_unix_ms }
        }
        other => other,
    };
    open.commit(batch(1, "s0", vec![of("x", "1"), of("y", "2"), of("x", "3"), of("x", "4")])).unwrap();
    open.commit(batch(2, "s1", vec![of("x", "5")])).unwrap();
    open.store.done(&[3]).unwrap();
    let ids = |after, n| {
        let found = open.store.take_of_chat("s0", "x", after, n).unwrap();
        found.into_iter().map(|it| it.message_id).collect::<Vec<_>>()
    };
    assert_eq!(
        (ids(0, 9), ids(1, 9), ids(0, 1)),
        (vec!["1".into(), "4".into()], vec!["4".into()], vec!["1".into()])
    );
}

/// The session's addresses: 15550000000:3@s.whatsapp.net and 9000000000:3@lid.
#[test]
fn a_message_of_the_sessions_own_account_says_so() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 2);
    let by = |id: &str, by: &str| match message(id) {
        Write::Inbox { message_id, stanza, content, received_unix_ms, .. } => Write::Inbox {
            chat: "1-2@g.us".into(),
            sender: by.into(),
            message_id,
            stanza,
            content,
            received_unix_ms,
        },
        other => other,
    };
    let senders = [
        ("15550000000@s.whatsapp.net", true),
        ("15550000000:7@s.whatsapp.net", true),
        ("15550000000:99@hosted", true),
        ("9000000000:3@lid", true),
        ("15550000000@lid", false),
        ("9000000000@s.whatsapp.net", false),
        ("155500000001@s.whatsapp.net", false),
        ("15550009999@s.whatsapp.net", false),
    ];
    let writes: Vec<_> = senders.iter().map(|(sender, _)| by(sender, sender)).collect();
    open.commit(batch(1, "s0", writes)).unwrap();
    open.commit(batch(2, "s1", vec![by("other session", "15550000000@s.whatsapp.net")])).unwrap();
    let said: Vec<_> = open.store.take(0, 99).unwrap().into_iter().map(|it| it.is_own).collect();
    let expected: Vec<_> = senders.iter().map(|(_, is_own)| *is_own).chain([false]).collect();
    assert_eq!(said, expected);
    let of_chat = open.store.take_of_chat("s0", "1-2@g.us", 0, 99).unwrap();
    assert_eq!(of_chat.into_iter().map(|it| it.is_own).collect::<Vec<_>>(), expected[..8]);
}

#[test]
fn a_message_is_found_by_its_name_as_long_as_it_is_remembered() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 2);
    open.commit(batch(1, "s0", vec![message("1")])).unwrap();
    let Write::Inbox { chat, sender, .. } = message("1") else { unreachable!("it is one") };
    let find = |session: &str, senders: &[&str], id: &str| {
        let senders: Vec<_> = senders.iter().map(ToString::to_string).collect();
        open.store.find(session, &chat, &senders, id).unwrap().map(|found| found.message_id)
    };
    assert_eq!(find("s0", &["somebody", &sender], "1"), Some("1".into()));
    assert_eq!(find("s0", &["somebody"], "1"), None);
    assert_eq!((find("s1", &[&sender], "1"), find("s0", &[&sender], "2")), (None, None));
    open.store.done(&[1]).unwrap();
    assert_eq!(find("s0", &[&sender], "1"), Some("1".into()), "confirmed, and remembered");
}
