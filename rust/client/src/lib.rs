//! The account logic of one connection, sans-IO: stanzas in; stanzas, events and effects as data out.
//!
//! - `client`: the driver's grammar; below it `account` (what stanzas lead to), `linking` (the same for a new device)
//!   and `verdicts` (what is overdue).
//! - `receive`: messages are opened in their order with the records that they need (`record`); `pre_keys` is what others
//!   begin with, `upkeep` keeps that true at the server (`key_check`, `key_state`). [`content`] looks into what was opened.
//! - [`export`], [`restored`]: a session's records for another program, and out of a backup.
//! - `send`: a text goes to all devices of a chat, and to who could not read it once more.
//! - `backlog`, `inbox`, `sends`: what waited at the server, what waits for our store, what waits for the server.
//! - `new_device`, `pairing`: a device that no phone has linked yet, and how one does.
//! - `health`: the verdicts of the probes. They are facts; whether a session is rebuilt is decided elsewhere.
//! - `stanza`: what is read from stanzas and written into them.

mod backlog;
mod client;
mod config;
pub mod content;
mod effect;
pub mod export;
#[doc(hidden)]
pub mod fuzz;
mod health;
mod inbox;
mod key_check;
mod key_state;
#[doc(hidden)]
pub mod memory_store;
mod new_device;
mod pairing;
mod pre_keys;
mod protobuf;
mod receive;
mod record;
pub mod restored;
mod secret;
mod send;
mod sends;
mod stanza;
mod store_state;
mod upkeep;

pub use client::{Client, LOGOUT_TIMEOUT};
pub use config::Config;
pub use effect::{
    Command, CommitFailed, Committed, Content, Cx, DeviceKeys, DeviceState, Effect, Event, LinkedDevice,
    LoadFailed, Me, NoCode, Probe, TransportEnd, Write,
};
pub use new_device::NewDevice;
pub use protobuf::Malformed;
pub use receive::Failure;
pub use record::{RecordBytes, RecordKey, RecordKind, StoredRecord};
pub use secret::{ForEyes, Secret};
pub use send::{MAX_IN_FLIGHT, MAX_MEMBERS, MAX_TEXT, Outgoing, Quoted, Receipt, SendFailure};
pub use store_state::StoreState;
