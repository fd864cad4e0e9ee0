//! A device that writes to a group, and another that reads, over a bad network: any bytes are a sequence of operations.
//!
//! What must hold is what must hold of [`conversation`](super::conversation).

use std::collections::BTreeSet;

use super::device::Steps;
use crate::group::{self, DecryptError, Lease, MAX_KEYS};
use crate::{Record, SenderKeyDistribution, SenderKeyMessage};

/// Messages under way; more are delivered first.
const MAX_IN_FLIGHT: usize = 30;

/// Messages of an older key are delivered at the latest before that key is dropped for newer ones.
const OVERTAKEN_KEYS: u32 = MAX_KEYS as u32;

#[derive(Clone, Debug)]
struct Sent {
    message: Vec<u8>,
    plaintext: Vec<u8>,
    rotation: u32,
}

#[derive(Debug)]
struct Run {
    steps: Steps,
    own: Record,
    lease: Option<Lease>,
    /// The reader's record, and what of it is durable.
    theirs: Option<Record>,
    saved: Option<Record>,
    rotation: u32,
    used: BTreeSet<(u32, u32)>,
    in_flight: Vec<Sent>,
    /// Read, to be answered when the record is durable; until then the server has them still.
    unanswered: Vec<Sent>,
    read: Vec<Sent>,
    sent: u32,
}

/// Carries out the operations in `data`: a kind and an argument, a byte each.
pub fn group_conversation(data: &[u8]) {
    let mut steps = Steps(1);
    let own = group::create(&mut |bytes| steps.fill(bytes));
    let mut run = Run {
        steps,
        own,
        lease: None,
        theirs: None,
        saved: None,
        rotation: 0,
        used: BTreeSet::new(),
        in_flight: Vec::new(),
        unanswered: Vec::new(),
        read: Vec::new(),
        sent: 0,
    };
    run.tell();
    for operation in data.chunks_exact(2) {
        run.step(operation[0], usize::from(operation[1]));
    }
    run.settle();
    while !run.in_flight.is_empty() {
        run.deliver(0, true);
    }
}

impl Run {
    fn step(&mut self, kind: u8, argument: usize) {
        match kind % 16 {
            0..=3 => self.send([1, 1, 2, 16][argument % 4], true),
            4..=8 => self.deliver(argument, true),
            9 => self.deliver(argument, false),
            10 if argument.is_multiple_of(2) => self.send(4, false),
            10 => self.crash(),
            11 => {
                self.in_flight.pop();
            }
            12 => self.deliver_again(argument),
            13 => self.forge(argument),
            14 if argument.is_multiple_of(4) => self.rotate(),
            14 => self.tell(),
            _ => self.lease = None,
        }
    }

    fn tell(&mut self) {
        let told = match &self.lease {
            Some(lease) => lease.distribution(),
            None => group::distribution(self.own.as_bytes()).expect("our own"),
        };
        let told = SenderKeyDistribution::parse(&told).expect("our own");
        let known = self.theirs.as_ref().map(Record::as_bytes);
        if let Some(record) = group::accept(known, &told).expect("as written") {
            self.theirs = Some(record);
        }
        self.settle();
    }

    /// What the reader knows becomes durable, and what it read is answered.
    fn settle(&mut self) {
        self.saved.clone_from(&self.theirs);
        self.read.append(&mut self.unanswered);
    }

    /// The reader dies and starts again; the server gives it once more what it did not answer.
    fn crash(&mut self) {
        self.theirs.clone_from(&self.saved);
        self.in_flight.splice(0..0, std::mem::take(&mut self.unanswered));
    }

    fn rotate(&mut self) {
        self.rotation += 1;
        let newest = self.rotation;
        let is_late = |sent: &Sent| sent.rotation + OVERTAKEN_KEYS <= newest;
        while let Some(at) = self.in_flight.iter().position(is_late) {
            self.deliver(at, true);
        }
        self.own = group::create(&mut |bytes| self.steps.fill(bytes));
        self.lease = None;
        self.tell();
    }

    fn send(&mut self, lease: u32, is_committed: bool) {
        if self.lease.as_ref().is_none_or(|lease| lease.left() == 0) {
            let leased = group::lease(Some(self.own.as_bytes()), lease).expect("our own");
            if !is_committed {
                return;
            }
            self.own = leased.record;
            self.lease = Some(leased.lease);
        }
        let plaintext = self.sent.to_be_bytes().to_vec();
        self.sent += 1;
        let lease = self.lease.as_mut().expect("just taken");
        let message = lease.encrypt(&plaintext, &mut |bytes| self.steps.fill(bytes)).expect("some are left");
        let parsed = SenderKeyMessage::parse(&message).expect("our own");
        assert!(self.used.insert((parsed.key_id, parsed.iteration)), "a message key was used twice");
        self.in_flight.push(Sent { message, plaintext, rotation: self.rotation });
        if self.in_flight.len() > MAX_IN_FLIGHT {
            self.deliver(0, true);
        }
    }

    fn deliver(&mut self, at: usize, is_committed: bool) {
        if self.in_flight.is_empty() {
            return;
        }
        let sent = self.in_flight.remove(at % self.in_flight.len());
        let opened = decrypt(self.theirs.as_ref(), &sent.message).expect("a good message");
        assert_eq!(opened.plaintext, sent.plaintext);
        self.theirs = Some(opened.record);
        self.unanswered.push(sent);
        if is_committed {
            self.settle();
        }
    }

    fn deliver_again(&mut self, at: usize) {
        if let Some(at) = self.read.len().checked_sub(1 + at % 64) {
            let again = decrypt(self.theirs.as_ref(), &self.read[at].message);
            assert!(again.is_err(), "a message was read twice");
        }
    }

    fn forge(&mut self, argument: usize) {
        let Some(sent) = self.in_flight.first() else { return };
        let mut forged = sent.message.clone();
        let bit = argument * 37 % (forged.len() * 8);
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(decrypt(self.theirs.as_ref(), &forged).is_err(), "all of a message is signed");
    }
}

fn decrypt(record: Option<&Record>, message: &[u8]) -> Result<group::Decrypted, DecryptError> {
    group::decrypt(record.map(Record::as_bytes), &SenderKeyMessage::parse(message)?)
}
