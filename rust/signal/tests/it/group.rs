//! What a group can rely on.

use runner_signal::group::{
    self, DecryptError, EncryptError, Leased, MAX_JUMP, MAX_KEYS, MAX_LEASE, MAX_SKIPPED,
};
use runner_signal::wire::MAX_PLAINTEXT;
use runner_signal::{Record, SenderKeyDistribution, SenderKeyMessage, fuzz::Steps};

/// A device that writes, and one that reads.
struct Pair {
    steps: Steps,
    own: Record,
    theirs: Option<Record>,
}

impl Pair {
    fn new() -> Self {
        let mut steps = Steps(5);
        let own = group::create(&mut |bytes| steps.fill(bytes));
        let mut pair = Self { steps, own, theirs: None };
        assert!(pair.tell());
        pair
    }

    /// Whether there was something to commit.
    fn tell(&mut self) -> bool {
        let told = group::distribution(self.own.as_bytes()).unwrap();
        self.accept(&told)
    }

    fn accept(&mut self, told: &[u8]) -> bool {
        let known = self.theirs.as_ref().map(Record::as_bytes);
        let record = group::accept(known, &SenderKeyDistribution::parse(told).unwrap()).unwrap();
        let is_new = record.is_some();
        if is_new {
            self.theirs = record;
        }
        is_new
    }

    fn rotate(&mut self) {
        self.own = group::create(&mut |bytes| self.steps.fill(bytes));
    }

    fn send(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let random = &mut |bytes: &mut [u8]| self.steps.fill(bytes);
        let sent = group::encrypt(Some(self.own.as_bytes()), plaintext, random).unwrap();
        self.own = sent.record;
        sent.message
    }

    fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, DecryptError> {
        let known = self.theirs.as_ref().map(Record::as_bytes);
        let opened = group::decrypt(known, &SenderKeyMessage::parse(message)?)?;
        self.theirs = Some(opened.record);
        Ok(opened.plaintext)
    }
}

fn id(message: &[u8]) -> u32 {
    SenderKeyMessage::parse(message).unwrap().key_id
}

#[test]
fn messages_are_read_in_any_order_and_once() {
    let mut pair = Pair::new();
    let sent: Vec<_> = (0..20).map(|len| pair.send(&vec![7; len])).collect();
    for (len, message) in sent.iter().enumerate().rev() {
        assert_eq!(pair.read(message).unwrap(), vec![7; len]);
    }
    for (iteration, message) in (0..).zip(&sent) {
        assert_eq!(pair.read(message), Err(DecryptError::Duplicate { id: id(message), iteration }));
    }
}

#[test]
fn only_our_own_key_has_an_id_to_write_with_and_each_has_another() {
    let mut pair = Pair::new();
    let first = group::own_key_id(pair.own.as_bytes()).expect("ours");
    let message = pair.send(b"x");
    assert_eq!(id(&message), first);
    assert_eq!(group::own_key_id(pair.own.as_bytes()), Some(first), "writing changes nothing of it");
    let theirs = pair.theirs.as_ref().expect("told");
    assert_eq!(group::own_key_id(theirs.as_bytes()), None, "with it one reads");
    pair.rotate();
    assert_ne!(group::own_key_id(pair.own.as_bytes()), Some(first));
    assert_eq!(group::own_key_id(b"damaged"), None);
}

#[test]
fn who_is_told_later_reads_from_there_on() {
    let mut pair = Pair::new();
    let early = pair.send(b"early");
    pair.theirs = None;
    pair.tell();
    let later = pair.send(b"later");
    assert_eq!(pair.read(&later).unwrap(), b"later");
    assert_eq!(pair.read(&early), Err(DecryptError::Duplicate { id: id(&early), iteration: 0 }));
}

#[test]
fn being_told_again_changes_nothing_and_loses_nothing() {
    let mut pair = Pair::new();
    let sent: Vec<_> = (0..10_u8).map(|n| pair.send(&[n])).collect();
    assert!(!pair.tell(), "nothing to commit");
    for (n, message) in sent.iter().enumerate() {
        assert_eq!(pair.read(message).unwrap(), [n as u8]);
    }
}

#[test]
fn being_told_again_helps_who_is_too_far_behind() {
    let mut pair = Pair::new();
    let overtaken = pair.send(b"overtaken");
    let first = pair.send(b"first");
    pair.read(&first).unwrap();
    for _ in 0..MAX_JUMP {
        pair.send(b"lost");
    }
    let message = pair.send(b"ahead");
    let (id, iteration) = (id(&message), MAX_JUMP + 2);
    pair.read(&message).unwrap();
    for _ in 0..=MAX_JUMP {
        pair.send(b"lost");
    }
    let message = pair.send(b"too far ahead");
    let too_far = DecryptError::TooFarAhead { id, iteration: 2 * iteration, next: iteration + 1 };
    assert_eq!(pair.read(&message), Err(too_far));
    assert!(pair.tell());
    assert!(matches!(pair.read(&message), Err(DecryptError::Duplicate { .. })));
    let after = pair.send(b"after");
    assert_eq!(pair.read(&after).unwrap(), b"after");
    assert!(matches!(pair.read(&overtaken), Err(DecryptError::Duplicate { .. })), "further back than kept");
}

#[test]
fn a_sender_that_begins_its_chain_anew_under_the_same_key_is_followed() {
    let mut pair = Pair::new();
    let lost = pair.own.clone();
    let first = pair.send(b"first");
    pair.read(&first).unwrap();
    // Another chain key at another place, as after a record that was lost.
    let mut told = group::distribution(lost.as_bytes()).unwrap();
    let at = told.windows(4).position(|part| part[..2] == [0x10, 0] && part[2..] == [0x1a, 32]).unwrap();
    (told[at + 1], told[at + 4]) = (9, told[at + 4] ^ 1);
    assert!(pair.accept(&told));
    assert!(!pair.accept(&told), "nothing new");
}

#[test]
fn five_keys_are_kept() {
    let mut pair = Pair::new();
    let mut late = vec![pair.send(b"0")];
    for _ in 0..MAX_KEYS {
        pair.rotate();
        pair.tell();
        late.push(pair.send(b"late"));
    }
    assert_eq!(pair.read(&late[0]), Err(DecryptError::NoSenderKey { id: id(&late[0]) }));
    for message in &late[1..] {
        assert_eq!(pair.read(message).unwrap(), b"late");
    }
}

#[test]
fn an_unknown_key_is_named() {
    let mut pair = Pair::new();
    pair.rotate();
    let message = pair.send(b"x");
    assert_eq!(pair.read(&message), Err(DecryptError::NoSenderKey { id: id(&message) }));
    pair.theirs = None;
    assert_eq!(pair.read(&message), Err(DecryptError::NoSenderKey { id: id(&message) }));
}

#[test]
fn a_key_that_comes_back_under_its_id_with_another_signature_takes_the_place() {
    let mut pair = Pair::new();
    let mut told = group::distribution(pair.own.as_bytes()).unwrap();
    let before = pair.send(b"before");
    let last = told.len() - 1;
    told[last] ^= 1;
    let len = |pair: &Pair| pair.theirs.as_ref().unwrap().as_bytes().len();
    let one_key = len(&pair);
    assert!(pair.accept(&told));
    assert_eq!(len(&pair), one_key);
    assert_eq!(pair.read(&before), Err(DecryptError::BadSignature));
}

#[test]
fn keys_of_messages_that_do_not_come_are_bounded() {
    let mut pair = Pair::new();
    let mut gone = Vec::new();
    for _ in 0..3 {
        let sent: Vec<_> = (0..900).map(|_| pair.send(b"x")).collect();
        pair.read(&sent[899]).unwrap();
        gone.extend(sent.into_iter().take(899));
        pair.rotate();
        pair.tell();
    }
    let dropped = gone.len() - MAX_SKIPPED;
    assert!(matches!(pair.read(&gone[dropped - 1]), Err(DecryptError::Duplicate { .. })));
    pair.read(&gone[dropped]).unwrap();
}

#[test]
fn a_sender_that_uses_every_other_number_costs_half_the_limit() {
    let mut pair = Pair::new();
    for _ in 0..MAX_JUMP / 2 + 50 {
        let Leased { record, mut lease } = group::lease(Some(pair.own.as_bytes()), 2).unwrap();
        pair.own = record;
        let message = lease.encrypt(b"x", &mut |bytes| pair.steps.fill(bytes)).unwrap();
        pair.read(&message).unwrap();
    }
    let kept = pair.theirs.unwrap().as_bytes().len();
    assert!((36_000..36_300).contains(&kept), "{kept} bytes");
}

#[test]
fn a_lease_gives_as_many_messages_as_it_says_and_a_crash_uses_none_twice() {
    let mut pair = Pair::new();
    let Leased { record, mut lease } = group::lease(Some(pair.own.as_bytes()), 3).unwrap();
    pair.own = record;
    let told = lease.distribution();
    for n in 0..3 {
        assert_eq!(lease.left(), 3 - n);
        let message = lease.encrypt(b"leased", &mut |bytes| pair.steps.fill(bytes)).unwrap();
        assert_eq!(SenderKeyMessage::parse(&message).unwrap().iteration, n);
        assert_eq!(pair.read(&message).unwrap(), b"leased");
    }
    let spent = lease.encrypt(b"x", &mut |bytes| pair.steps.fill(bytes));
    assert_eq!(spent, Err(EncryptError::Spent));
    let after = pair.send(b"after");
    assert_eq!(SenderKeyMessage::parse(&after).unwrap().iteration, 3);
    // Told by the block, a member reads the block; told by the record, only what comes after it.
    assert_eq!(SenderKeyDistribution::parse(&told).unwrap().iteration, 0);
    assert_eq!(group::lease(Some(pair.own.as_bytes()), u32::MAX).unwrap().lease.left(), MAX_LEASE);
}

#[test]
fn only_an_own_key_writes() {
    let mut pair = Pair::new();
    let theirs = pair.theirs.take().unwrap();
    let random = &mut |bytes: &mut [u8]| bytes.fill(1);
    for record in [None, Some(theirs.as_bytes())] {
        assert_eq!(group::encrypt(record, b"x", random).unwrap_err(), EncryptError::NoSenderKey);
    }
    assert_eq!(group::distribution(theirs.as_bytes()), Err(EncryptError::NoSenderKey));
    let long = vec![0; MAX_PLAINTEXT + 1];
    let error = group::encrypt(Some(pair.own.as_bytes()), &long, random).unwrap_err();
    assert_eq!(error, EncryptError::TooLong { len: long.len() });
}

#[test]
fn every_bit_of_a_message_is_signed() {
    let mut pair = Pair::new();
    let message = pair.send(b"signed");
    for bit in 0..message.len() * 8 {
        let mut forged = message.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(pair.read(&forged).is_err(), "bit {bit}");
    }
    for len in 0..message.len() {
        assert!(pair.read(&message[..len]).is_err(), "{len} bytes");
    }
    assert_eq!(pair.read(&message).unwrap(), b"signed");
}

#[test]
fn what_is_printed_of_a_key_holds_no_secret() {
    let pair = Pair::new();
    let told = group::distribution(pair.own.as_bytes()).unwrap();
    let printed = format!("{:?}", SenderKeyDistribution::parse(&told).unwrap());
    assert!(!printed.contains("chain_key"), "{printed}");
}
