//! Two devices over a bad network: any bytes are a sequence of operations.
//!
//! What must hold: a message that arrives is read and comes out as it went in; it is read once; a forged one is not read
//! as something else; no message key is used twice by a sender, whatever crashes and whichever commits fail.

use std::collections::BTreeSet;

use super::device::{Commit, Device, place};
use crate::PublicKey;
use crate::session::{Ciphertext, MAX_RECEIVING};

/// Messages under way in one direction; more are delivered first.
const MAX_IN_FLIGHT: usize = 30;

/// Sessions that are begun in one run: fewer than are kept.
const MAX_STARTS: usize = 30;

/// A message is delivered at the latest before its chain is dropped for newer ones of its sender.
const OVERTAKEN_TURNS: usize = MAX_RECEIVING;

#[derive(Clone, Debug)]
struct Sent {
    message: Ciphertext,
    plaintext: Vec<u8>,
    ratchet_key: PublicKey,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// Encrypted, to leave when their record is durable.
    unsent: Vec<Sent>,
    in_flight: Vec<Sent>,
    /// Read, to be answered when their record is durable; until then the server has them still.
    unanswered: Vec<Sent>,
    /// Read and answered.
    read: Vec<Sent>,
    /// Ratchet keys in the order in which they came.
    opened: Vec<PublicKey>,
    /// Of all messages that left.
    used: BTreeSet<(PublicKey, u32)>,
}

#[derive(Debug)]
struct Run {
    devices: [Device; 2],
    /// From the device of that place to the other.
    ways: [Way; 2],
    starts: usize,
    sent: u32,
}

/// Carries out the operations in `data`: a kind and an argument, a byte each.
pub fn conversation(data: &[u8]) {
    let mut run = Run {
        devices: [Device::new(1), Device::new(2)],
        ways: [Way::default(), Way::default()],
        starts: 0,
        sent: 0,
    };
    for operation in data.chunks_exact(2) {
        let (kind, argument) = (operation[0], usize::from(operation[1]));
        run.step(kind, argument % 2, argument / 2);
    }
    for from in [0, 1] {
        run.settle(from);
    }
    for from in [0, 1] {
        while !run.ways[from].in_flight.is_empty() {
            run.deliver(from, 0, Commit::Done);
        }
    }
}

impl Run {
    fn step(&mut self, kind: u8, from: usize, argument: usize) {
        match kind % 16 {
            0..=2 => self.send(from, [1, 1, 2, 16][argument % 4], Commit::Done),
            3 => self.send(from, 1, Commit::Later),
            4..=7 => self.deliver(from, argument, Commit::Done),
            8 | 9 => self.deliver(from, argument, Commit::Later),
            10 => self.settle(from),
            11 => {
                self.ways[from].in_flight.pop();
            }
            12 => self.deliver_again(from, argument),
            13 => self.forge(from, argument),
            14 => self.crash(from),
            _ => self.start(from, argument),
        }
    }

    /// What the device knows becomes durable: its messages leave, and what it read is answered.
    fn settle(&mut self, device: usize) {
        self.devices[device].save();
        let sent = std::mem::take(&mut self.ways[device].unsent);
        for sent in sent {
            self.leave(device, sent);
        }
        let way = &mut self.ways[1 - device];
        way.read.append(&mut way.unanswered);
    }

    /// The device dies and starts again; the server gives it once more what it did not answer.
    fn crash(&mut self, device: usize) {
        self.devices[device].crash();
        self.ways[device].unsent.clear();
        let way = &mut self.ways[1 - device];
        let again = std::mem::take(&mut way.unanswered);
        way.in_flight.splice(0..0, again);
    }

    fn start(&mut self, from: usize, argument: usize) {
        if self.starts < MAX_STARTS {
            self.starts += 1;
            let bundle = self.devices[1 - from].bundle(argument.is_multiple_of(2));
            self.devices[from].start(&bundle);
            self.settle(from);
        }
    }

    fn send(&mut self, from: usize, lease: u32, commit: Commit) {
        if self.devices[from].session.is_none() {
            self.start(from, 0);
        }
        let plaintext = self.sent.to_be_bytes().to_vec();
        let is_leased = self.devices[from].lease.as_ref().is_some_and(|lease| lease.left() > 0);
        let Some(message) = self.devices[from].encrypt(&plaintext, lease, commit) else { return };
        self.sent += 1;
        let (ratchet_key, _) = place(&message);
        let sent = Sent { message, plaintext, ratchet_key };
        if is_leased {
            return self.leave(from, sent);
        }
        self.ways[from].unsent.push(sent);
        if commit == Commit::Done {
            self.settle(from);
        }
    }

    fn leave(&mut self, from: usize, sent: Sent) {
        let way = &mut self.ways[from];
        assert!(way.used.insert(place(&sent.message)), "a message key was used twice");
        way.in_flight.push(sent);
        if way.in_flight.len() > MAX_IN_FLIGHT {
            self.deliver(from, 0, Commit::Done);
        }
    }

    fn deliver(&mut self, from: usize, at: usize, commit: Commit) {
        let way = &mut self.ways[from];
        if way.in_flight.is_empty() {
            return;
        }
        let at = at % way.in_flight.len();
        let sent = way.in_flight[at].clone();
        if !way.opened.contains(&sent.ratchet_key) {
            let old = (way.opened.len() + 1).saturating_sub(OVERTAKEN_TURNS);
            let old = way.opened[..old].to_vec();
            if let Some(late) = way.in_flight.iter().position(|sent| old.contains(&sent.ratchet_key)) {
                return self.deliver(from, late, Commit::Done);
            }
        }
        let plaintext = self.devices[1 - from].decrypt(&sent.message, commit);
        assert_eq!(plaintext.as_ref(), Ok(&sent.plaintext));
        self.note_read(from, at);
        if commit == Commit::Done {
            self.settle(1 - from);
        }
    }

    fn note_read(&mut self, from: usize, at: usize) {
        let way = &mut self.ways[from];
        let sent = way.in_flight.remove(at);
        if !way.opened.contains(&sent.ratchet_key) {
            way.opened.push(sent.ratchet_key);
        }
        way.unanswered.push(sent);
    }

    fn deliver_again(&mut self, from: usize, at: usize) {
        let read = &self.ways[from].read;
        if let Some(sent) = read.len().checked_sub(1 + at % 64).map(|at| read[at].clone()) {
            let before = self.devices[1 - from].session.clone();
            assert!(self.devices[1 - from].decrypt(&sent.message, Commit::Done).is_err(), "read twice");
            assert_eq!(self.devices[1 - from].session, before);
        }
    }

    /// Damages one bit of a message under way. What is not authenticated may be damaged and the message be read.
    fn forge(&mut self, from: usize, argument: usize) {
        let Some(sent) = self.ways[from].in_flight.first().cloned() else { return };
        let mut forged = sent.message.clone();
        let bit = argument * 37 % (forged.bytes.len() * 8);
        forged.bytes[bit / 8] ^= 1 << (bit % 8);
        let before = self.devices[1 - from].session.clone();
        match self.devices[1 - from].decrypt(&forged, Commit::Done) {
            Ok(plaintext) => {
                assert_eq!(plaintext, sent.plaintext);
                self.note_read(from, 0);
                self.settle(1 - from);
            }
            Err(_) => assert_eq!(self.devices[1 - from].session, before),
        }
    }
}
