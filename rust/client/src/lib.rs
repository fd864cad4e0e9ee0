//! The account logic of one connection, sans-IO: stanzas in; stanzas, events and effects as data out.

mod client;
mod config;
mod effect;

pub use client::Client;
pub use config::Config;
pub use effect::{Command, CommitFailed, Cx, DeviceState, Effect, Event, Probe, TransportEnd, Write};
