//! Leases: keys that have left the record before they are used.

use runner_signal::fuzz::{Commit, Device, place};
use runner_signal::session::{self, EncryptError, Leased, MAX_LEASE};

use crate::{acquainted, pair, read, send};

fn lease(device: &mut Device, count: u32) -> Leased {
    let record = device.session.as_ref().map(runner_signal::Record::as_bytes);
    session::lease(&device.identity, record, count, &mut |bytes| device.steps.fill(bytes)).unwrap()
}

#[test]
fn a_lease_gives_as_many_messages_as_it_says() {
    let (mut a, mut b) = acquainted();
    let Leased { record, lease: mut block } = lease(&mut a, 3);
    a.session = Some(record);
    for n in 0..3 {
        assert_eq!(block.left(), 3 - n);
        let message = block.encrypt(b"leased").unwrap();
        assert_eq!(place(&message).1, n);
        assert_eq!(read(&mut b, &message).unwrap(), b"leased");
    }
    assert_eq!(block.encrypt(b"one more"), Err(EncryptError::Spent));
    assert_eq!(place(&send(&mut a, b"after it")).1, 3);
}

#[test]
fn the_size_of_a_lease_is_bounded() {
    let (mut a, _) = acquainted();
    for (asked, given) in [(0, 1), (1, 1), (MAX_LEASE, MAX_LEASE), (u32::MAX, MAX_LEASE)] {
        assert_eq!(lease(&mut a, asked).lease.left(), given);
    }
}

#[test]
fn a_crash_loses_keys_and_uses_none_twice() {
    let (mut a, mut b) = pair(true);
    let mut used = std::collections::BTreeSet::new();
    for crash in 0..20 {
        let Leased { record, lease: mut block } = lease(&mut a, 16);
        a.session = Some(record);
        for _ in 0..crash % 5 {
            let message = block.encrypt(b"x").unwrap();
            assert!(used.insert(place(&message)), "used twice");
            read(&mut b, &message).unwrap();
        }
        // The block goes with the process; the record stays.
    }
    let last = send(&mut a, b"after all of them");
    assert!(used.insert(place(&last)));
    assert_eq!(place(&last).1, 20 * 16);
    assert_eq!(read(&mut b, &last).unwrap(), b"after all of them");
}

#[test]
fn an_uncommitted_encryption_that_was_not_sent_costs_nothing() {
    let (mut a, mut b) = acquainted();
    a.encrypt(b"never leaves", 1, Commit::Later).unwrap();
    a.crash();
    let message = send(&mut a, b"leaves");
    assert_eq!(place(&message).1, 0);
    assert_eq!(read(&mut b, &message).unwrap(), b"leaves");
}

#[test]
fn a_lease_is_current_until_the_ratchet_turns() {
    let (mut a, mut b) = acquainted();
    let Leased { record, lease: mut block } = lease(&mut a, 8);
    a.session = Some(record);
    assert_eq!(block.is_current(a.record().unwrap()), Ok(true));
    let question = block.encrypt(b"?").unwrap();
    read(&mut b, &question).unwrap();
    let answer = send(&mut b, b"!");
    read(&mut a, &answer).unwrap();
    assert_eq!(block.is_current(a.record().unwrap()), Ok(false));
    // Using it on is safe: the peer keeps the chain.
    let late = block.encrypt(b"late").unwrap();
    let newer = send(&mut a, b"newer");
    assert_ne!(place(&late), place(&newer));
    for message in [newer, late] {
        read(&mut b, &message).unwrap();
    }
}

#[test]
fn a_lease_of_a_pending_session_ends_with_the_answer() {
    let (mut a, mut b) = pair(true);
    let Leased { record, lease: mut block } = lease(&mut a, 8);
    a.session = Some(record);
    read(&mut b, &block.encrypt(b"?").unwrap()).unwrap();
    let answer = send(&mut b, b"!");
    read(&mut a, &answer).unwrap();
    assert_eq!(block.is_current(a.record().unwrap()), Ok(false));
}

#[test]
fn a_lease_of_a_session_that_is_not_current_any_more_is_not_either() {
    let (mut a, mut b) = acquainted();
    let Leased { record, lease: block } = lease(&mut a, 8);
    a.session = Some(record);
    a.session = Some(session::retire(a.record().unwrap()).unwrap());
    assert_eq!(block.is_current(a.record().unwrap()), Ok(false));
    a.start(&b.bundle(false));
    assert_eq!(block.is_current(a.record().unwrap()), Ok(false));
}

#[test]
fn decrypting_does_not_give_leased_keys_back() {
    let (mut a, mut b) = acquainted();
    let from_b = send(&mut b, b"under way");
    // A's ratchet has not turned since, so the block is of the chain that decrypting leaves alone.
    let Leased { record, lease: mut block } = lease(&mut a, 4);
    a.session = Some(record);
    let first = block.encrypt(b"leased").unwrap();
    read(&mut a, &from_b).unwrap();
    let after = send(&mut a, b"after");
    assert_ne!(place(&first), place(&after));
    for message in [first, after] {
        read(&mut b, &message).unwrap();
    }
}
