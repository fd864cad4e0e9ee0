//! Records: what was stored is read, and nothing else is.

use proptest::prelude::*;
use runner_signal::fuzz::{Commit, Device, records};
use runner_signal::session::{self, MAX_JUMP};
use runner_signal::{
    Kind, PreKey, Record, RecordError, SenderKeyDistribution, SenderKeyMessage, SignedPreKey, group, identity,
};
use sha2::{Digest, Sha256};

use crate::{acquainted, pair, read, send};

/// One record of each kind, as they come about.
fn examples() -> Vec<(Kind, Record)> {
    let (mut a, mut b) = acquainted();
    for _ in 0..5 {
        send(&mut a, b"lost");
    }
    let message = send(&mut a, b"read");
    read(&mut b, &message).unwrap();
    b.start(&a.bundle(true));
    let random = &mut |bytes: &mut [u8]| bytes.fill(3);
    vec![
        (Kind::Session, a.session.take().unwrap()),
        (Kind::Session, b.session.take().unwrap()),
        (Kind::Session, pair(false).0.session.unwrap()),
        (Kind::SenderKey, group::create(random)),
        (Kind::PreKey, PreKey::generate(7, random).to_record()),
        (Kind::SignedPreKey, SignedPreKey::generate(&a.identity, 8, random).to_record()),
        (Kind::Identity, identity::to_record(a.identity.public())),
    ]
}

fn open_any(kind: Kind, record: &[u8]) -> Result<(), RecordError> {
    match kind {
        Kind::Session => session::summary(record).map(drop),
        Kind::SenderKey => match group::distribution(record) {
            Err(group::EncryptError::Record(error)) => Err(error),
            _ => Ok(()),
        },
        Kind::PreKey => PreKey::from_record(record).map(drop),
        Kind::SignedPreKey => SignedPreKey::from_record(record).map(drop),
        Kind::Identity => identity::from_record(record).map(drop),
    }
}

/// The record with the checksum that its bytes should have.
fn resealed(mut record: Vec<u8>) -> Vec<u8> {
    record.truncate(record.len() - 8);
    let sum = Sha256::digest(&record);
    record.extend_from_slice(&sum[..8]);
    record
}

#[test]
fn every_damaged_bit_is_noticed() {
    for (kind, record) in examples() {
        for bit in 0..record.as_bytes().len() * 8 {
            let mut damaged = record.as_bytes().to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open_any(kind, &damaged), Err(RecordError::Damaged { kind }), "{kind}, bit {bit}");
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    for (kind, record) in examples() {
        let record = record.as_bytes();
        for len in 0..record.len() {
            assert_eq!(
                open_any(kind, &record[..len]),
                Err(RecordError::Damaged { kind }),
                "{kind}, {len} bytes"
            );
            if len >= 10 {
                // With the right checksum it is still no whole record.
                assert!(open_any(kind, &resealed(record[..len].to_vec())).is_err(), "{kind}, {len} bytes");
            }
        }
        let longer = [&record[..record.len() - 8], &[0], &record[record.len() - 8..]].concat();
        assert_eq!(open_any(kind, &resealed(longer)), Err(RecordError::Damaged { kind }));
    }
}

#[test]
fn a_record_of_another_kind_or_version_is_named() {
    let examples = examples();
    for (kind, record) in &examples {
        for (other, _) in &examples {
            let expected = if kind == other { Ok(()) } else { Err(RecordError::Kind { kind: *other }) };
            assert_eq!(open_any(*other, record.as_bytes()), expected);
        }
        let mut newer = record.as_bytes().to_vec();
        newer[1] = 2;
        assert_eq!(open_any(*kind, &resealed(newer)), Err(RecordError::Version { kind: *kind, version: 2 }));
    }
}

/// A sender-key record with two skipped messages, and where the parts of its chain begin.
fn with_skipped() -> (Vec<u8>, [usize; 4]) {
    let random = &mut |bytes: &mut [u8]| bytes.fill(3);
    let own = group::create(random);
    let told = group::distribution(own.as_bytes()).unwrap();
    let record = group::accept(None, &SenderKeyDistribution::parse(&told).unwrap()).unwrap().unwrap();
    let mut lease = group::lease(Some(own.as_bytes()), 3).unwrap().lease;
    let sent: Vec<_> = (0..3).map(|_| lease.encrypt(b"x", random).unwrap()).collect();
    let message = SenderKeyMessage::parse(&sent[2]).unwrap();
    let record = group::decrypt(Some(record.as_bytes()), &message).unwrap().record.into_bytes();
    // Kind, version, count; own, id, signing key; open, chain key, next, count.
    let (open, next) = (3 + 1 + 4 + 32, 3 + 37 + 33);
    let skipped = next + 4 + 2;
    assert_eq!(record[open], 1);
    assert_eq!(record[next..skipped], [0, 0, 0, 3, 0, 2]);
    assert_eq!(record.len(), skipped + 2 * 36 + 8);
    (record, [open, next, skipped, skipped + 36])
}

#[test]
fn what_no_program_of_ours_writes_is_damage_also_under_a_right_checksum() {
    let (record, [open, next, first, second]) = with_skipped();
    let refuse = |kind, record: Vec<u8>, what| {
        assert_eq!(open_any(kind, &resealed(record)), Err(RecordError::Damaged { kind }), "{what}");
    };
    let changed = |at: usize, byte: u8| {
        let mut changed = record.clone();
        changed[at] = byte;
        changed
    };
    refuse(Kind::SenderKey, changed(open, 2), "neither open nor closed");
    refuse(Kind::SenderKey, changed(3, 2), "neither own nor another's");
    refuse(Kind::SenderKey, changed(2, 6), "more keys than are kept");
    refuse(Kind::SenderKey, changed(second + 3, 0), "a number twice");
    refuse(Kind::SenderKey, changed(second + 3, 3), "a number that is not behind");
    refuse(Kind::SenderKey, changed(next + 3, 1), "a number that is not behind");
    let mut swapped = record.clone();
    let (one, other) = swapped.split_at_mut(second);
    one[first..].swap_with_slice(&mut other[..36]);
    refuse(Kind::SenderKey, swapped, "numbers that fall");
    let mut closed = changed(open, 0);
    closed.drain(open + 1..open + 33);
    refuse(Kind::SenderKey, closed, "a sender key that is closed");
    refuse(Kind::SenderKey, [&record[..2], &[0; 9]].concat(), "no key");

    let session = pair(false).0.session.unwrap().into_bytes();
    let flags = |flags: u8| [&session[..3], &[flags], &session[4..]].concat();
    assert_eq!(session[2..4], [1, 1 | 4 | 8], "one that we began, with a chain, pending");
    refuse(Kind::Session, flags(1 | 4 | 8 | 32), "a flag that there is not");
    refuse(Kind::Session, flags(1 | 4 | 16), "a pre-key of no header");
    refuse(Kind::Session, [&[1, 1, 2], &session[3..]].concat(), "two current ones");
    refuse(Kind::Session, [&[1, 1][..], &[0; 10]].concat(), "none at all");
}

#[test]
fn more_skipped_messages_than_are_kept_are_damage_also_spread_over_sessions() {
    for (skipped, outcome) in [(1_000, Ok(())), (1_001, Err(RecordError::Damaged { kind: Kind::Session }))] {
        let (mut a, mut b) = acquainted();
        for _ in 0..skipped {
            send(&mut a, b"lost");
        }
        read(&mut b, &send(&mut a, b"read")).unwrap();
        let record = b.session.unwrap().into_bytes();
        // Kind, version, has current; the session; no archived ones. Now with itself as an archived one.
        let state = &record[3..record.len() - 9];
        let twice = [&record[..3], state, &[1], state, &[0; 8]].concat();
        assert_eq!(open_any(Kind::Session, &resealed(twice)), outcome, "twice {skipped}");
    }
}

#[test]
fn an_error_names_what_is_wrong_with_which_record() {
    let error = RecordError::Damaged { kind: Kind::SenderKey };
    assert_eq!(error.to_string(), "the sender-key record is damaged");
    let error = RecordError::Version { kind: Kind::Session, version: 9 };
    assert_eq!(error.to_string(), "session record of version 9, which this program does not know");
}

#[test]
fn records_are_as_small_as_they_are_said_to_be() {
    let sizes: Vec<_> = examples().iter().map(|(_, record)| record.as_bytes().len()).collect();
    // docs/decisions/0014-signal-records.md
    assert_eq!(sizes, [321, 718, 254, 119, 78, 142, 42]);
    let (mut a, mut b) = acquainted();
    let sent: Vec<_> = (0..=MAX_JUMP).map(|_| send(&mut a, b"x")).collect();
    read(&mut b, &sent[MAX_JUMP as usize]).unwrap();
    let largest = b.session.unwrap().as_bytes().len();
    assert!(largest < 73_000, "{largest} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_state_has_one_encoding(steps in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut devices = [Device::new(1), Device::new(2)];
        for step in steps {
            let (from, lost) = (usize::from(step % 2), step / 2 % 3 == 0);
            if step > 240 || devices[from].session.is_none() {
                let bundle = devices[1 - from].bundle(step % 4 < 2);
                devices[from].start(&bundle);
            }
            let message = devices[from].encrypt(b"x", 2, Commit::Done).unwrap();
            if !lost {
                devices[1 - from].decrypt(&message, Commit::Done).unwrap();
            }
            for record in devices.iter().filter_map(Device::record) {
                records(record);
            }
        }
    }

    #[test]
    fn no_bytes_make_reading_a_record_panic(data in prop::collection::vec(any::<u8>(), 0..600)) {
        records(&data);
    }

    #[test]
    fn no_damage_under_a_right_checksum_makes_reading_panic(at: prop::sample::Index, byte: u8, which: prop::sample::Index) {
        let examples = examples();
        let mut record = examples[which.index(examples.len())].1.as_bytes().to_vec();
        let at = at.index(record.len());
        record[at] = byte;
        records(&resealed(record));
    }
}
