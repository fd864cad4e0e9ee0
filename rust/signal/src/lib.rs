//! End-to-end encryption as WhatsApp uses it: X3DH, the Double Ratchet and sender keys, as pure functions over byte
//! records. No clock, no threads, no I/O, no randomness of its own, and nothing is kept between two calls.
//!
//! README.md beside this crate is the guide for its user: which records to load for which stanza, and what must be
//! committed before what may leave. In short:
//!
//! | to do | call | load before | commit after |
//! | --- | --- | --- | --- |
//! | read a `pkmsg` | [`PreKeySignalMessage::parse`], [`session::decrypt_pre_key`] | session, the two pre-keys that it names | session; delete the used pre-key |
//! | read a `msg` | [`SignalMessage::parse`], [`session::decrypt`] | session | session |
//! | first contact | [`session::start`] | session | session |
//! | write to a device | [`session::encrypt`], or [`session::lease`] once and [`session::Lease::encrypt`] often | session | session, **before** a message leaves |
//! | learn a sender key | [`group::accept`] | sender key | sender key |
//! | read a `skmsg` | [`SenderKeyMessage::parse`], [`group::decrypt`] | sender key | sender key |
//! | write to a group | [`group::encrypt`], or [`group::lease`] once and [`group::Lease::encrypt`] often | own sender key | own sender key, **before** a message leaves |
//!
//! A function that fails has changed nothing: the record that the caller holds stays the valid one.
//!
//! Written from the public specifications (X3DH, Double Ratchet, XEdDSA, RFC 7748, RFC 5869, RFC 2104) and from
//! docs/protocol.md, "Signal"; see docs/decisions/0013-signal-clean-room.md.

pub mod baileys;
mod chain;
mod cipher;
#[doc(hidden)]
pub mod fuzz;
pub mod group;
pub mod identity;
mod kdf;
mod key;
pub mod pre_key;
mod record;
pub mod session;
pub mod wire;
mod x3dh;

pub use identity::Identity;
pub use key::{KeyPair, PublicKey};
pub use pre_key::{Bundle, BundleError, PreKey, SignedPreKey};
pub use record::{Kind, Record, RecordError};
pub use wire::{PreKeySignalMessage, SenderKeyDistribution, SenderKeyMessage, SignalMessage, WireError};

/// A source of random bytes fit for keys: overwrites all that it is given.
///
/// A caller with another kind of source passes `&mut |bytes| source.fill(bytes)`.
pub type Random<'a> = dyn FnMut(&mut [u8]) + 'a;
