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
    in_flight: Vec<Sent>,
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
        while !run.ways[from].in_flight.is_empty() {
            run.deliver(from, 0, Commit::Done);
        }
    }
}

impl Run {
    fn step(&mut self, kind: u8, from: usize, argument: usize) {
        match kind % 16 {
            0..=3 => self.send(from, [1, 1, 2, 16][argument % 4], Commit::Done),
            4..=8 => self.deliver(from, argument, Commit::Done),
            9 => self.deliver(from, argument, Commit::Failed),
            10 => self.send(from, 4, Commit::Failed),
            11 => {
                self.ways[from].in_flight.pop();
            }
            12 => self.deliver_again(from, argument),
            13 => self.forge(from, argument),
            14 => self.devices[from].lease = None,
            _ => self.start(from, argument),
        }
    }

    fn start(&mut self, from: usize, argument: usize) {
        if self.starts < MAX_STARTS {
            self.starts += 1;
            let bundle = self.devices[1 - from].bundle(argument.is_multiple_of(2));
            self.devices[from].start(&bundle);
        }
    }

    fn send(&mut self, from: usize, lease: u32, commit: Commit) {
        if self.devices[from].session.is_none() {
            self.start(from, 0);
        }
        let plaintext = self.sent.to_be_bytes().to_vec();
        let Some(message) = self.devices[from].encrypt(&plaintext, lease, commit) else { return };
        self.sent += 1;
        let (ratchet_key, counter) = place(&message);
        let way = &mut self.ways[from];
        assert!(way.used.insert((ratchet_key, counter)), "a message key was used twice");
        way.in_flight.push(Sent { message, plaintext, ratchet_key });
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
        if commit == Commit::Done {
            self.note_read(from, at);
        }
    }

    fn note_read(&mut self, from: usize, at: usize) {
        let way = &mut self.ways[from];
        let sent = way.in_flight.remove(at);
        if !way.opened.contains(&sent.ratchet_key) {
            way.opened.push(sent.ratchet_key);
        }
        way.read.push(sent);
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
            }
            Err(_) => assert_eq!(self.devices[1 - from].session, before),
        }
    }
}
