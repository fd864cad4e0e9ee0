//! The connection protocol of WhatsApp Web, sans-IO: no sockets, no clock, no threads, no randomness of its own.

pub mod close_reason;
pub mod counters;
pub mod entropy;
pub mod keepalive;
pub mod phase;
pub mod time;
