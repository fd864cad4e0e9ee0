//! Several sessions with one device: both sides begin at once, one begins anew, a device is linked anew.

use runner_signal::fuzz::Device;
use runner_signal::identity::{Seen, observe};
use runner_signal::session::{self, DecryptError, MAX_ARCHIVED, MessageKind, NamedPreKeys};
use runner_signal::{BundleError, PreKey, PreKeySignalMessage, SignedPreKey};

use crate::{acquainted, pair, read, send};

fn archived(device: &Device) -> usize {
    session::summary(device.record().unwrap()).unwrap().archived
}

#[test]
fn both_sides_may_begin_at_once() {
    let (mut a, mut b) = pair(true);
    b.start(&a.bundle(true));
    let from_a: Vec<_> = (0..3_u8).map(|n| send(&mut a, &[n])).collect();
    let from_b: Vec<_> = (0..3_u8).map(|n| send(&mut b, &[n])).collect();
    for n in [2, 0, 1] {
        assert_eq!(read(&mut b, &from_a[n]).unwrap(), [n as u8]);
        assert_eq!(read(&mut a, &from_b[n]).unwrap(), [n as u8]);
    }
    for n in 0..4 {
        let question = send(&mut a, &[n]);
        assert_eq!(read(&mut b, &question).unwrap(), [n]);
        let answer = send(&mut b, &[n]);
        assert_eq!(read(&mut a, &answer).unwrap(), [n]);
        assert!(n == 0 || (question.kind, answer.kind) == (MessageKind::Signal, MessageKind::Signal));
    }
    assert_eq!((archived(&a), archived(&b)), (1, 1));
}

#[test]
fn a_new_session_is_used_and_the_old_one_still_reads() {
    let (mut a, mut b) = acquainted();
    let late = send(&mut b, b"late");
    a.start(&b.bundle(true));
    let first = send(&mut a, b"new");
    assert_eq!(first.kind, MessageKind::PreKey);
    assert_eq!(read(&mut b, &first).unwrap(), b"new");
    let answer = send(&mut b, b"answer");
    assert_eq!(read(&mut a, &answer).unwrap(), b"answer");
    assert_eq!(read(&mut a, &late).unwrap(), b"late");
}

#[test]
fn the_session_that_the_peer_uses_is_the_current_one() {
    let (mut a, mut b) = acquainted();
    let base_key =
        |device: &Device| session::summary(device.record().unwrap()).unwrap().current.unwrap().base_key;
    let old = base_key(&a);
    a.start(&b.bundle(true));
    assert_ne!(base_key(&a), old);
    let message = send(&mut b, b"by the old one");
    read(&mut a, &message).unwrap();
    assert_eq!((base_key(&a), archived(&a)), (old, 1));
}

#[test]
fn a_message_that_an_older_session_has_read_is_known_as_that() {
    let (mut a, mut b) = acquainted();
    let message = send(&mut a, b"once");
    read(&mut b, &message).unwrap();
    b.start(&a.bundle(true));
    assert_eq!(read(&mut b, &message), Err(DecryptError::Duplicate { counter: 0 }));
}

/// The work that one message may cost is for the session that it is of, not for guesses at newer ones.
#[test]
fn a_gap_in_an_older_session_is_read_however_many_are_newer() {
    let (mut a, mut b) = acquainted();
    read(&mut b, &send(&mut a, b"of the chain")).unwrap();
    for _ in 0..3 {
        b.start(&a.bundle(true));
    }
    for _ in 0..1_500 {
        send(&mut a, b"lost");
    }
    assert_eq!(read(&mut b, &send(&mut a, b"behind the gap")).unwrap(), b"behind the gap");
}

#[test]
fn so_many_sessions_are_kept_and_no_more() {
    let (mut a, mut b) = acquainted();
    let first = send(&mut b, b"by the first session");
    let mut seconds = Vec::new();
    for n in 0..=MAX_ARCHIVED {
        a.start(&b.bundle(false));
        let message = send(&mut a, &[n as u8]);
        read(&mut b, &message).unwrap();
        seconds.push(send(&mut b, b"by a later one"));
    }
    assert_eq!(archived(&a), MAX_ARCHIVED);
    assert_eq!(read(&mut a, &first), Err(DecryptError::BadMac));
    read(&mut a, &seconds[0]).unwrap();
}

#[test]
fn a_device_that_was_linked_anew_is_a_value_and_its_old_messages_do_not_bring_it_back() {
    let (mut a, mut b) = acquainted();
    let late = send(&mut b, b"from before");
    let known = observe(None, b.identity.public()).unwrap().1.unwrap();
    let mut b_anew = Device::new(3);
    b_anew.start(&a.bundle(true));
    let first = send(&mut b_anew, b"it is me again");

    let message = PreKeySignalMessage::parse(&first.bytes).unwrap();
    let one_time = PreKey::from_record(a.pre_keys[&message.pre_key_id.unwrap()].as_bytes()).unwrap();
    let keys = NamedPreKeys { signed: Some(&a.signed), one_time: Some(&one_time) };
    let opened = session::decrypt_pre_key(&a.identity, a.record(), keys, &message).unwrap();
    assert_eq!(opened.used_pre_key, message.pre_key_id);
    let seen = observe(Some(known.as_bytes()), &opened.new_identity.unwrap()).unwrap().0;
    assert_eq!(seen, Seen::Changed { before: *b.identity.public() });
    a.take_over(opened.record);

    assert_eq!(read(&mut a, &late).unwrap(), b"from before");
    let current = session::summary(a.record().unwrap()).unwrap().current.unwrap();
    assert_eq!(current.remote_identity, *b_anew.identity.public());
    let answer = send(&mut a, b"welcome");
    assert_eq!(read(&mut b_anew, &answer).unwrap(), b"welcome");
}

#[test]
fn a_known_session_tells_of_no_new_identity() {
    let (mut a, mut b) = pair(true);
    read(&mut b, &send(&mut a, b"one")).unwrap();
    let second = send(&mut a, b"two");
    let message = PreKeySignalMessage::parse(&second.bytes).unwrap();
    // Its pre-keys are not needed any more.
    let opened =
        session::decrypt_pre_key(&b.identity, b.record(), NamedPreKeys::default(), &message).unwrap();
    assert_eq!((opened.new_identity, opened.used_pre_key), (None, None));
}

#[test]
fn an_archived_session_does_not_send_and_still_reads() {
    let (mut a, mut b) = acquainted();
    a.session = Some(session::archive(a.record().unwrap()).unwrap());
    assert!(a.encrypt(b"x", 1, runner_signal::fuzz::Commit::Done).is_none());
    assert_eq!(session::summary(a.record().unwrap()).unwrap().current, None);
    let message = send(&mut b, b"go on");
    assert_eq!(read(&mut a, &message).unwrap(), b"go on");
    let answer = send(&mut a, b"yes");
    assert_eq!(read(&mut b, &answer).unwrap(), b"yes");
}

#[test]
fn a_retired_session_never_sends_again_and_still_reads() {
    let (mut a, mut b) = acquainted();
    a.session = Some(session::retire(a.record().unwrap()).unwrap());
    for _ in 0..2 {
        assert!(a.encrypt(b"x", 1, runner_signal::fuzz::Commit::Done).is_none());
        let message = send(&mut b, b"still");
        assert_eq!(read(&mut a, &message).unwrap(), b"still");
        assert_eq!(session::summary(a.record().unwrap()).unwrap().current, None);
    }
    a.start(&b.bundle(true));
    let late = send(&mut b, b"by the old one");
    assert_eq!(read(&mut a, &late).unwrap(), b"by the old one");
    let first = send(&mut a, b"anew");
    assert_eq!(read(&mut b, &first).unwrap(), b"anew");
    let answer = send(&mut b, b"welcome back");
    assert_eq!(read(&mut a, &answer).unwrap(), b"welcome back");
}

#[test]
fn a_bundle_that_is_not_signed_by_its_identity_is_refused() {
    let (a, mut b) = pair(true);
    let random = &mut |bytes: &mut [u8]| bytes.fill(1);
    let good = b.bundle(false);
    let mut other_signature = good.clone();
    other_signature.signature[3] ^= 1;
    let mut other_identity = good.clone();
    other_identity.identity = *a.identity.public();
    let mut other_key = good.clone();
    other_key.signed_pre_key = *SignedPreKey::generate(&a.identity, 2, random).pair.public();
    for bundle in [other_signature, other_identity, other_key] {
        let refused = session::start(&a.identity, a.record(), &bundle, random).unwrap_err();
        assert_eq!(refused, BundleError::Signature);
    }
    session::start(&a.identity, a.record(), &good, random).unwrap();
}
