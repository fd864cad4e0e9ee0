//! What two devices can rely on.

use runner_signal::fuzz::{Commit, Device, Steps, place};
use runner_signal::session::{
    self, DecryptError, EncryptError, MAX_JUMP, MAX_RECEIVING, MAX_SKIPPED, MessageKind, NamedPreKeys,
};
use runner_signal::{
    PreKeySignalMessage, SenderKeyDistribution, SenderKeyMessage, SignalMessage, group, wire::MAX_PLAINTEXT,
};

use crate::{acquainted, pair, read, send};

fn summary(device: &Device) -> session::Summary {
    session::summary(device.record().unwrap()).unwrap()
}

#[test]
fn a_first_message_makes_the_session_on_the_other_side() {
    for with_pre_key in [true, false] {
        let (mut a, mut b) = pair(with_pre_key);
        let first = send(&mut a, b"one");
        assert_eq!(first.kind, MessageKind::PreKey);
        assert_eq!(read(&mut b, &first).unwrap(), b"one");
        assert!(b.pre_keys.is_empty(), "a used pre-key is gone");
        let answer = send(&mut b, b"two");
        assert_eq!(answer.kind, MessageKind::Signal);
        assert_eq!(read(&mut a, &answer).unwrap(), b"two");
        let third = send(&mut a, b"three");
        assert_eq!(third.kind, MessageKind::Signal);
        assert_eq!(read(&mut b, &third).unwrap(), b"three");
    }
}

#[test]
fn contents_of_every_length_come_out_as_they_went_in() {
    let (mut a, mut b) = acquainted();
    for len in 0..70 {
        let plaintext = vec![0x5a; len];
        assert_eq!(read(&mut b, &send(&mut a, &plaintext)).unwrap(), plaintext);
    }
}

#[test]
fn a_content_that_does_not_fit_costs_no_key() {
    let (mut a, mut b) = acquainted();
    let steps = &mut |bytes: &mut [u8]| bytes.fill(1);
    let long = vec![0; MAX_PLAINTEXT + 1];
    let error = session::encrypt(&a.identity, a.record(), &long, steps).unwrap_err();
    assert_eq!(error, EncryptError::TooLong { len: long.len() });
    let longest = send(&mut a, &long[1..]);
    assert_eq!(place(&longest).1, 0);
    assert_eq!(read(&mut b, &longest).unwrap().len(), MAX_PLAINTEXT);
}

#[test]
fn messages_are_read_in_any_order_and_once() {
    let (mut a, mut b) = acquainted();
    let sent: Vec<_> = (0..30_u8).map(|n| send(&mut a, &[n])).collect();
    for (n, message) in sent.iter().enumerate().rev() {
        assert_eq!(read(&mut b, message).unwrap(), [n as u8]);
    }
    for (n, message) in sent.iter().enumerate() {
        assert_eq!(read(&mut b, message), Err(DecryptError::Duplicate { counter: n as u32 }));
    }
    assert_eq!(summary(&b).skipped, 0);
}

#[test]
fn a_first_message_is_read_once() {
    let (mut a, mut b) = pair(true);
    let first = send(&mut a, b"one");
    read(&mut b, &first).unwrap();
    assert_eq!(read(&mut b, &first), Err(DecryptError::Duplicate { counter: 0 }));
}

#[test]
fn a_message_may_be_so_far_ahead_and_no_further() {
    let (mut a, mut b) = acquainted();
    let sent: Vec<_> = (0..=MAX_JUMP + 1).map(|_| send(&mut a, b"x")).collect();
    let (counter, before) = (MAX_JUMP + 1, b.session.clone());
    assert_eq!(read(&mut b, &sent[counter as usize]), Err(DecryptError::TooFarAhead { counter, next: 0 }));
    assert_eq!(b.session, before);
    read(&mut b, &sent[MAX_JUMP as usize]).unwrap();
    assert_eq!(summary(&b).skipped, MAX_SKIPPED);
    read(&mut b, &sent[counter as usize]).unwrap();
    read(&mut b, &sent[2]).unwrap();
}

#[test]
fn keys_of_messages_that_do_not_come_are_bounded_and_the_oldest_go() {
    let (mut a, mut b) = acquainted();
    let mut gone = Vec::new();
    for _ in 0..3 {
        let sent: Vec<_> = (0..900).map(|_| send(&mut a, b"x")).collect();
        read(&mut b, &sent[899]).unwrap();
        gone.extend(sent.into_iter().take(899));
        let answer = send(&mut b, b"y");
        read(&mut a, &answer).unwrap();
        assert!(summary(&b).skipped <= MAX_SKIPPED);
    }
    assert_eq!(summary(&b).skipped, MAX_SKIPPED);
    let dropped = gone.len() - MAX_SKIPPED;
    assert!(matches!(read(&mut b, &gone[dropped - 1]), Err(DecryptError::Duplicate { .. })));
    read(&mut b, &gone[dropped]).unwrap();
}

#[test]
fn a_chain_is_kept_until_five_newer_ones_have_come() {
    for newer in [MAX_RECEIVING - 1, MAX_RECEIVING] {
        let (mut a, mut b) = acquainted();
        let first = send(&mut a, b"of the old chain");
        let late = send(&mut a, b"late");
        read(&mut b, &first).unwrap();
        for _ in 0..newer {
            let question = send(&mut b, b"?");
            read(&mut a, &question).unwrap();
            let answer = send(&mut a, b"!");
            read(&mut b, &answer).unwrap();
        }
        let outcome = read(&mut b, &late);
        if newer < MAX_RECEIVING {
            assert_eq!(outcome.unwrap(), b"late");
        } else {
            assert_eq!(outcome, Err(DecryptError::BadMac));
        }
    }
}

#[test]
fn the_ratchet_turns_with_each_answer_and_not_otherwise() {
    let (mut a, mut b) = acquainted();
    let [one, two] = [send(&mut a, b"1"), send(&mut a, b"2")];
    assert_eq!(place(&one).0, place(&two).0);
    read(&mut b, &one).unwrap();
    let [three, four] = [send(&mut b, b"3"), send(&mut b, b"4")];
    read(&mut b, &two).unwrap();
    assert_eq!(place(&three).0, place(&four).0);
    read(&mut a, &four).unwrap();
    let five = send(&mut a, b"5");
    assert_ne!(place(&five).0, place(&one).0);
    // Peers that close a chain early need to know where it ended.
    assert_eq!(SignalMessage::parse(&five.bytes).unwrap().previous_counter, 1);
    read(&mut b, &five).unwrap();
    read(&mut a, &three).unwrap();
}

#[test]
fn without_a_session_nothing_is_read_or_written() {
    let (mut a, mut b) = acquainted();
    let message = send(&mut a, b"x");
    b.session = None;
    assert_eq!(read(&mut b, &message), Err(DecryptError::NoSession));
    let random = &mut |bytes: &mut [u8]| bytes.fill(1);
    let error = session::encrypt(&b.identity, None, b"x", random).unwrap_err();
    assert_eq!(error, EncryptError::NoSession);
}

#[test]
fn a_pre_key_that_is_gone_is_named() {
    let (mut a, mut b) = pair(true);
    let first = send(&mut a, b"one");
    let (&id, _) = b.pre_keys.first_key_value().unwrap();
    b.pre_keys.clear();
    assert_eq!(read(&mut b, &first), Err(DecryptError::UnknownPreKey { id }));
    b.signed.id += 1;
    assert_eq!(read(&mut b, &first), Err(DecryptError::UnknownSignedPreKey { id: 1 }));
}

#[test]
fn a_failed_commit_leaves_the_message_to_be_read() {
    let (mut a, mut b) = pair(true);
    let (one, two) = (send(&mut a, b"one"), send(&mut a, b"two"));
    for _ in 0..2 {
        for message in [&one, &two] {
            b.decrypt(message, Commit::Later).unwrap();
        }
        assert!(b.pre_keys.is_empty());
        b.crash();
    }
    assert_eq!(read(&mut b, &two).unwrap(), b"two");
    assert_eq!(read(&mut b, &one).unwrap(), b"one");
}

#[test]
fn a_summary_says_who_is_there_and_no_secret() {
    let (mut a, mut b) = pair(true);
    let current = summary(&a).current.unwrap();
    assert_eq!(current.remote_identity, *b.identity.public());
    assert_eq!(current.remote_registration_id, b.identity.registration_id());
    assert!(current.is_pending);
    let first = send(&mut a, b"one");
    read(&mut b, &first).unwrap();
    assert_eq!(summary(&b).current.unwrap().base_key, current.base_key);
    assert_eq!(summary(&b).current.unwrap().remote_registration_id, a.identity.registration_id());
    let answer = send(&mut b, b"two");
    read(&mut a, &answer).unwrap();
    assert!(!summary(&a).current.unwrap().is_pending);
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let (mut a, _) = pair(true);
    send(&mut a, b"x");
    let lease = session::lease(&a.identity, a.record(), 2, &mut |bytes| bytes.fill(1)).unwrap();
    let printed = format!("{a:?} {lease:?} {:?} {:?}", a.bundle(true), a.signed.to_record());
    assert!(printed.contains("Record(") && printed.contains("Secret(..)"), "{printed}");
    for secret in [a.identity.pair().expose(), a.signed.pair.expose()] {
        let [first, second, third, ..] = secret;
        for form in [format!("{first}, {second}, {third}"), format!("{first:02x}{second:02x}{third:02x}")] {
            assert!(!printed.contains(&form), "{printed}");
        }
    }
}

/// A content may be a sender key, or words that are nobody's business.
#[test]
fn what_was_decrypted_is_not_printed() {
    let (mut a, b) = pair(false);
    let first = send(&mut a, &[211; 40]);
    let message = PreKeySignalMessage::parse(&first.bytes).unwrap();
    let keys = NamedPreKeys { signed: Some(&b.signed), one_time: None };
    let read = session::decrypt_pre_key(&b.identity, None, keys, &message).unwrap();
    let mut steps = Steps(1);
    let own = group::create(&mut |bytes| steps.fill(bytes));
    let told = group::distribution(own.as_bytes()).unwrap();
    let theirs = group::accept(None, &SenderKeyDistribution::parse(&told).unwrap()).unwrap().unwrap();
    let sent = group::encrypt(Some(own.as_bytes()), &[211; 40], &mut |bytes| steps.fill(bytes)).unwrap();
    let sent = SenderKeyMessage::parse(&sent.message).unwrap();
    let in_group = group::decrypt(Some(theirs.as_bytes()), &sent).unwrap();
    assert_eq!((read.plaintext.len(), in_group.plaintext.len()), (40, 40));
    let printed = format!("{read:?} {in_group:?}");
    assert!(printed.contains("40 bytes") && !printed.contains("211, 211"), "{printed}");
}
