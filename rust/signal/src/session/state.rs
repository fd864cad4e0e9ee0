//! One session: the Double Ratchet (Double Ratchet, revision 1, §3).
//!
//! The ratchet turns in two halves. Receiving a new ratchet key of the peer makes a receiving chain and leaves
//! [`Sending::Step`]: our own new key is made when there is something to send (the specification's "deferring new
//! ratchet key generation", §6.5). So decrypting takes no randomness, and a key lives no longer than it must. On the
//! wire this cannot be told from a ratchet that turns at once.
//!
//! A receiving chain stays open after the peer has gone on to its next, until [`MAX_RECEIVING`] newer ones have come;
//! messages that were under way are read by it. The header's `previous_counter`, by which the specification closes a
//! chain early, is written for peers that do so and not needed here.

use super::{CurrentSession, DecryptError, MAX_RECEIVING};
use crate::chain::{Found, NotFound, Receiving};
use crate::kdf::{self, ChainKey, MessageKeys};
use crate::key::Secret;
use crate::wire::PreKeyHeader;
use crate::x3dh::{self, Agreed};
use crate::{
    Bundle, Identity, KeyPair, PreKeySignalMessage, PublicKey, Random, SignalMessage, SignedPreKey, cipher,
};

/// How we send.
#[derive(Clone, Debug)]
pub(crate) enum Sending {
    /// With this ratchet key, by this chain.
    Chain { ratchet: KeyPair, chain: ChainKey },
    /// With a ratchet key that is to be made first: the peer's is newer than ours.
    Step,
}

/// One session with a device.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) remote_identity: PublicKey,
    pub(crate) remote_registration_id: u32,
    /// The initiator's ephemeral key of X3DH; names the session.
    pub(crate) base_key: PublicKey,
    /// Whether the initiator is us.
    pub(crate) is_initiator: bool,
    /// May have been sent with after this record was written: never send with it again.
    pub(crate) is_retired: bool,
    pub(crate) root: Secret,
    /// The peer's newest ratchet key.
    pub(crate) remote_ratchet: PublicKey,
    pub(crate) sending: Sending,
    /// The number of the last message of our sending chain before the present one; 0 also when there was none.
    pub(crate) previous_counter: u32,
    /// Goes with every message until the peer has answered.
    pub(crate) pending: Option<PreKeyHeader>,
    /// By the peer's ratchet keys, oldest first; at most `MAX_RECEIVING`.
    pub(crate) receiving: Vec<(PublicKey, Receiving)>,
}

/// Why a state does not open a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOpened {
    /// The message is of a chain of this state, so no other needs to be tried.
    Ours(DecryptError),
    /// The ratchet key is new, and what follows from it does not fit.
    NotOurs(DecryptError),
}

/// A chain that opens a message, and what becomes of the state with it.
enum Change {
    /// A chain that the state has, at this place.
    Known(usize),
    /// A new ratchet key of the peer.
    Turn { root: Secret, chain: Receiving },
}

impl State {
    /// The initiator's side of a new session. `None`: a key of the bundle is of small order.
    pub(crate) fn initiate(own: &Identity, bundle: &Bundle, random: &mut Random<'_>) -> Option<Self> {
        let base = KeyPair::generate(random);
        let agreed = x3dh::initiate(own, &base, bundle)?;
        let ratchet = KeyPair::generate(random);
        let (root, chain) = kdf::ratchet(&agreed.root, &ratchet.secret().agree(&bundle.signed_pre_key)?);
        Some(Self {
            remote_identity: bundle.identity,
            remote_registration_id: bundle.registration_id,
            base_key: *base.public(),
            is_initiator: true,
            is_retired: false,
            root,
            remote_ratchet: bundle.signed_pre_key,
            sending: Sending::Chain { ratchet, chain },
            previous_counter: 0,
            pending: Some(PreKeyHeader {
                pre_key_id: bundle.pre_key.map(|(id, _)| id),
                signed_pre_key_id: bundle.signed_pre_key_id,
            }),
            receiving: Vec::new(),
        })
    }

    /// The responder's side, before it has opened the message. `None`: a key of the message is of small order.
    pub(crate) fn respond(
        own: &Identity,
        signed: &SignedPreKey,
        one_time: Option<&KeyPair>,
        message: &PreKeySignalMessage<'_>,
    ) -> Option<Self> {
        let Agreed { root, chain } = x3dh::respond(own, signed, one_time, message)?;
        Some(Self {
            remote_identity: message.identity,
            remote_registration_id: message.registration_id,
            base_key: message.base_key,
            is_initiator: false,
            is_retired: false,
            root,
            remote_ratchet: message.base_key,
            sending: Sending::Chain { ratchet: signed.pair.clone(), chain },
            previous_counter: 0,
            pending: None,
            receiving: Vec::new(),
        })
    }

    /// Whether it has a receiving chain of this ratchet key.
    pub(crate) fn knows(&self, key: &PublicKey) -> bool {
        self.receiving.iter().any(|(known, _)| known == key)
    }

    /// Decrypts a message; the state changes only if that succeeds.
    pub(crate) fn open(
        &mut self,
        own: &Identity,
        message: &SignalMessage<'_>,
        work: &mut u32,
    ) -> Result<Vec<u8>, NotOpened> {
        let known = self.receiving.iter().position(|(key, _)| *key == message.ratchet_key);
        let err = |error| if known.is_some() { NotOpened::Ours(error) } else { NotOpened::NotOurs(error) };
        let (change, found) = match known {
            Some(at) => (Change::Known(at), self.receiving[at].1.find(message.counter, work)),
            None => {
                let (root, chain) = self.turn(&message.ratchet_key).map_err(err)?;
                let chain = Receiving::new(chain);
                let found = chain.find(message.counter, work);
                (Change::Turn { root, chain }, found)
            }
        };
        let found = found.map_err(|not_found| {
            err(match not_found {
                NotFound::Used => DecryptError::Duplicate { counter: message.counter },
                NotFound::TooFarAhead { next } => {
                    DecryptError::TooFarAhead { counter: message.counter, next }
                }
            })
        })?;

        let keys = MessageKeys::from_seed(&found.seed());
        let mac = cipher::mac(&keys.mac, &self.remote_identity, own.public(), message.authenticated);
        if !cipher::is_same_mac(&mac, &message.mac) {
            return Err(err(DecryptError::BadMac));
        }
        let plaintext = cipher::open(&keys.cipher, &keys.iv, message.ciphertext)
            .ok_or(NotOpened::Ours(DecryptError::Padding))?;
        self.apply(change, found, message)?;
        Ok(plaintext)
    }

    /// The receiving half of a turn of the ratchet: the root and the chain that follow from the peer's new key.
    fn turn(&self, key: &PublicKey) -> Result<(Secret, ChainKey), DecryptError> {
        // The peer turns only after a new key of ours, and has had none since its last.
        let Sending::Chain { ratchet, .. } = &self.sending else { return Err(DecryptError::BadMac) };
        let agreement = ratchet.secret().agree(key).ok_or(DecryptError::WeakKey)?;
        Ok(kdf::ratchet(&self.root, &agreement))
    }

    /// Takes over what was proved.
    fn apply(&mut self, change: Change, found: Found, message: &SignalMessage<'_>) -> Result<(), NotOpened> {
        let end = |next| NotOpened::Ours(DecryptError::TooFarAhead { counter: message.counter, next });
        match change {
            Change::Known(at) => {
                let chain = &mut self.receiving[at].1;
                let next = chain.next;
                if !chain.take(found) {
                    return Err(end(next));
                }
            }
            Change::Turn { root, mut chain } => {
                let next = chain.next;
                if !chain.take(found) {
                    return Err(end(next));
                }
                if let Sending::Chain { chain, .. } = &self.sending {
                    self.previous_counter = chain.index.saturating_sub(1);
                }
                self.root = root;
                self.remote_ratchet = message.ratchet_key;
                self.sending = Sending::Step;
                if self.receiving.len() == MAX_RECEIVING {
                    self.receiving.remove(0);
                }
                self.receiving.push((message.ratchet_key, chain));
            }
        }
        self.pending = None;
        Ok(())
    }

    /// The sending half of a turn of the ratchet, if it is due. `None`: the peer's key is of small order, which no key
    /// that a message was opened by is.
    pub(crate) fn step(&mut self, random: &mut Random<'_>) -> Option<()> {
        if matches!(self.sending, Sending::Step) {
            let ratchet = KeyPair::generate(random);
            let (root, chain) = kdf::ratchet(&self.root, &ratchet.secret().agree(&self.remote_ratchet)?);
            self.root = root;
            self.sending = Sending::Chain { ratchet, chain };
        }
        Some(())
    }

    /// The key and the chain to send with, made first if need be. `None`: the session may not or cannot send.
    pub(crate) fn sending(&mut self, random: &mut Random<'_>) -> Option<(&KeyPair, &mut ChainKey)> {
        if self.is_retired {
            return None;
        }
        self.step(random)?;
        match &mut self.sending {
            Sending::Chain { ratchet, chain } => Some((ratchet, chain)),
            Sending::Step => None,
        }
    }

    /// Seeds of messages that have not come.
    pub(crate) fn skipped(&self) -> usize {
        self.receiving.iter().map(|(_, chain)| chain.skipped.len()).sum()
    }

    /// Drops up to `excess` of them, oldest first; returns how many are still to be dropped elsewhere.
    pub(crate) fn drop_oldest(&mut self, excess: usize) -> usize {
        self.receiving.iter_mut().fold(excess, |excess, (_, chain)| chain.drop_oldest(excess))
    }

    pub(crate) const fn summary(&self) -> CurrentSession {
        CurrentSession {
            remote_identity: self.remote_identity,
            remote_registration_id: self.remote_registration_id,
            base_key: self.base_key,
            is_pending: self.pending.is_some(),
        }
    }
}
