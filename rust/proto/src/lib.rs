//! The connection protocol of WhatsApp Web, sans-IO: no sockets, no clock, no threads, no randomness of its own.

pub mod adv;
pub mod answer;
pub mod cert;
pub mod close_reason;
pub mod counters;
pub mod entropy;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod handshake;
pub mod iq;
pub mod jid;
pub mod keepalive;
pub mod link_code;
pub mod node;
pub mod noise;
pub mod payload;
pub mod phase;
pub mod session;
pub mod time;
pub mod token;
mod token_hash;
#[rustfmt::skip]
mod token_table;
pub mod ws;
